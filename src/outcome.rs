//! Outcomes of sessions, told from the number of writes and the size of the
//! last payload: payloads are encrypted.

use crate::protocol::Protocol;
use crate::session::Session;

#[cfg(test)]
mod tests;

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
/// by chance; a client that imitates a check is counted as one.
const CHECKS: [&[u8; CHECK]; 2] = [
    b"Message one of the check page",
    b"Message two of the check page",
];

/// Bytes of each.
const CHECK: usize = 29;

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
        let first = session.content.first(CHECK);
        if CHECKS.iter().any(|check| first == *check) {
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
