//! What is left of a session at its end: a line that helps to find out why a
//! login failed.

use std::fmt;

use log::debug;

use super::watches::ToWake;
use crate::clock::Timestamp;
use crate::outcome::Outcome;
use crate::protocol::Protocol;
use crate::session::Session;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A client deleted it.
    Deleted,
    /// Its lifetime was over.
    Expired,
    /// A newer one needed its place.
    Evicted,
}

/// A session that has ended. It shows as a line without its id or content.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// What it ended as.
    pub outcome: Outcome,
    /// The protocol it was created over.
    pub protocol: Protocol,
    /// Writes after its creation.
    pub writes: u8,
    /// Bytes of the last payload.
    pub bytes: usize,
    /// Milliseconds since the creation or the last write.
    pub idle: u64,
}

impl Ended {
    pub(super) fn new(session: &Session, reason: Reason, now: Timestamp) -> Self {
        Self {
            reason,
            outcome: match reason {
                Reason::Evicted => Outcome::Evicted,
                Reason::Deleted | Reason::Expired => Outcome::of_session(session),
            },
            protocol: session.protocol,
            writes: session.writes,
            bytes: session.content.len(),
            idle: now.monotonic_ms.saturating_sub(session.modified_at),
        }
    }
}

/// A session that was taken out of the store, and whom to tell.
#[derive(Debug)]
#[must_use = "those who watch it are waiting"]
pub struct Removed {
    /// How it ended.
    pub ended: Ended,
    pub(super) to_wake: ToWake,
}

impl Removed {
    /// Wakes those who watched it and logs its end. To be called without the
    /// store's lock.
    pub fn announce(self) {
        self.to_wake.wake();
        debug!("{}", self.ended);
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Deleted => "deleted",
            Reason::Expired => "expired",
            Reason::Evicted => "evicted",
        };
        let since = match self.writes {
            0 => "creation",
            _ => "last write",
        };
        write!(
            f,
            "a session of MSC{} ended as {}: {reason} {} s after its {since}, writes: {}, \
             last payload: {} bytes",
            self.protocol.number(),
            self.outcome.name(),
            self.idle / 1_000,
            self.writes,
            self.bytes,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use crate::clock::Timestamp;
    use crate::outcome::{Outcome, Outcomes, Stage};
    use crate::protocol::{Concurrency, Protocol};
    use crate::session::{Content, SessionId};
    use crate::store::{Owner, Sequenced, Store};

    const LIFETIME: Duration = Duration::from_secs(300);

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
        store
            .create(content(0), protocol, LIFETIME, Owner::UNKNOWN, now)
            .unwrap()
            .0
    }

    /// Writes a payload of each size over what is there.
    fn write(store: &Store, id: SessionId, concurrency: Concurrency, sizes: &[usize]) {
        for size in sizes {
            let present = store.read(id, concurrency, at(0)).unwrap();
            let expected = Some(present.revision);
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
            (&WHOLE[..5], Outcome::Aborted(Stage::AfterCheckCode)),
            (&WHOLE[..3], Outcome::Aborted(Stage::CheckCode)),
            (&[], Outcome::NeverJoined),
        ] {
            for deleted in [false, true] {
                let store = Store::new(NonZeroUsize::new(3).unwrap());
                for protocol in Protocol::ALL {
                    let id = create(&store, protocol, at(0));
                    write(&store, id, protocol.concurrency(), sizes);
                    let family = protocol.concurrency();
                    assert!(!deleted || store.delete(id, family, at(1)) == Some(protocol));
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
            store.read(id, concurrency, at(1)).unwrap();
        });
        assert_eq!(polled, one_each([Outcome::NeverJoined; 3]));
        let fetched = ended_after(&|store, id, concurrency| {
            assert!(store.read(id, concurrency, at(1)).unwrap().is_untouched());
            store.note_fetch(id);
            assert!(!store.read(id, concurrency, at(1)).unwrap().is_untouched());
        });
        let scanned = Outcome::Aborted(Stage::BeforeCheckCode);
        let joined = [scanned, scanned, Outcome::NeverJoined];
        assert_eq!(fetched, one_each(joined));
        // What is not there is not recorded.
        Store::new(NonZeroUsize::MIN).note_fetch(SessionId::new([0; 16]));
    }

    #[test]
    fn an_evicted_session_counts_as_such_at_every_stage() {
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
