//! Writes in sequence, and the transactions whose outcomes are recorded.

use std::array;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;

use super::{Inner, Store, inner};
use crate::block_pool::{PooledBytes, size_of_blocks};
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Content, Revision, SessionId};

/// Transactions recorded a session. A sign-in takes ten writes at most.
pub const MAX_TRANSACTIONS: usize = 64;

/// The most that the recorded transactions of a session take in the block
/// pool, in bytes.
pub const TRANSACTIONS_SIZE: usize = size_of_blocks(MAX_TRANSACTIONS * Record::SIZE);

/// What a writer of the sequenced family asks for.
#[derive(Clone, Copy, Debug)]
pub struct Sequenced<'a> {
    /// The revision that the writer thinks is the present one; none if it
    /// named what cannot be one.
    pub expected: Option<Revision>,
    /// The name under which the outcome is recorded and found again.
    pub transaction: Option<&'a str>,
}

/// Why a write in sequence was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceError {
    /// No such session, or none any more.
    NotFound,
    /// The session is, or was when this transaction came first, at another
    /// revision.
    Conflict,
    /// [`MAX_TRANSACTIONS`] are recorded already.
    TooMany,
}

/// What turns transactions' names into numbers that nobody can foresee, so
/// that a record takes 16 bytes, not up to 270.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHasher(pub [u64; 2]);

impl TxnHasher {
    /// TxnHasher that nobody knows: the standard library's own cannot be had, but
    /// what they make of anything can.
    #[must_use]
    pub fn random() -> Self {
        let hidden = RandomState::new();
        Self([0, 1].map(|number: u64| hidden.hash_one(number)))
    }

    /// The number of a name, by SipHash-2-4: it is the same in every release
    /// of the standard library, and another program goes on with it.
    pub(super) fn hash(self, name: &str) -> u64 {
        #[expect(deprecated, reason = "its successor takes no keys")]
        let mut hasher = std::hash::SipHasher::new_with_keys(self.0[0], self.0[1]);
        hasher.write(name.as_bytes());
        hasher.finish()
    }
}

/// A transaction that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number that [`TxnHasher`] make of its name.
    pub name: u64,
    /// The number of the revision that it made; none if that was a conflict.
    pub made: Option<NonZeroU64>,
}

impl Record {
    /// Size of a record, in bytes.
    const SIZE: usize = 16;

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let made = self.made.map_or(0, NonZeroU64::get);
        let halves = [self.name.to_le_bytes(), made.to_le_bytes()];
        array::from_fn(|index| halves[index / 8][index % 8])
    }

    fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let half = |start| u64::from_le_bytes(array::from_fn(|index| bytes[start + index]));
        Self {
            name: half(0),
            made: NonZeroU64::new(half(8)),
        }
    }
}

/// The recorded transactions of one session, the first done first.
#[derive(Debug, Default)]
pub(super) struct Records(PooledBytes);

impl Records {
    pub(super) fn new(records: &[Record]) -> Self {
        let bytes: Vec<u8> = records
            .iter()
            .flat_map(|record| record.to_bytes())
            .collect();
        Self(PooledBytes::new(&[&bytes]))
    }

    pub(super) fn to_vec(&self) -> Vec<Record> {
        let bytes = self.0.to_vec();
        let (records, _) = bytes.as_chunks();
        records.iter().copied().map(Record::from_bytes).collect()
    }
}

impl Store {
    /// Replaces the content of a sequenced session if it is still at the
    /// revision expected, in one step; returns the revision then present.
    ///
    /// A transaction's outcome, success or conflict, is recorded while the
    /// session lives, and is the answer when it comes again, whatever it
    /// brings then (MSC4388). Without a transaction, a repeated write is
    /// known by a stale revision and by bringing just what is there.
    ///
    /// # Errors
    /// [`SequenceError`], and nothing but the record has changed.
    pub fn write_in_sequence(
        &self,
        id: SessionId,
        write: Sequenced<'_>,
        content: Content,
        now: Timestamp,
    ) -> Result<Revision, SequenceError> {
        let name = write.transaction.map(|name| self.txn_hasher.hash(name));
        let (mut inner, now) = self.enter(now);
        let Inner {
            sessions,
            expiries,
            transactions,
            counts,
            ..
        } = &mut *inner;
        let session = inner::live(sessions, id, Concurrency::SequenceToken, now)
            .ok_or(SequenceError::NotFound)?;
        let mut recorded = Vec::new();
        if let Some(name) = name {
            recorded = transactions
                .get(&id)
                .map(Records::to_vec)
                .unwrap_or_default();
            if let Some(outcome) = outcome_of(&recorded, name) {
                return outcome;
            }
            if recorded.len() >= MAX_TRANSACTIONS {
                return Err(SequenceError::TooMany);
            }
        }
        let present = session.revision();
        let mut old = None;
        let outcome = if write.expected == Some(present) {
            old = Some(inner::replace(expiries, counts, id, session, content, now));
            Ok(session.revision())
        } else if name.is_none()
            && write
                .expected
                .is_some_and(|stale| stale.number() < present.number())
            && session.content() == content
        {
            Ok(present)
        } else {
            Err(SequenceError::Conflict)
        };
        if let Some(name) = name {
            let made = outcome.ok().and_then(|made| NonZeroU64::new(made.number()));
            recorded.push(Record { name, made });
            transactions.insert(id, Records::new(&recorded));
        }
        drop(inner);
        drop(old);
        outcome
    }

    /// The recorded outcome of a transaction, if it has one, and a sign of use;
    /// `None` if there is no such session.
    pub fn recorded(
        &self,
        id: SessionId,
        transaction: Option<&str>,
        now: Timestamp,
    ) -> Option<Option<Result<Revision, SequenceError>>> {
        let name = transaction.map(|name| self.txn_hasher.hash(name));
        let (mut inner, now) = self.enter(now);
        inner.live(id, Concurrency::SequenceToken, now)?;
        let records = inner.transactions.get(&id);
        Some(name.and_then(|name| outcome_of(&records?.to_vec(), name)))
    }
}

/// What is recorded under a name.
fn outcome_of(recorded: &[Record], name: u64) -> Option<Result<Revision, SequenceError>> {
    let record = recorded.iter().find(|record| record.name == name)?;
    let made = record.made.map(|number| Revision::new(number.get()));
    Some(made.ok_or(SequenceError::Conflict))
}
