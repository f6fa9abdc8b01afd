//! What the protocol families share.

use std::sync::Arc;

use super::responses::{error, full, navigates, navigation_refused, not_found};
use super::settings::Settings;
use crate::client::{Client, Network};
use crate::clock::{Clock, Timestamp};
use crate::draining::Draining;
use crate::http::{Head, Response};
use crate::metrics::Counters;
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Session, SessionId};
use crate::store::{CreateError, Owner, Store};

/// What the protocol families share: the sessions, the time, what the operator
/// decided, what has been counted.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) counters: Arc<Counters>,
    pub(super) draining: Arc<Draining>,
}

impl Context {
    /// Creates a session of the protocol for a client, if it is known who that is.
    pub(super) fn create(
        &self,
        protocol: Protocol,
        content: Content,
        client: Option<Client>,
        now: Timestamp,
    ) -> Result<(SessionId, Session), Response> {
        let lifetime = self.settings.lifetime(protocol);
        let owner = client.map_or(Owner::UNKNOWN, |client| {
            Owner(client.networks().map(Network::key))
        });
        self.store
            .create(content, protocol, lifetime, owner, now)
            .map_err(|failure| match failure {
                CreateError::Full(wait) => full(wait),
                CreateError::NoRandomness => {
                    self.counters.rng_failures.increment();
                    error(503, "M_UNKNOWN", "The server has no random numbers")
                }
            })
    }

    /// A session that may be read: not by a browser that would show it.
    pub(super) fn readable(
        &self,
        id: Option<SessionId>,
        concurrency: Concurrency,
        head: &Head<'_, '_>,
        now: Timestamp,
    ) -> Result<Session, Response> {
        if navigates(head) {
            self.counters.navigations_refused.increment();
            return Err(navigation_refused());
        }
        id.and_then(|id| self.store.read(id, concurrency, now))
            .ok_or_else(not_found)
    }
}
