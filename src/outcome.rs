//! Outcomes of sessions, told from the number of writes and the size of the
//! last payload: payloads are encrypted.

use crate::protocol::Protocol;
use crate::session::Session;

/// The outcome of a session that has ended.
///
/// Whether it was deleted or expired does not tell: matrix-rust-sdk never
/// deletes, so its successes expire, and matrix-js-sdk deletes cancelled
/// sign-ins too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sign-in got to its end.
    Completed,
    /// A second device joined, but the sign-in did not get to its end.
    Aborted(Stage),
    /// No second device came.
    NeverJoined,
    /// A newer session pushed it out, at any stage.
    Evicted,
    /// It was no sign-in, but a check by the operator.
    Check,
}

/// How far the devices of a sign-in got that did not get to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not to the check code: given up, or the code was scanned by something
    /// else.
    BeforeCheckCode,
    /// To the check code: it was wrong, or nobody confirmed it.
    CheckCode,
    /// Past it: declined, given up, or refused by the homeserver.
    AfterCheckCode,
}

impl Stage {
    /// Its name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeCheckCode => "before_check_code",
            Self::CheckCode => "check_code",
            Self::AfterCheckCode => "after_check_code",
        }
    }

    /// The stage after so many writes. MSC4108 and MSC4388 show the check code
    /// after two, MSC3886 after one. The third write comes before the code is
    /// confirmed, or says that it was wrong.
    fn after(protocol: Protocol, writes: u8) -> Self {
        let code_shown = match protocol {
            Protocol::Msc3886 => 1,
            Protocol::Msc4108 | Protocol::Msc4388 => 2,
        };
        match writes {
            4.. => Self::AfterCheckCode,
            _ if writes >= code_shown => Self::CheckCode,
            _ => Self::BeforeCheckCode,
        }
    }
}

/// How the messages of checks begin: those of the check page, and of an
/// operator's own programs. Clients' messages are encrypted, so none begins so
/// by chance; and whoever wants to be counted as a check is counted there.
const CHECKS: [[u8; 29]; 2] = [
    *b"Message one of the check page",
    *b"Message two of the check page",
];

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Completed,
        Self::Aborted(Stage::BeforeCheckCode),
        Self::Aborted(Stage::CheckCode),
        Self::Aborted(Stage::AfterCheckCode),
        Self::NeverJoined,
        Self::Evicted,
        Self::Check,
    ];

    /// Those of sign-ins that a second device joined and that stopped then.
    pub const ABORTED: [Self; 3] = [
        Self::Aborted(Stage::BeforeCheckCode),
        Self::Aborted(Stage::CheckCode),
        Self::Aborted(Stage::AfterCheckCode),
    ];

    /// Its name in the metrics and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted(_) => "aborted",
            Self::NeverJoined => "never_joined",
            Self::Evicted => "evicted",
            Self::Check => "check",
        }
    }

    /// How far the devices got, if that is what it tells.
    #[must_use]
    pub fn stage(self) -> Option<Stage> {
        match self {
            Self::Aborted(stage) => Some(stage),
            _ => None,
        }
    }

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize {
        match self {
            Self::Completed => 0,
            Self::Aborted(stage) => 1 + stage as usize,
            Self::NeverJoined => 4,
            Self::Evicted => 5,
            Self::Check => 6,
        }
    }

    /// The outcome of a session that was not evicted.
    ///
    /// The store does not know who writes, but the first write after the
    /// creation is the second device's, so any write means that it joined. In
    /// a session with ETags, so does a fetch of the first payload: the device
    /// that created the session has the ETag, polls with `If-None-Match` and
    /// gets 304. In MSC4388 its polls have no condition and get 200 like the
    /// other device's, so reads tell nothing there.
    pub(crate) fn of_session(session: &Session) -> Self {
        let first = session.content.first();
        if first.is_some_and(|first| CHECKS.contains(&first)) {
            return Self::Check;
        }
        let (writes, bytes) = completion_threshold(session.protocol);
        let joined = match session.protocol {
            Protocol::Msc3886 | Protocol::Msc4108 => session.first_fetched || session.writes > 0,
            Protocol::Msc4388 => session.writes > 0,
        };
        if session.writes >= writes && session.content.len() >= bytes {
            Self::Completed
        } else if joined {
            Self::Aborted(Stage::after(session.protocol, session.writes))
        } else {
            Self::NeverJoined
        }
    }
}

