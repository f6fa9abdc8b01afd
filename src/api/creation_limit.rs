//! The rate limit of creations, and the one log line for each reason why it
//! does not apply.

use std::sync::Once;

use log::{info, warn};

use super::context::Context;
use crate::client::{Client, Peer, TrustedProxies, UnknownClient, is_forwarded};
use crate::http::Head;
use crate::rate_limit::{RateLimit, RateLimiter};

/// Limits how many sessions a client may create.
#[derive(Debug)]
pub(super) struct CreationLimit {
    rate_limiter: RateLimiter,
    reported: Reported,
}

/// Which unknown clients have been reported.
#[derive(Debug)]
struct Reported {
    local_program: Once,
    unnamed: Once,
    loopback: Once,
    unreadable: Once,
    only_proxies: Once,
}

impl CreationLimit {
    pub(super) fn new(rate_limit: RateLimit) -> Self {
        Self {
            rate_limiter: RateLimiter::new(rate_limit),
            reported: Reported {
                local_program: Once::new(),
                unnamed: Once::new(),
                loopback: Once::new(),
                unreadable: Once::new(),
                only_proxies: Once::new(),
            },
        }
    }

    /// Counts a creation against its client's limit and returns the client, if
    /// it is known; past the limit, says for how many milliseconds. No limit
    /// applies to the clients of a proxy that does not name them: all would be
    /// throttled as one.
    pub(super) fn try_acquire(
        &self,
        context: &Context,
        head: &Head<'_, '_>,
        peer: Peer,
    ) -> Result<Option<Client>, u64> {
        let proxies = &context.settings.trusted_proxies;
        match proxies.client(head.fields(), peer) {
            Ok(client) => {
                let client = client.client();
                let now = context.clock.now().monotonic_ms;
                self.rate_limiter.try_acquire(client, now)?;
                Ok(Some(client))
            }
            Err(unknown) => {
                context.counters.unknown_client.increment();
                self.reported.report(proxies, unknown, head, peer);
                Ok(None)
            }
        }
    }
}

impl Reported {
    /// Logs once a kind why a proxy's clients have no limit, and once that a
    /// program on this machine has none, which needs no change.
    fn report(
        &self,
        proxies: &TrustedProxies,
        unknown: UnknownClient,
        head: &Head<'_, '_>,
        peer: Peer,
    ) {
        let on_loopback = matches!(peer, Peer::Ip(address) if address.is_loopback());
        if on_loopback && !is_forwarded(head.fields()) {
            self.local_program.call_once(|| {
                info!(
                    "a program on this machine creates sessions, and no quota applies to it: if it \
                     is a proxy, have it send X-Forwarded-For; if there is no proxy, say \
                     --trusted-proxy none"
                );
            });
            return;
        }
        let once = match unknown {
            UnknownClient::Unnamed => &self.unnamed,
            UnknownClient::Loopback(_) => &self.loopback,
            UnknownClient::Unreadable => &self.unreadable,
            UnknownClient::OnlyProxies => &self.only_proxies,
        };
        once.call_once(|| {
            warn!(
                "a trusted proxy does not tell which client creates sessions, and no quota \
                 applies to them: {}",
                proxies.explain(unknown, peer)
            );
        });
    }
}
