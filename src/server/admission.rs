//! Connection accounting shared by all workers: totals, per-client counts,
//! last use.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mio::Token;

use super::settings::{ACCEPT_BATCH, Settings};
use crate::client::{Client, Peer, TrustedProxies};

/// Connections that one client may have, unless it is a trusted proxy.
/// Browsers open six a host, and a household shares one address.
pub(super) const CLIENT_CONNECTIONS: usize = 64;

/// The token of a worker's waker, which no connection has.
pub(super) const WAKER: Token = Token(usize::MAX);

/// Connection accounting. The mutex is taken when a connection opens and when
/// it closes, and to evict one.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) max_connections: usize,
    trusted: TrustedProxies,
    started: Instant,
    connections: Mutex<Connections>,
}

#[derive(Debug)]
struct Connections {
    /// Connections that are not closed, by worker.
    by_worker: Vec<usize>,
    /// The same without those evicted.
    open: BTreeMap<Token, Arc<ClientConnection>>,
    /// Open connections of clients that may not have any number of them.
    by_client: BTreeMap<Client, Vec<Token>>,
    /// Tokens below this are not connections'.
    first_token: usize,
    next_token: usize,
}

/// A connection as the accounting sees it. Times are in microseconds since the
/// server's start.
#[derive(Debug)]
pub(super) struct ClientConnection {
    worker: usize,
    /// None if it may have any number of connections.
    client: Option<Client>,
    accepted_at: u64,
    /// When it was last answered; 0 if never.
    answered_at: AtomicU64,
}

/// The right to hold a connection, given back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    admission: Arc<Admission>,
    token: Token,
    connection: Arc<ClientConnection>,
}

/// A connection that has to be closed for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evicted {
    pub(super) worker: usize,
    pub(super) token: Token,
}

impl Admission {
    /// The accounting of a server whose connections have tokens from
    /// `first_token` on.
    pub(super) fn new(settings: &Settings, first_token: usize) -> Self {
        Self {
            max_connections: settings.max_connections,
            trusted: settings.trusted_proxies.clone(),
            started: Instant::now(),
            connections: Mutex::new(Connections {
                by_worker: vec![0; settings.workers],
                open: BTreeMap::new(),
                by_client: BTreeMap::new(),
                first_token,
                next_token: first_token,
            }),
        }
    }

    /// Lets in a connection that a worker accepted, for a worker that the
    /// permit names, and says which one has to be closed for it.
    pub(super) fn admit(
        self: &Arc<Self>,
        accepting: usize,
        peer: Peer,
        now: Instant,
    ) -> (ConnectionPermit, Option<Evicted>) {
        let limited = !self.trusted.include(peer);
        let client = limited.then(|| peer.client());
        let mut connections = self.lock();
        let evicted = connections.evict_for(client, accepting, self.max_connections);
        let connection = Arc::new(ClientConnection {
            worker: connections.choose_worker(accepting),
            client,
            accepted_at: self.micros(now),
            answered_at: AtomicU64::new(0),
        });
        let permit = ConnectionPermit {
            admission: Arc::clone(self),
            token: connections.open(Arc::clone(&connection)),
            connection,
        };
        (permit, evicted)
    }

    /// Evicts the longest idle connection of a worker, unless it was accepted or
    /// answered after `before`. It may be sending a request.
    pub(super) fn evict_idle(&self, worker: usize, before: Instant) -> Option<Token> {
        let mut connections = self.lock();
        let longest_idle = connections.longest_idle(|connection| connection.worker == worker);
        let is_idle = |token: &Token| connections.open[token].last_use() <= self.micros(before);
        let token = longest_idle.filter(is_idle)?;
        connections.forget(token);
        Some(token)
    }

    /// A token for a connection that is not accounted for.
    pub(super) fn unused_token(&self) -> Token {
        self.lock().next_token()
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }

    /// What the lock guards is consistent at every instant at which it could
    /// be poisoned.
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// Evicts a connection for a new one: the client's own if it has too many,
    /// else the longest idle if there are too many in all.
    fn evict_for(
        &mut self,
        client: Option<Client>,
        accepting: usize,
        max_connections: usize,
    ) -> Option<Evicted> {
        let token = match client.and_then(|client| self.by_client.get(&client)) {
            Some(own) if own.len() >= CLIENT_CONNECTIONS => {
                let last_use = |token: &&Token| (self.open[*token].last_use(), **token);
                own.iter().min_by_key(last_use).copied()
            }
            _ if self.open.len() < max_connections => None,
            // One of the accepting worker is closed at once. Another worker
            // may be slow, so what it still holds of those evicted is bounded.
            _ if self.held() - self.open.len() >= ACCEPT_BATCH * self.by_worker.len() => self
                .longest_idle(|connection| connection.worker == accepting)
                .or_else(|| self.longest_idle(|_| true)),
            _ => self.longest_idle(|_| true),
        }?;
        let worker = self.forget(token)?.worker;
        Some(Evicted { worker, token })
    }