/// The fewest writes after the creation, and the fewest bytes of the last one,
/// of a sign-in that got to its end.
///
/// MSC4108, as matrix-rust-sdk speaks it, in bytes: login initiate 104, login
/// ok 52, protocols 168 (only if the new device shows the code), protocol 388,
/// accepted 70, success 56, secrets 515 or, without a key backup, 332. A
/// refusal (declined 58, failure some 100) takes the place of any of them.
///
/// MSC4388 opens with an empty `POST` and the two messages of its section
/// "Establishment". What follows is MSC4108's (in its text of 2025, as in
/// `MSC4108v2025SignInWithQR` of matrix-js-sdk), sealed by the same cipher
/// and in base64 too: as many writes, and secrets of the same size.
///
/// MSC3886 carried MSC3906 over the channel of MSC3903, as in
/// `MSC3906Rendezvous` and `MSC3903ECDHv2RendezvousChannel` of matrix-js-sdk
/// 34 and in `Rendezvous.kt` of Element Android: key 122, protocols 188,
/// protocol 184, login token some 280, success 264, verified 368 or, for an
/// account without cross-signing, 290. Refusals have 150 to 170; one may come
/// seventh, when the keys do not match. Without the sixth the new device is
/// signed in but not verified.
fn completion_threshold(protocol: Protocol) -> (u8, usize) {
    match protocol {
        Protocol::Msc3886 => (6, 200),
        Protocol::Msc4108 | Protocol::Msc4388 => (6, 300),
    }
}

/// Sessions that have ended, counted by protocol and outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes([[u64; Outcome::ALL.len()]; Protocol::ALL.len()]);

impl Outcomes {
    pub(crate) fn count(&mut self, protocol: Protocol, outcome: Outcome) {
        self.0[protocol as usize][outcome.index()] += 1;
    }

    /// Those of a protocol that ended so.
    #[must_use]
    pub fn of(&self, protocol: Protocol, outcome: Outcome) -> u64 {
        self.0[protocol as usize][outcome.index()]
    }

