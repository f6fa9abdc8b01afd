//! The sender of a request: the peer of a connection, or the client that a
//! trusted proxy names.

mod forwarded;
mod host;
mod networks;
mod peer;
mod proxies;

pub use host::is_host;
pub use networks::Network;
pub use peer::{Client, Peer};
pub use proxies::{Fields, TrustedProxies, UnknownClient, is_forwarded};
