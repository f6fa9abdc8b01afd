//! The connections of one worker, in the order of their use.

use std::time::Instant;

use lru::LruCache;
use mio::Token;

use super::connection::{Connection, Next};
use super::crowd::Place;
use super::listener::Stream;

/// Two lists, so that neither a flood of new connections nor a hoard of used
/// ones takes all places: the longer list gives one up.
#[derive(Debug)]
pub(super) struct Pool {
    /// Those never answered yet, the first that came first.
    fresh: LruCache<Token, Member>,
    /// The others, that whose last answer is longest ago first.
    used: LruCache<Token, Member>,
    /// Bytes in the buffers of all.
    buffered: usize,
}

#[derive(Debug)]
struct Member {
    connection: Connection<Stream>,
    place: Place,
    /// Its part of the pool's sum.
    buffered: usize,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            fresh: LruCache::unbounded(),
            used: LruCache::unbounded(),
            buffered: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.used.len()
    }

    /// Bytes in the buffers of all.
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(super) fn contains(&self, token: Token) -> bool {
        self.used.contains(&token) || self.fresh.contains(&token)
    }

    /// A connection that has never been answered.
    pub(super) fn fresh(&self, token: Token) -> Option<&Connection<Stream>> {
        let member = self.fresh.peek(&token)?;
        Some(&member.connection)
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Connection<Stream>> {
        let member = self.member(token)?;
        Some(&mut member.connection)
    }

    fn member(&mut self, token: Token) -> Option<&mut Member> {
        let fresh = &mut self.fresh;
        self.used
            .peek_mut(&token)
            .or_else(|| fresh.peek_mut(&token))
    }

    pub(super) fn insert(&mut self, token: Token, connection: Connection<Stream>, place: Place) {
        let member = Member {
            connection,
            place,
            buffered: 0,
        };
        self.fresh.put(token, member);
    }

    pub(super) fn remove(&mut self, token: Token) -> bool {
        let removed = self.used.pop(&token).or_else(|| self.fresh.pop(&token));
        if let Some(member) = &removed {
            self.buffered -= member.buffered;
        }
        removed.is_some()
    }

    /// Removes those that have never asked for anything.
    pub(super) fn remove_silent(&mut self) {
        let fresh = self.fresh.iter();
        let silent = fresh.filter(|(_, member)| member.connection.is_idle());
        let silent: Vec<Token> = silent.map(|(token, _)| *token).collect();
        for token in silent {
            self.remove(token);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Takes note of what a turn has changed: whether it has answered, and
    /// what is in the buffers. True if it now wants another turn.
    pub(super) fn note(&mut self, token: Token, next: Next, now: Instant) -> bool {
        let Some(member) = self.member(token) else {
            return false;
        };
        let queued = next == Next::Again && member.connection.queue();
        let before = member.buffered;
        let after = member.connection.buffered();
        member.buffered = after;
        let answered = member.connection.take_answered();
        if answered {
            member.place.touch(now);
        }
        self.buffered = self.buffered - before + after;
        if answered
            && !self.used.promote(&token)
            && let Some(member) = self.fresh.pop(&token)
        {
            self.used.put(token, member);
        }
        queued
    }

    /// The connection that is to make room, and since when it waits.
    pub(super) fn longest_idle(&self) -> Option<(Token, Instant)> {
        let longer = if self.fresh.len() > self.used.len() {
            &self.fresh
        } else {
            &self.used
        };
        let (token, member) = longer.peek_lru()?;
        Some((*token, member.connection.since()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, &Connection<Stream>)> {
        self.fresh
            .iter()
            .chain(&self.used)
            .map(|(token, member)| (*token, &member.connection))
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        self.iter().map(|(token, _)| token).collect()
    }

    /// What one connection takes in a pool, in bytes.
    #[cfg(test)]
    pub(super) const MEMBER_SIZE: usize = size_of::<Member>();

    /// Those that hold the most bytes, as many as hold all that is over a
    /// limit; of equals those that wait for longest.
    pub(super) fn largest(&self, limit: usize) -> Vec<Token> {
        let mut surplus = self.buffered.saturating_sub(limit);
        let mut members: Vec<_> = self
            .iter()
            .map(|(token, connection)| (connection.buffered(), connection.since(), token))
            .collect();
        members.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        members
            .into_iter()
            .take_while(|(buffered, ..)| {
                let needed = surplus > 0;
                surplus = surplus.saturating_sub(*buffered);
                needed
            })
            .map(|(_, _, token)| token)
            .collect()
    }
}
