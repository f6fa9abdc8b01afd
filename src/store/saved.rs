//! Taking out what a store holds, and making another of it.

use std::num::NonZeroUsize;
use std::sync::PoisonError;

use super::{Keys, MAX_TRANSACTIONS, Record, Records, Store};
use crate::clock::Moment;
use crate::session::{Family, Parts, Session, SessionId};

/// A session with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
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
    pub fn keys(&self) -> Keys {
        self.keys
    }

    /// Shows all that live at `now`, the most recently used first. The store
    /// is locked meanwhile.
    ///
    /// # Errors
    /// The first that `show` returns, and the rest is not shown.
    pub fn show_all<E>(
        &self,
        now: Moment,
        mut show: impl FnMut(&Saved) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = self.lock();
        for (id, session) in &inner.sessions {
            if session.is_live(now) {
                let transactions = inner.transactions.get(id);
                show(&Saved {
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
    pub fn with_keys(capacity: NonZeroUsize, keys: Keys) -> Self {
        Self {
            keys,
            ..Self::new(capacity)
        }
    }

    /// Adds a session, as the least recently used of all, to a store that has
    /// no entries of ended ones.
    ///
    /// # Errors
    /// [`Unsound`], and nothing has changed.
    pub fn add(&mut self, saved: Saved) -> Result<(), Unsound> {
        let capacity = self.capacity.get();
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Saved {
            id,
            session,
            transactions,
        } = saved;
        let most = match session.protocol.family() {
            Family::Tagged => 0,
            Family::Sequenced => MAX_TRANSACTIONS,
        };
        let room = inner.sessions.len() < capacity && inner.ended == 0;
        if !room || inner.sessions.contains(&id) || transactions.len() > most {
            return Err(Unsound);
        }
        inner.put(id, Session::from_parts(session).ok_or(Unsound)?);
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
    pub(crate) fn shown(&self, now: Moment) -> Vec<Saved> {
        let mut all = Vec::new();
        let done: Result<(), ()> = self.show_all(now, |saved| {
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
pub struct Unsound;
