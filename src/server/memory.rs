//! The memory that connections and workers can take.

use std::sync::Arc;

use mio::Token;

use super::admission::ClientConnection;
use super::handle::Command;
use super::settings::{Settings, TURN_SIZE};
use super::table::Entry;
use crate::block_pool::size_of_blocks;
use crate::client::Client;
use crate::http::HEAD_LIMIT;

/// Memory for the buffers of all connections, in bytes, unless that is less
/// than [`LARGE_REQUESTS`] a worker: thousands of requests of the usual size.
/// Past it, the connections with the largest buffers are closed.
pub(super) const BUFFER_MEMORY: usize = 32 * 1024 * 1024;

/// Requests of the largest kind that each worker has room for, however small
/// its share of [`BUFFER_MEMORY`]: a household's worth of uploads at once.
const LARGE_REQUESTS: usize = 16;

/// Memory of a worker apart from its buffers and its connections, in bytes:
/// the used part of its stack (measured: 20 KiB), what glibc keeps at the end
/// of a heap (`M_TOP_PAD`, 128 KiB), 1024 events of 16 bytes, and
/// [`ACCEPT_BATCH`](super::settings::ACCEPT_BATCH) connections that are evicted
/// but not closed yet.
const WORKER_SIZE: usize = 256 * 1024;

impl Settings {
    /// The limit of the buffers of one worker's connections, in bytes.
    pub(super) fn buffer_limit(&self) -> usize {
        let large = self.connection_buffers().saturating_mul(LARGE_REQUESTS);
        large.max(BUFFER_MEMORY / self.workers)
    }

    /// The most that the buffers of one connection take, in bytes.
    fn connection_buffers(&self) -> usize {
        size_of_blocks(self.largest_request()) + size_of_blocks(self.largest_output())
    }

    /// A head, a body, and one more read.
    fn largest_request(&self) -> usize {
        HEAD_LIMIT + self.largest_body + TURN_SIZE
    }

    /// Responses short of a full batch, and one more.
    fn largest_output(&self) -> usize {
        TURN_SIZE + HEAD_LIMIT + self.largest_body
    }

    /// The working memory of a worker, in bytes: a request, its response twice,
    /// as text and as it is sent, each in a vector that doubles; a payload that
    /// is written before the old one is freed.
    fn working_memory(&self) -> usize {
        let vectors = self.largest_request() + 2 * self.largest_output();
        WORKER_SIZE + TURN_SIZE + 2 * vectors + 2 * size_of_blocks(self.largest_body)
    }

    /// The most memory that connections and workers can take, in bytes, with an
    /// allocator that has so many heaps.
    #[must_use]
    pub fn ceiling(&self, heaps: usize) -> u64 {
        // Buffers exceed the limit by those of one connection at most.
        let worker = self.buffer_limit() + self.connection_buffers() + self.working_memory();
        let workers = worker.saturating_mul(self.workers);
        let connection = connection_size() * heaps;
        let connections = connection.saturating_mul(self.max_connections);
        // Each held request may have one at a time in a queue that doubles.
        let commands = (2 * size_of::<Command>()).saturating_mul(self.max_held());
        workers.saturating_add(connections).saturating_add(commands) as u64
    }

    /// The same for one worker with few connections, each of which takes as
    /// much as it may, and one more that is about to close.
    #[must_use]
    pub fn small_ceiling(&self) -> u64 {
        let connection = connection_size() + self.connection_buffers();
        let all = connection.saturating_mul(self.max_connections + 1);
        all.saturating_add(self.working_memory()) as u64
    }
}

/// Memory of a connection apart from its buffers, in bytes: in its worker's
/// table and run queue, and in the accounting. The nodes of a tree may be less
/// than half full, and an allocation takes up to 16 bytes more.
fn connection_size() -> usize {
    let table = size_of::<Entry>() + 16 + 4 * size_of::<(Token, Box<Entry>)>();
    let queue = 2 * size_of::<Token>();
    let shared = size_of::<[usize; 2]>() + size_of::<ClientConnection>() + 16;
    let open = 4 * size_of::<(Token, Arc<ClientConnection>)>();
    // With a list of its own, which has room for four.
    let by_client = 4 * size_of::<(Client, Vec<Token>)>() + size_of::<[Token; 4]>() + 16;
    table + queue + shared + open + by_client
}
