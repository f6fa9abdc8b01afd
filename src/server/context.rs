//! The state that the connections of one worker share.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, UNIX_EPOCH};

use httpdate::HttpDate;
use mio::Token;

use super::handle::ConnectionWakers;
use super::settings::{Deadlines, SOCKET_BUFFER, Settings, TURN_SIZE};
use crate::clock;
use crate::http::Handler;
use crate::metrics::{Connections, Counters, Phase};

/// The state that the connections of one worker share.
pub struct Context {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) counters: Arc<Counters>,
    /// Time limits.
    pub deadlines: Deadlines,
    /// When the worker last woke.
    pub now: Instant,
    /// The same as an IMF-fixdate.
    pub date: String,
    /// When the date is to be updated.
    next_second: Instant,
    /// When the server began to stop: every response is a connection's last then.
    pub stopping_since: Option<Instant>,
    pub(super) holding: Holding,
    pub(super) input: Box<[u8]>,
    /// The buffer of the decoder of the connection that is driven.
    pub(super) buffer: Vec<u8>,
    pub(super) output: Vec<u8>,
}

impl Context {
    /// A context at the present time.
    #[must_use]
    pub fn new(handler: Arc<dyn Handler>, counters: Arc<Counters>, deadlines: Deadlines) -> Self {
        Self {
            handler,
            counters,
            deadlines,
            now: Instant::now(),
            next_second: Instant::now(),
            date: String::new(),
            stopping_since: None,
            holding: Holding::default(),
            input: vec![0; TURN_SIZE].into(),
            buffer: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Reads the clock. The date is read from the wall clock once a second.
    pub(super) fn update_clock(&mut self) {
        self.now = Instant::now();
        if self.now >= self.next_second {
            let now = clock::system_time();
            let part = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            let rest = Duration::from_secs(1) - Duration::from_nanos(part.subsec_nanos().into());
            self.next_second = self.now + rest;
            self.date = HttpDate::from(now).to_string();
        }
    }

    /// Frees capacity that only large requests and responses need.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.buffer, &mut self.output] {
            if buffer.capacity() > SOCKET_BUFFER {
                *buffer = Vec::new();
            }
        }
    }
}

/// What decides whether a request may be held.
#[derive(Debug)]
pub(super) struct Holding {
    /// None in tests, which drive the connections themselves.
    wakers: Option<ConnectionWakers>,
    max_connections: u64,
    max_held: u64,
    /// The token of the connection that is driven.
    pub(super) token: Token,
}

/// Any number of requests, and nobody is woken.
impl Default for Holding {
    fn default() -> Self {
        Self {
            wakers: None,
            max_connections: u64::MAX,
            max_held: u64::MAX,
            token: Token(0),
        }
    }
}

impl Holding {
    pub(super) fn new(wakers: ConnectionWakers, settings: &Settings) -> Self {
        Self {
            wakers: Some(wakers),
            max_connections: settings.max_connections as u64,
            max_held: settings.max_held() as u64,
            ..Self::default()
        }
    }

    /// The waker of the connection that is driven, if another request may be
    /// held; workers that look at once may each hold one more. At the ceiling of
    /// connections none may be held: its connection looks idle and would be
    /// evicted first.
    pub(super) fn waker(&self, connections: &Connections) -> Option<Waker> {
        let held = connections.in_phase(Phase::Held);
        if connections.total() >= self.max_connections || held >= self.max_held {
            return None;
        }
        let waker = |wakers: &ConnectionWakers| wakers.waker(self.token);
        let waker = self.wakers.as_ref().map(waker);
        Some(waker.unwrap_or_else(|| Waker::noop().clone()))
    }
}
