//! The connections of one worker, in the order of their use.

use std::cmp::Reverse;
use std::time::Instant;

use lru::LruCache;
use mio::Token;

use super::admission::ConnectionPermit;
use super::connection::{Connection, Next};
use super::listener::Stream;
use super::settings::Deadlines;

/// The connections of one worker. Unserved and keep-alive connections are
/// separate LRU lists, as an eviction comes from the longer one: a flood of
/// one kind does not evict the other.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    /// Never answered; the first accepted first.
    unserved: LruCache<Token, Entry>,
    /// Answered; the one whose last response is longest ago first.
    keep_alive: LruCache<Token, Entry>,
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

    /// Whether it is in the run queue.
    pub(super) fn is_queued(&self) -> bool {
        self.queued
    }

    /// Records that it is in the run queue; false if it is there already.
    pub(super) fn set_queued(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }
}

impl ConnectionTable {
    pub(super) fn new() -> Self {
        Self {
            unserved: LruCache::unbounded(),
            keep_alive: LruCache::unbounded(),
            buffered: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unserved.is_empty() && self.keep_alive.is_empty()
    }

    /// Bytes in the buffers of all.
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Entry> {
        let unserved = &mut self.unserved;
        self.keep_alive
            .peek_mut(&token)
            .or_else(|| unserved.peek_mut(&token))
    }

    pub(super) fn insert(&mut self, token: Token, entry: Entry) {
        self.unserved.put(token, entry);
    }

    pub(super) fn remove(&mut self, token: Token) -> bool {
        let keep_alive = self.keep_alive.pop(&token);
        let removed = keep_alive.or_else(|| self.unserved.pop(&token));
        if let Some(entry) = &removed {
            self.buffered -= entry.buffered;
        }
        removed.is_some()
    }

    /// Closes connections that have not begun a request yet.
    pub(super) fn remove_silent(&mut self) {
        let unserved = self.unserved.iter();
        let silent = unserved.filter(|(_, entry)| entry.connection.is_idle());
        let silent: Vec<Token> = silent.map(|(token, _)| *token).collect();
        for token in silent {
            self.remove(token);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Gives a connection its turn, in which `work` drives it, and updates its
    /// place in the table.
    pub(super) fn run(
        &mut self,
        token: Token,
        now: Instant,
        work: impl FnOnce(&mut Connection<Stream>) -> Next,
    ) -> Option<Next> {
        let entry = self.get_mut(token)?;
        let next = work(&mut entry.connection);
        entry.queued = next == Next::Reschedule;
        let before = entry.buffered;
        let after = entry.connection.buffered();
        entry.buffered = after;
        let answered = entry.connection.answered_at() == Some(now);
        if answered {
            if let Some(permit) = &entry.permit {
                permit.touch(now);
            }
        }
        self.buffered = self.buffered - before + after;
        if next == Next::Close {
            self.remove(token);
        } else if answered && !self.keep_alive.promote(&token) {
            if let Some(entry) = self.unserved.pop(&token) {
                self.keep_alive.put(token, entry);
            }
        }
        Some(next)
    }

    /// The connections that are past their deadline, at most `limit` of them, and
    /// the earliest deadline of the others.
    pub(super) fn due(
        &self,
        now: Instant,
        deadlines: &Deadlines,
        limit: usize,
    ) -> (Vec<Token>, Option<Instant>) {
        let (mut due, mut next) = (Vec::with_capacity(limit), None);
        for (token, connection) in self.iter() {
            let deadline = connection.deadline(deadlines);
            if deadline <= now && due.len() < limit {
                due.push(token);
            } else if next.is_none_or(|next| deadline < next) {
                next = Some(deadline);
            }
        }
        (due, next)
    }

    /// The longest idle connection and since when it waits.
    pub(super) fn longest_idle(&self) -> Option<(Token, Instant)> {
        let longer = if self.unserved.len() > self.keep_alive.len() {
            &self.unserved
        } else {
            &self.keep_alive
        };
        let (token, entry) = longer.peek_lru()?;
        Some((*token, entry.connection.since()))
    }

    /// The connection with the largest buffers; of equals the one that waits
    /// for longest.
    pub(super) fn largest(&self) -> Option<Token> {
        self.iter()
            .max_by_key(|(_, connection)| (connection.buffered(), Reverse(connection.since())))
            .map(|(token, _)| token)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, &Connection<Stream>)> {
        self.unserved
            .iter()
            .chain(&self.keep_alive)
            .map(|(token, entry)| (*token, &entry.connection))
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        self.iter().map(|(token, _)| token).collect()
    }
}