    /// The longest idle connection of the more numerous kind, unserved or
    /// keep-alive: a flood of one kind does not evict the other.
    fn longest_idle(&self, eligible: impl Fn(&ClientConnection) -> bool) -> Option<Token> {
        let mut kinds = [(0_usize, None), (0, None)];
        for (token, connection) in &self.open {
            if !eligible(connection) {
                continue;
            }
            let (count, oldest) = &mut kinds[usize::from(connection.is_answered())];
            *count += 1;
            // Of those used at the same wake-up, the first accepted.
            let candidate = (connection.last_use(), *token);
            if oldest.is_none_or(|oldest| candidate < oldest) {
                *oldest = Some(candidate);
            }
        }
        let [unserved, keep_alive] = kinds;
        let larger = if unserved.0 > keep_alive.0 {
            unserved
        } else {
            keep_alive
        };
        larger.1.map(|(_, token)| token)
    }

    /// The accepting worker, or the one with the fewest connections if the
    /// former has far more than its share.
    fn choose_worker(&self, accepting: usize) -> usize {
        let share = self.held() / self.by_worker.len();
        if self.by_worker[accepting] <= share + ACCEPT_BATCH {
            return accepting;
        }
        let workers = 0..self.by_worker.len();
        let fewest = workers.min_by_key(|worker| self.by_worker[*worker]);
        fewest.unwrap_or(accepting)
    }

    fn held(&self) -> usize {
        self.by_worker.iter().sum()
    }

    fn open(&mut self, connection: Arc<ClientConnection>) -> Token {
        let token = self.next_token();
        self.by_worker[connection.worker] += 1;
        if let Some(client) = connection.client {
            self.by_client.entry(client).or_default().push(token);
        }
        self.open.insert(token, connection);
        token
    }

    /// Tokens are unique over all workers and not reused, so no late event or
    /// command reaches another connection; on a 32-bit machine they wrap.
    fn next_token(&mut self) -> Token {
        loop {
            let token = Token(self.next_token);
            let next = self.next_token.wrapping_add(1);
            self.next_token = next.max(self.first_token);
            if token != WAKER && !self.open.contains_key(&token) {
                return token;
            }
        }
    }

    /// Forgets an open connection.
    fn forget(&mut self, token: Token) -> Option<Arc<ClientConnection>> {
        let connection = self.open.remove(&token)?;
        if let Some(client) = connection.client {
            if let Some(own) = self.by_client.get_mut(&client) {
                own.retain(|other| *other != token);
                if own.is_empty() {
                    self.by_client.remove(&client);
                }
            }
        }
        Some(connection)
    }
}

impl ClientConnection {
    fn is_answered(&self) -> bool {
        self.answered_at.load(Ordering::Relaxed) > 0
    }

    fn last_use(&self) -> u64 {
        // The worker that answers may have woken before the one that accepted.
        let answered_at = self.answered_at.load(Ordering::Relaxed);
        answered_at.max(self.accepted_at)
    }
}

impl ConnectionPermit {
    /// The worker that is to serve the connection.
    pub(super) fn worker(&self) -> usize {
        self.connection.worker
    }

    /// The connection's token.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Records that the connection was answered.
    pub(super) fn touch(&self, now: Instant) {
        let now = self.admission.micros(now).max(1);
        self.connection.answered_at.store(now, Ordering::Relaxed);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut connections = self.admission.lock();
        connections.by_worker[self.worker()] -= 1;
        // Gone already if it was evicted.
        connections.forget(self.token);
    }
}

#[cfg(test)]
impl Admission {
    /// Connections that are not closed, those of them not evicted, and those
    /// counted by client.
    pub(super) fn counts(&self) -> [usize; 3] {
        let connections = self.lock();
        let own = || connections.by_client.values().map(Vec::len);
        assert!(own().all(|own| own > 0));
        [connections.held(), connections.open.len(), own().sum()]
    }
}
