//! The recorded transactions of a session.

use std::array;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;

use crate::block_pool::{PooledBytes, size_of_blocks};

/// Transactions recorded a session. A sign-in takes ten writes at most.
pub const MAX_TRANSACTIONS: usize = 64;

/// The most that the recorded transactions of a session take in the block
/// pool, in bytes.
pub const TRANSACTIONS_SIZE: usize = size_of_blocks(MAX_TRANSACTIONS * Record::SIZE);

/// A keyed hash of transactions' names, which peers cannot foresee: a record
/// takes 16 bytes, not up to 270.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHasher(pub [u64; 2]);

impl TxnHasher {
    /// A hasher with random keys, made of hashes by the standard library's
    /// random keys, which cannot be read.
    #[must_use]
    pub fn random() -> Self {
        let hidden = RandomState::new();
        Self([0, 1].map(|number: u64| hidden.hash_one(number)))
    }

    /// The SipHash-2-4 of a name, which is the same in every release of the
    /// standard library: state files hold it.
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
    /// The hash of its name.
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

    fn from_bytes(bytes: &[u8]) -> Self {
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

    /// Adds a record behind the others.
    pub(super) fn push(&mut self, record: Record) {
        self.0.append(&record.to_bytes());
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() / Record::SIZE
    }

    pub(super) fn find(&self, name: u64) -> Option<Record> {
        let records = self.to_vec();
        records.into_iter().find(|record| record.name == name)
    }

    pub(super) fn to_vec(&self) -> Vec<Record> {
        let bytes = self.0.to_vec();
        let records = bytes.chunks_exact(Record::SIZE);
        records.map(Record::from_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_transactions_have_the_numbers_of_siphash() {
        // The reference implementation's first vectors.
        let keys = TxnHasher([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        assert_eq!(keys.hash(""), 0x726f_db47_dd0e_0e31);
        assert_eq!(keys.hash("\0"), 0x74f8_39c5_93dc_67fd);
        assert_ne!(TxnHasher::random(), TxnHasher::random());
    }

    #[test]
    fn records_are_found_by_name_in_the_order_they_came() {
        let record = |name: u64| Record {
            name,
            made: NonZeroU64::new(name % 3),
        };
        let mut records = Records::default();
        let all: Vec<Record> = (0..MAX_TRANSACTIONS as u64).map(record).collect();
        for (count, one) in all.iter().enumerate() {
            assert_eq!((records.len(), records.find(one.name)), (count, None));
            records.push(*one);
            assert_eq!(records.find(one.name), Some(*one));
        }
        assert_eq!(records.to_vec(), all);
        assert_eq!(Records::new(&all).to_vec(), all);
    }
}
