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
    /// A second device joined, but the sign-in did not get to its end:
    /// declined, a wrong check code, given up.
    Aborted,
    /// No second device came.
    NeverJoined,
    /// A newer session pushed it out, at any stage.
    Evicted,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Completed,
        Self::Aborted,
        Self::NeverJoined,
        Self::Evicted,
    ];

    /// Its name in the metrics and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::NeverJoined => "never_joined",
            Self::Evicted => "evicted",
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
        let (writes, bytes) = completion_threshold(session.protocol);
        let joined = match session.protocol {
            Protocol::Msc3886 | Protocol::Msc4108 => session.first_fetched || session.writes > 0,
            Protocol::Msc4388 => session.writes > 0,
        };
        if session.writes >= writes && session.content.len() >= bytes {
            Self::Completed
        } else if joined {
            Self::Aborted
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
        self.0[protocol as usize][outcome as usize] += 1;
    }

    /// Those of a protocol that ended so.
    #[must_use]
    pub fn of(&self, protocol: Protocol, outcome: Outcome) -> u64 {
        self.0[protocol as usize][outcome as usize]
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

    #[test]
    fn msc4108_msc4388_a_sign_in_is_aborted_at_every_stage_before() {
        for protocol in SIGN_IN {
            for before in SHOWN_BY {
                for stage in 1..=before.len() {
                    let (given_up, _) = before.split_at(stage);
                    assert_eq!(outcome(protocol, true, given_up), Outcome::Aborted);
                    for rejection in [58, 106] {
                        let refused = [given_up, &[rejection]].concat();
                        assert_eq!(outcome(protocol, true, &refused), Outcome::Aborted);
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
            let refused = [&all[..], &[166]].concat();
            assert_eq!(outcome(Protocol::Msc3886, true, &refused), Outcome::Aborted);
        }
        for stage in 1..=before.len() {
            let (given_up, _) = before.split_at(stage);
            assert_eq!(outcome(Protocol::Msc3886, true, given_up), Outcome::Aborted);
            let declined = [given_up, &[151]].concat();
            assert_eq!(
                outcome(Protocol::Msc3886, true, &declined),
                Outcome::Aborted
            );
        }
    }

    #[test]
    fn a_session_is_joined_by_a_write_or_by_a_fetch_where_that_tells() {
        for protocol in Protocol::ALL {
            assert_eq!(outcome(protocol, false, &[]), Outcome::NeverJoined);
            assert_eq!(outcome(protocol, false, &[104]), Outcome::Aborted);
        }
        for (protocol, fetched) in [
            (Protocol::Msc3886, Outcome::Aborted),
            (Protocol::Msc4108, Outcome::Aborted),
            (Protocol::Msc4388, Outcome::NeverJoined),
        ] {
            assert_eq!(outcome(protocol, true, &[]), fetched);
        }
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
