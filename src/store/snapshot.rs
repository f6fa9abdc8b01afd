//! Snapshots of the sessions, and a store made of them.

use std::num::NonZeroUsize;
use std::sync::PoisonError;

use super::inner::Entry;
use super::owners::Owner;
use super::records::{MAX_TRANSACTIONS, Record, Records, TxnHasher};
use super::shared::Store;
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Session, SessionId};

/// A session with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SessionId,
    /// What it is.
    pub session: Session,
    /// Who created it.
    pub owner: Owner,
    /// The transactions recorded, none unless it has sequence tokens.
    pub transactions: Vec<Record>,
}

impl Store {
    /// The hasher that the recorded transactions are found with.
    #[must_use]
    pub fn txn_hasher(&self) -> TxnHasher {
        self.txn_hasher
    }

    /// Calls `visit` for all sessions that live at `now`, the most recently
    /// used first. The store is locked meanwhile.
    ///
    /// # Errors
    /// The first that `visit` returns; the rest is not visited.
    pub fn for_each_live<E>(
        &self,
        now: Timestamp,
        mut visit: impl FnMut(&Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = self.lock();
        for (id, entry) in &inner.sessions {
            if let Some(Entry { session, number }) =
                entry.as_ref().filter(|entry| entry.session.is_live(now))
            {
                let transactions = inner.transactions.get(id);
                visit(&Snapshot {
                    id: *id,
                    session: session.clone(),
                    owner: inner.owners.owner(*number),
                    transactions: transactions.map(Records::to_vec).unwrap_or_default(),
                })?;
            }
        }
        Ok(())
    }

    /// An empty store that finds transactions with this hasher.
    #[must_use]
    pub fn with_hasher(capacity: NonZeroUsize, txn_hasher: TxnHasher) -> Self {
        Self {
            txn_hasher,
            ..Self::new(capacity)
        }
    }

    /// Adds a session, as the least recently used of all, to a store where none
    /// has ended.
    ///
    /// # Errors
    /// [`InvalidSnapshot`], and nothing has changed.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<(), InvalidSnapshot> {
        let capacity = self.capacity.get();
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Snapshot {
            id,
            session,
            owner,
            transactions,
        } = snapshot;
        let most = match session.protocol.concurrency() {
            Concurrency::ETag => 0,
            Concurrency::SequenceToken => MAX_TRANSACTIONS,
        };
        let room = inner.sessions.len() < capacity && inner.ended == 0;
        if !room || inner.sessions.contains(&id) || !session.is_valid() || transactions.len() > most
        {
            return Err(InvalidSnapshot);
        }
        inner.put(id, session, owner);
        inner.demote(id);
        if !transactions.is_empty() {
            inner.transactions.insert(id, Records::new(&transactions));
        }
        Ok(())
    }
}

#[cfg(test)]
impl Store {
    /// All live sessions, the most recently used first.
    pub(crate) fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        let mut all = Vec::new();
        let done: Result<(), ()> = self.for_each_live(now, |snapshot| {
            all.push(snapshot.clone());
            Ok(())
        });
        done.unwrap();
        all
    }
}

/// A session that a store cannot hold: the store is full, the id is taken, or
/// a number is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSnapshot;
