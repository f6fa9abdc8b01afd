//! Taking out what a store holds, and making another of it.

use std::num::NonZeroUsize;
use std::sync::PoisonError;

use super::{MAX_TRANSACTIONS, Record, Records, Store, TxnHasher};
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Parts, Session, SessionId};

/// A session with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: SessionId,
    /// What it is.
    pub session: Parts,
    /// The transactions recorded, none unless it is of the sequenced family.
    pub transactions: Vec<Record>,
}

impl Store {
    /// The keys that the recorded transactions are found with.
    #[must_use]
    pub fn txn_hasher(&self) -> TxnHasher {
        self.txn_hasher
    }

    /// Shows all that live at `now`, the most recently used first. The store
    /// is locked meanwhile.
    ///
    /// # Errors
    /// The first that `show` returns, and the rest is not shown.
    pub fn for_each_live<E>(
        &self,
        now: Timestamp,
        mut show: impl FnMut(&Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = self.lock();
        for (id, session) in &inner.sessions {
            if session.is_live(now) {
                let transactions = inner.transactions.get(id);
                show(&Snapshot {
                    id: *id,
                    session: session.parts(),
                    transactions: transactions.map(Records::to_vec).unwrap_or_default(),
                })?;
            }
        }
        Ok(())
    }

    /// An empty store that finds transactions with these keys.
    #[must_use]
    pub fn with_hasher(capacity: NonZeroUsize, txn_hasher: TxnHasher) -> Self {
        Self {
            txn_hasher,
            ..Self::new(capacity)
        }
    }

    /// Adds a session, as the least recently used of all, to a store that has
    /// no entries of ended ones.
    ///
    /// # Errors
    /// [`InvalidSnapshot`], and nothing has changed.
    pub fn restore(&mut self, saved: Snapshot) -> Result<(), InvalidSnapshot> {
        let capacity = self.capacity.get();
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Snapshot {
            id,
            session,
            transactions,
        } = saved;
        let most = match session.protocol.concurrency() {
            Concurrency::ETag => 0,
            Concurrency::SequenceToken => MAX_TRANSACTIONS,
        };
        let room = inner.sessions.len() < capacity && inner.ended == 0;
        if !room || inner.sessions.contains(&id) || transactions.len() > most {
            return Err(InvalidSnapshot);
        }
        inner.put(id, Session::from_parts(session).ok_or(InvalidSnapshot)?);
        inner.sessions.demote(&id);
        if !transactions.is_empty() {
            inner.transactions.insert(id, Records::new(&transactions));
        }
        Ok(())
    }
}

#[cfg(test)]
impl Store {
    /// What it shows, the most recently used first.
    pub(crate) fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        let mut all = Vec::new();
        let done: Result<(), ()> = self.for_each_live(now, |saved| {
            all.push(saved.clone());
            Ok(())
        });
        done.unwrap();
        all
    }
}

/// A session that a store cannot hold: there is no room for it, its name is
/// taken, or one of its numbers is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSnapshot;
