//! Server settings, deadlines, and sizes that several parts share.

use std::time::Duration;

use crate::client::TrustedProxies;

/// The most bytes read in a turn, in one read, and the bytes of output after
/// which it ends: two sign-in payloads of the largest size. A turn stays under a
/// millisecond, and a peer that does not read makes us hold no more than this
/// and one response.
pub(super) const TURN_SIZE: usize = 8 * 1024;

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
    /// The wait for a connection's first request when the server stops: it may
    /// be on its way.
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
}
