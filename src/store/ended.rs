//! What is left of a session at its end: the content to drop outside the
//! lock, and a line that helps to find out why a login failed.

use std::fmt;

use crate::clock::Timestamp;
use crate::outcome::Outcome;
use crate::session::{Parts, Session};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody deleted it.
    Deleted,
    /// Its time was over.
    Expired,
    /// A newer one needed its place.
    Evicted,
}

/// A session that has ended. It shows as a line without its name or content.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// What it was.
    pub session: Parts,
    /// When, in milliseconds on the monotonic clock.
    pub at: u64,
}

impl Ended {
    /// Ends a session.
    pub(super) fn new(session: &mut Session, reason: Reason, now: Timestamp) -> Self {
        Self {
            reason,
            session: session.end(),
            at: now.monotonic_ms,
        }
    }

    /// What it ended as.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.reason {
            Reason::Evicted => Outcome::Evicted,
            Reason::Deleted | Reason::Expired => Outcome::of(&self.session),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Deleted => "deleted",
            Reason::Expired => "expired",
            Reason::Evicted => "evicted",
        };
        let session = &self.session;
        let modified = session.expires - session.left;
        let since = match session.writes {
            0 => "creation",
            _ => "last write",
        };
        write!(
            f,
            "a session of MSC{} ended as {}: {reason} {} s after its {since}, {} writes, {} bytes",
            session.protocol.number(),
            self.outcome().name(),
            self.at.saturating_sub(modified) / 1_000,
            session.writes,
            session.content.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use crate::clock::Timestamp;
    use crate::outcome::{Outcome, Outcomes};
    use crate::protocol::{Concurrency, Protocol};
    use crate::session::{Content, Revision, SessionId};
    use crate::store::{Sequenced, Store};

    const LIFE: Duration = Duration::from_secs(300);

    fn at(monotonic_ms: u64) -> Timestamp {
        Timestamp {
            monotonic_ms,
            unix_ms: 0,
        }
    }

    fn content(size: usize) -> Content {
        Content::new(&vec![b'x'; size], "").unwrap()
    }

    fn create(store: &Store, protocol: Protocol, now: Timestamp) -> SessionId {
        store.create(content(0), protocol, LIFE, now).unwrap().0
    }

    /// Writes a payload of each size over what is there.
    fn write(store: &Store, id: SessionId, concurrency: Concurrency, sizes: &[usize]) {
        for size in sizes {
            let revision = store.read_if(id, concurrency, at(0), |_| false);
            let expected = Some(revision.unwrap().revision());
            match concurrency {
                Concurrency::ETag => {
                    drop(store.write(id, expected, content(*size), at(0)).unwrap());
                }
                Concurrency::SequenceToken => {
                    let write = Sequenced {
                        expected,
                        transaction: None,
                    };
                    let written = store.write_in_sequence(id, write, content(*size), at(0));
                    written.unwrap();
                }
            }
        }
    }

    const WHOLE: [usize; 6] = [104, 52, 388, 70, 56, 515];

    /// The counts of one session of each protocol with these outcomes.
    fn one_each(outcomes: [Outcome; 3]) -> Outcomes {
        let mut counts = Outcomes::default();
        for (protocol, outcome) in Protocol::ALL.into_iter().zip(outcomes) {
            counts.count(protocol, outcome);
        }
        counts
    }

    #[test]
    fn an_expiry_and_a_delete_are_counted_alike() {
        for (sizes, outcome) in [
            (&WHOLE[..], Outcome::Completed),
            (&WHOLE[..5], Outcome::Aborted),
            (&WHOLE[..1], Outcome::Aborted),
            (&[], Outcome::NeverJoined),
        ] {
            for deleted in [false, true] {
                let store = Store::new(NonZeroUsize::new(3).unwrap());
                for protocol in Protocol::ALL {
                    let id = create(&store, protocol, at(0));
                    write(&store, id, protocol.concurrency(), sizes);
                    assert!(!deleted || store.delete(id, protocol.concurrency(), at(1)));
                }
                store.sweep(at(301_000), 9, &mut Vec::new());
                assert_eq!(store.counts().ended, one_each([outcome; 3]));
            }
        }
    }

    #[test]
    fn a_fetch_of_the_first_payload_means_joined_and_a_poll_does_not() {
        let ended_after = |read: &dyn Fn(&Store, SessionId, Concurrency)| {
            let store = Store::new(NonZeroUsize::new(3).unwrap());
            for protocol in Protocol::ALL {
                let id = create(&store, protocol, at(0));
                read(&store, id, protocol.concurrency());
                store.delete(id, protocol.concurrency(), at(2));
            }
            store.counts().ended
        };
        let polled = ended_after(&|store, id, concurrency| {
            let mut asked = Vec::new();
            for _ in 0..3 {
                let seen = store.read_if(id, concurrency, at(1), |revision| {
                    asked.push(revision);
                    false
                });
                assert_eq!(seen.unwrap().revision(), *asked.last().unwrap());
            }
            assert_eq!(asked.len(), 3);
        });
        assert_eq!(polled, one_each([Outcome::NeverJoined; 3]));
        let fetched = ended_after(&|store, id, concurrency| {
            store.read_if(id, concurrency, at(1), |_| true).unwrap();
            // Once is enough.
            let not_asked = |_: Revision| unreachable!();
            store.read_if(id, concurrency, at(1), not_asked).unwrap();
        });
        let joined = [Outcome::Aborted, Outcome::Aborted, Outcome::NeverJoined];
        assert_eq!(fetched, one_each(joined));
    }

    #[test]
    fn what_is_pushed_out_is_evicted_at_whatever_stage() {
        for sizes in [&WHOLE[..], &WHOLE[..2], &[]] {
            for protocol in Protocol::ALL {
                let store = Store::new(NonZeroUsize::MIN);
                let id = create(&store, protocol, at(0));
                write(&store, id, protocol.concurrency(), sizes);
                create(&store, protocol, at(20_000));
                let mut expected = Outcomes::default();
                expected.count(protocol, Outcome::Evicted);
                assert_eq!(store.counts().ended, expected);
            }
        }
    }

    #[test]
    fn an_expired_session_that_makes_room_is_not_evicted() {
        let store = Store::new(NonZeroUsize::MIN);
        create(&store, Protocol::Msc4108, at(0));
        create(&store, Protocol::Msc4108, at(301_000));
        let mut expected = Outcomes::default();
        expected.count(Protocol::Msc4108, Outcome::NeverJoined);
        assert_eq!(store.counts().ended, expected);
    }
}