    /// Those of all protocols that ended so.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        let all = Protocol::ALL.into_iter();
        all.map(|protocol| self.of(protocol, outcome)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::session::{Content, Revision};

    const START: Timestamp = Timestamp {
        monotonic_ms: 0,
        unix_ms: 0,
    };

    /// What a session ends as that was written to with payloads of these
    /// sizes after its creation.
    fn outcome(protocol: Protocol, fetched: bool, sizes: &[usize]) -> Outcome {
        let content = |size| Content::new(&vec![b'x'; size], "text/plain").unwrap();
        let lifetime = Duration::from_secs(300);
        let first = Revision::new(0);
        let mut session = Session::new(content(0), first, protocol, lifetime, START);
        if fetched {
            session.first_fetched = true;
        }
        for size in sizes {
            drop(session.replace(content(*size), START));
        }
        Outcome::of_session(&session)
    }

    const SIGN_IN: [Protocol; 2] = [Protocol::Msc4108, Protocol::Msc4388];

    /// New device showing the code, existing device showing it.
    const SHOWN_BY: [&[usize]; 2] = [&[104, 52, 168, 388, 70, 56], &[104, 52, 388, 70, 56]];

    #[test]
    fn msc4108_msc4388_a_sign_in_is_completed_by_its_secrets() {
        for protocol in SIGN_IN {
            for before in SHOWN_BY {
                for secrets in [332, 515] {
                    let all = [before, &[secrets]].concat();
                    assert_eq!(outcome(protocol, true, &all), Outcome::Completed);
                }
            }
        }
    }

    /// Checks that a session with these payloads is aborted at the stage to
    /// which so many writes lead.
    #[track_caller]
    fn assert_aborted(protocol: Protocol, sizes: &[usize]) {
        let code_shown = if protocol == Protocol::Msc3886 { 1 } else { 2 };
        let stage = match sizes.len() {
            4.. => Stage::AfterCheckCode,
            writes if writes < code_shown => Stage::BeforeCheckCode,
            _ => Stage::CheckCode,
        };
        assert_eq!(outcome(protocol, true, sizes), Outcome::Aborted(stage));
    }

    #[test]
    fn msc4108_msc4388_a_sign_in_is_aborted_at_every_stage_before() {
        for protocol in SIGN_IN {
            for before in SHOWN_BY {
                for stage in 1..=before.len() {
                    let (given_up, _) = before.split_at(stage);
                    assert_aborted(protocol, given_up);
                    for rejection in [58, 106] {
                        assert_aborted(protocol, &[given_up, &[rejection]].concat());
                    }
                }
            }
        }
    }

    #[test]
    fn msc3886_a_sign_in_is_completed_by_the_verification() {
        let before = [122, 188, 184, 282, 264];
        for verified in [290, 368] {
            let all = [&before[..], &[verified]].concat();
            assert_eq!(outcome(Protocol::Msc3886, true, &all), Outcome::Completed);
            assert_aborted(Protocol::Msc3886, &[&all[..], &[166]].concat());
        }
        for stage in 1..=before.len() {
            let (given_up, _) = before.split_at(stage);
            assert_aborted(Protocol::Msc3886, given_up);
            assert_aborted(Protocol::Msc3886, &[given_up, &[151]].concat());
        }
    }

    #[test]
    fn a_session_is_joined_by_a_write_or_by_a_fetch_where_that_tells() {
        for protocol in Protocol::ALL {
            assert_eq!(outcome(protocol, false, &[]), Outcome::NeverJoined);
            let stage = Stage::after(protocol, 1);
            assert_eq!(outcome(protocol, false, &[104]), Outcome::Aborted(stage));
        }
        let scanned = Outcome::Aborted(Stage::BeforeCheckCode);
        for (protocol, fetched) in [
            (Protocol::Msc3886, scanned),
            (Protocol::Msc4108, scanned),
            (Protocol::Msc4388, Outcome::NeverJoined),
        ] {
            assert_eq!(outcome(protocol, true, &[]), fetched);
        }
    }

    #[test]
    fn every_outcome_has_a_place_of_its_own() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), place);
        }
    }

    #[test]
    fn a_check_is_told_by_its_message_and_by_the_whole_of_its_beginning() {
        fn ended(protocol: Protocol, payload: &str, media_type: &str) -> Outcome {
            let content = Content::new(payload.as_bytes(), media_type).unwrap();
            let (first, lifetime) = (Revision::new(0), Duration::from_secs(300));
            let session = Session::new(content, first, protocol, lifetime, START);
            Outcome::of_session(&session)
        }
        for protocol in Protocol::ALL {
            for word in ["one", "two"] {
                let message = format!("Message {word} of the check page");
                let long = format!("{message}. ").repeat(30);
                assert_eq!(ended(protocol, &message, "text/plain"), Outcome::Check);
                assert_eq!(ended(protocol, &long, "a/b"), Outcome::Check);
                let (short, rest) = message.split_at(28);
                assert_eq!(ended(protocol, short, rest), Outcome::NeverJoined);
                let other = format!(" {message}");
                assert_eq!(ended(protocol, &other, "a/b"), Outcome::NeverJoined);
            }
        }
        // These are the messages of the page.
        let page = include_str!("api/check.html");
        assert!(
            page.contains("['one', 'two'].map((word) => `Message ${word} of the check page. `")
        );
    }

    #[test]
    fn outcomes_are_counted_by_protocol() {
        let mut counts = Outcomes::default();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                counts.count(Protocol::Msc3886, outcome);
                counts.count(Protocol::Msc4388, outcome);
            }
        }
        for (times, outcome) in (0..).zip(Outcome::ALL) {
            assert_eq!(counts.of(Protocol::Msc3886, outcome), times);
            assert_eq!(counts.of(Protocol::Msc4108, outcome), 0);
            assert_eq!(counts.total(outcome), 2 * times);
        }
    }
}
