//! The connections of one worker.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use mio::Token;

use super::admission::ConnectionPermit;
use super::connection::{Connection, Next};
use super::context::Context;
use super::listener::Stream;
use super::settings::TURN_SIZE;

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct ConnectionTable {
    entries: BTreeMap<Token, Box<Entry>>,
    /// Bytes in the buffers of all.
    buffered: usize,
}

/// A connection and what its worker knows of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) connection: Connection<Stream>,
    /// None for a probe.
    permit: Option<ConnectionPermit>,
    /// Its part of the table's sum.
    buffered: usize,
    /// In the run queue.
    queued: bool,
}

impl Entry {
    pub(super) fn new(connection: Connection<Stream>, permit: Option<ConnectionPermit>) -> Self {
        Self {
            connection,
            permit,
            buffered: 0,
            queued: false,
        }
    }

    /// Whether it is served before those in the run queue: it was never answered
    /// and is likely to have a small request. Larger ones cost more to answer.
    pub(super) fn goes_first(&self) -> bool {
        let Self { connection, .. } = self;
        connection.answered_at().is_none() && connection.received() < TURN_SIZE && !self.queued
    }

    /// Records that it is in the run queue; false if it is there already.
    pub(super) fn set_queued(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }
}

impl ConnectionTable {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes in the buffers of all.
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Entry> {
        self.entries.get_mut(&token).map(Box::as_mut)
    }

    pub(super) fn insert(&mut self, token: Token, entry: Entry) {
        self.entries.insert(token, Box::new(entry));
    }

    pub(super) fn remove(&mut self, token: Token) -> bool {
        let removed = self.entries.remove(&token);
        if let Some(entry) = &removed {
            self.buffered -= entry.buffered;
        }
        removed.is_some()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives a connection its turn, in which `work` drives it, and records its
    /// use.
    pub(super) fn run(
        &mut self,
        token: Token,
        now: Instant,
        work: impl FnOnce(&mut Connection<Stream>) -> Next,
    ) -> Option<Next> {
        let entry = self.entries.get_mut(&token)?;
        let next = work(&mut entry.connection);
        entry.queued = next == Next::Reschedule;
        let buffered = entry.connection.buffered();
        self.buffered = self.buffered - entry.buffered + buffered;
        entry.buffered = buffered;
        if next == Next::Close {
            self.remove(token);
        } else if entry.connection.answered_at() == Some(now) {
            if let Some(permit) = &entry.permit {
                permit.touch(now);
            }
        }
        Some(next)
    }

    /// The connections that are past their deadline, at most `limit` of them, and
    /// the earliest deadline of the others.
    pub(super) fn due(&self, context: &Context, limit: usize) -> (Vec<Token>, Option<Instant>) {
        let (mut due, mut next) = (Vec::with_capacity(limit), None);
        for (token, connection) in self.iter() {
            let deadline = connection.deadline(context);
            if deadline <= context.now && due.len() < limit {
                due.push(token);
            } else if next.is_none_or(|next| deadline < next) {
                next = Some(deadline);
            }
        }
        (due, next)
    }

    /// The connection with the largest buffers; of equals the one that waits
    /// for longest.
    pub(super) fn largest(&self) -> Option<Token> {
        self.iter()
            .max_by_key(|(_, connection)| (connection.buffered(), Reverse(connection.since())))
            .map(|(token, _)| token)
    }

    fn iter(&self) -> impl Iterator<Item = (Token, &Connection<Stream>)> {
        let entries = self.entries.iter();
        entries.map(|(token, entry)| (*token, &entry.connection))
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        self.entries.keys().copied().collect()
    }
}
