//! The sessions of the server: one mutex around an LRU map, an index of
//! expiries and a tree of owners. Nothing here reads a clock or knows a
//! protocol or an address.

mod candidate;
mod counts;
mod ended;
mod errors;
mod inner;
mod lists;
mod owners;
mod records;
mod sequence;
mod shared;
mod snapshot;
mod watch;
mod watches;

#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use ended::{Ended, Reason, Removed};
pub use errors::{CreateError, SequenceError, WriteError};
pub use owners::Owner;
pub use records::{MAX_TRANSACTIONS, Record, TRANSACTIONS_SIZE, TxnHasher};
pub use sequence::Sequenced;
pub use shared::{SESSION_OVERHEAD, SWEEP_BYTES, Store};
pub use snapshot::{InvalidSnapshot, Snapshot};
pub use watch::Watch;
pub use watches::MAX_WATCHES;
