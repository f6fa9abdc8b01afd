//! What the operator decides about the protocols, and what the protocols fix.

use std::time::Duration;

use crate::client::TrustedProxies;
use crate::protocol::Protocol;
use crate::rate_limit::RateLimit;
use crate::session::NodeName;

/// The largest payload of the sign-in protocols, in bytes, as MSC4108 and
/// MSC4388 fix it.
pub const SIGN_IN_MAX_BYTES: usize = 4096;

/// The largest JSON body: 4096 bytes of payload, each escaped as `\u00xx`, and
/// the rest of the object.
pub const BODY_LIMIT: usize = 26 * 1024;

/// What the operator decides about the protocols.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path of ours that homeservers redirect to: empty, or beginning
    /// and not ending with a slash.
    pub prefix: String,
    /// The URL, without a slash at its end, that clients reach us at; without
    /// it `Location` is a path and `url` is made of the request's host.
    pub public_url: Option<String>,
    /// The name that ids of sessions begin with, if there are several nodes.
    pub node: Option<NodeName>,
    /// The proxies that are believed about scheme, host and client.
    pub trusted_proxies: TrustedProxies,
    /// The lifetime of an MSC3886 session after its last write.
    pub ttl: Duration,
    /// The lifetime of an MSC4108 or MSC4388 session.
    pub sign_in_ttl: Duration,
    /// The largest MSC3886 payload, in bytes.
    pub max_bytes: usize,
    /// How long a poll is held that has nothing to tell; zero for not at all.
    pub long_poll: Duration,
    /// How many sessions one client may create.
    pub rate_limit: RateLimit,
    /// Whether there is a page that checks all this.
    pub check_page: bool,
}

impl Settings {
    /// The largest payload of a protocol, in bytes.
    pub(super) fn max_bytes(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Msc3886 => self.max_bytes,
            Protocol::Msc4108 | Protocol::Msc4388 => SIGN_IN_MAX_BYTES,
        }
    }

    /// The largest body that brings a payload of a protocol, in bytes.
    pub(super) fn body_limit(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Msc4388 => BODY_LIMIT,
            Protocol::Msc3886 | Protocol::Msc4108 => self.max_bytes(protocol),
        }
    }

    /// The lifetime of a session of a protocol.
    pub(super) fn lifetime(&self, protocol: Protocol) -> Duration {
        match protocol {
            Protocol::Msc3886 => self.ttl,
            Protocol::Msc4108 | Protocol::Msc4388 => self.sign_in_ttl,
        }
    }
}

#[cfg(test)]
impl Settings {
    /// The defaults, without trusted proxies.
    pub(super) fn of_tests(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            public_url: None,
            node: None,
            trusted_proxies: TrustedProxies::default(),
            ttl: Duration::from_secs(60),
            sign_in_ttl: Duration::from_secs(300),
            max_bytes: 4096,
            long_poll: Duration::from_secs(10),
            rate_limit: RateLimit {
                rate: 20,
                burst: 30,
            },
            check_page: true,
        }
    }
}
