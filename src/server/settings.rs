//! Server settings, deadlines, and the memory that connections and workers can
//! take.

use std::time::Duration;

use crate::block_pool::size_of_blocks;
use crate::client::TrustedProxies;
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
/// [`ACCEPT_BATCH`] connections that are evicted but not closed yet.
const WORKER_SIZE: usize = 256 * 1024;

/// Memory of a connection apart from its buffers, in bytes: its state, its
/// entry in the worker's table and its entries in the accounting. A test adds
/// them up.
pub(super) const CONNECTION_SIZE: usize = 768;

/// Memory of a command to a worker, in bytes, twice, as the queue doubles. Each
/// held request may have one in it at a time.
pub(super) const COMMAND_SIZE: usize = 2 * 96;

/// Bytes read at a time, one read a turn: a request with its body.
pub(super) const READ_SIZE: usize = 16 * 1024;

/// Output collected for pipelined requests before it is sent, in bytes, one
/// batch a turn: two of the largest payloads, so a turn stays under a
/// millisecond, and a peer that does not read makes us hold no more than this
/// and one response.
pub(super) const OUTPUT_BATCH: usize = 8 * 1024;

/// Kernel buffer for each direction of a connection, in bytes; the kernel
/// doubles it for bookkeeping. Its default would hold megabytes of responses
/// for a peer that does not read. Below the 64 KiB of a segment on loopback,
/// large responses would wait for delayed ACKs. Kept output is written in parts
/// of this size, and workers' buffers keep as much between connections: more
/// than nearly all requests and responses need.
pub(super) const SOCKET_BUFFER: usize = 64 * 1024;

/// Connections accepted from a listener, or closed for their deadline, before
/// others have turns: under a connection flood, time in the listen backlog
/// dominates latency. Also how many more than its share a worker keeps before
/// it hands new ones over: the kernel wakes workers in no fair order, and
/// handing over costs a wake-up.
pub(super) const ACCEPT_BATCH: usize = 16;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// A whole request, from its first byte to its last.
    pub request: Duration,
    /// The peer's taking of a response; no request is read meanwhile.
    pub answer: Duration,
    /// The wait for a request. Longer than the 60 to 120 s after which
    /// proxies close, or a proxy's request meets our close.
    pub idle: Duration,
    /// The peer's own close after its request was rejected. However much it
    /// still sends is discarded meanwhile.
    pub linger: Duration,
    /// The work in progress when the server stops, and the next request on
    /// connections that were used: clients poll once a second.
    pub stop: Duration,
    /// The wait for the first request of a connection when the server stops: it
    /// is likely on its way if the connection is as new as that.
    pub stop_silent: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(150),
            linger: Duration::from_secs(2),
            stop: Duration::from_millis(1_500),
            stop_silent: Duration::from_millis(200),
        }
    }
}

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that answer requests.
    pub workers: usize,
    /// Connections held at once, over all workers.
    pub max_connections: usize,
    /// Peers that may have any number of connections.
    pub trusted_proxies: TrustedProxies,
    /// The largest body of a request or a response, in bytes.
    pub largest_body: usize,
    /// Time limits.
    pub deadlines: Deadlines,
}

impl Settings {
    /// The most requests that are held at a time. As many connections are left
    /// for others.
    #[must_use]
    pub fn max_held(&self) -> usize {
        self.max_connections / 2
    }

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
        HEAD_LIMIT + self.largest_body + READ_SIZE
    }

    /// Responses short of a full batch, and one more.
    fn largest_output(&self) -> usize {
        OUTPUT_BATCH + HEAD_LIMIT + self.largest_body
    }

    /// The working memory of a worker, in bytes: a request, its response twice,
    /// as text and as it is sent, each in a vector that doubles; a payload that
    /// is written before the old one is freed.
    fn working_memory(&self) -> usize {
        let vectors = self.largest_request() + 2 * self.largest_output();
        WORKER_SIZE + READ_SIZE + 2 * vectors + 2 * size_of_blocks(self.largest_body)
    }

    /// The most memory that connections and workers can take, in bytes, with an
    /// allocator that has so many heaps.
    #[must_use]
    pub fn ceiling(&self, heaps: usize) -> u64 {
        // Buffers exceed the limit by those of one connection at most.
        let worker = self.buffer_limit() + self.connection_buffers() + self.working_memory();
        let workers = worker.saturating_mul(self.workers);
        let connection = CONNECTION_SIZE * heaps;
        let connections = connection.saturating_mul(self.max_connections);
        let commands = COMMAND_SIZE.saturating_mul(self.max_held());
        workers.saturating_add(connections).saturating_add(commands) as u64
    }

    /// The same for one worker with few connections, each of which takes as
    /// much as it may, and one more that is about to close.
    #[must_use]
    pub fn small_ceiling(&self) -> u64 {
        let connection = CONNECTION_SIZE + self.connection_buffers();
        let all = connection.saturating_mul(self.max_connections + 1);
        all.saturating_add(self.working_memory()) as u64
    }
}
