//! Writes in sequence (MSC4388), and the outcomes recorded of them.

use std::num::NonZeroU64;

use super::errors::SequenceError;
use super::inner::{self, Inner};
use super::records::{MAX_TRANSACTIONS, Record};
use super::shared::Store;
use crate::clock::Timestamp;
use crate::protocol::Concurrency;
use crate::session::{Content, Revision, SessionId};

/// What a write with a sequence token asks for.
#[derive(Clone, Copy, Debug)]
pub struct Sequenced<'a> {
    /// The revision that the writer thinks is the present one; none if it
    /// named what cannot be one.
    pub expected: Option<Revision>,
    /// The name under which the outcome is recorded and found again.
    pub transaction: Option<&'a str>,
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
            owners,
            ..
        } = &mut *inner;
        let session = inner::live(sessions, owners, id, Concurrency::SequenceToken, now)
            .ok_or(SequenceError::NotFound)?;
        if let Some((name, records)) = name.zip(transactions.get(&id)) {
            if let Some(record) = records.find(name) {
                return outcome_of(record);
            }
            if records.len() >= MAX_TRANSACTIONS {
                return Err(SequenceError::TooMany);
            }
        }
        let present = session.revision;
        let mut old = None;
        let outcome = if write.expected == Some(present) {
            old = Some(inner::replace(expiries, counts, id, session, content, now));
            Ok(session.revision)
        } else if name.is_none()
            && write
                .expected
                .is_some_and(|stale| stale.number() < present.number())
            && session.content == content
        {
            Ok(present)
        } else {
            Err(SequenceError::Conflict)
        };
        if let Some(name) = name {
            let made = outcome.ok().and_then(|made| NonZeroU64::new(made.number()));
            transactions
                .entry(id)
                .or_default()
                .push(Record { name, made });
        }
        drop(inner);
        drop(old);
        outcome
    }

    /// The recorded outcome of a transaction, if it has one, and a use;
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
        Some(name.and_then(|name| records?.find(name).map(outcome_of)))
    }
}

/// What a recorded transaction is answered again.
fn outcome_of(record: Record) -> Result<Revision, SequenceError> {
    let made = record.made.map(|number| Revision::new(number.get()));
    made.ok_or(SequenceError::Conflict)
}
