//! The state that the connections of one worker share.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use httpdate::HttpDate;

use super::settings::{Deadlines, READ_SIZE, SOCKET_BUFFER};
use crate::clock;
use crate::http::Handler;
use crate::metrics::Counters;

/// The state that the connections of one worker share.
#[derive(Debug)]
pub struct Context<H> {
    pub(super) handler: Arc<H>,
    pub(super) counters: Arc<Counters>,
    /// Time limits.
    pub deadlines: Deadlines,
    /// When the worker last woke.
    pub now: Instant,
    /// The same as an IMF-fixdate.
    pub date: String,
    /// When the date is to be updated.
    next_second: Instant,
    /// Whether every response is a connection's last.
    pub stopping: bool,
    pub(super) input: Box<[u8]>,
    /// The buffer of the decoder of the connection that is driven.
    pub(super) buffer: Vec<u8>,
    pub(super) output: Vec<u8>,
}

impl<H: Handler> Context<H> {
    /// A context at the present time.
    #[must_use]
    pub fn new(handler: Arc<H>, counters: Arc<Counters>, deadlines: Deadlines) -> Self {
        Self {
            handler,
            counters,
            deadlines,
            now: Instant::now(),
            next_second: Instant::now(),
            date: String::new(),
            stopping: false,
            input: vec![0; READ_SIZE].into(),
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

    /// The server's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
