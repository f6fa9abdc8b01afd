//! What the connections of one worker share.

use std::sync::Arc;
use std::time::Instant;

use crate::http::Handler;
use crate::metrics::Counters;
use crate::server::Deadlines;

/// Bytes a read can bring: a request with its body in one go.
pub(in crate::server) const INPUT: usize = 16 * 1024;

/// Capacity that the buffers keep from one connection to the next, in bytes:
/// what nearly all requests and answers need.
const KEPT_CAPACITY: usize = 64 * 1024;

/// What a worker's connections share.
#[derive(Debug)]
pub struct Context<H> {
    pub(super) handler: Arc<H>,
    pub(super) counters: Arc<Counters>,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// When the worker last woke.
    pub now: Instant,
    /// The same as an IMF-fixdate.
    pub date: String,
    /// Whether every answer is a connection's last.
    pub stopping: bool,
    pub(super) input: Box<[u8]>,
    /// For the decoder of the connection that is driven.
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
            date: String::new(),
            stopping: false,
            input: vec![0; INPUT].into(),
            buffer: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Gives up what only large requests and answers need.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.buffer, &mut self.output] {
            if buffer.capacity() > KEPT_CAPACITY {
                *buffer = Vec::new();
            }
        }
    }

    /// What is counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
