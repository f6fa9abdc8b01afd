//! Polls that are held until their session changes (long polling).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tiny_http::Method;

use super::context::Context;
use super::responses::{not_found, not_modified, payload, preference_applied};
use crate::http::{HeldRequest, ReleaseReason, Response};
use crate::metrics::{Counter, Purpose};
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Revision, SessionId};
use crate::store::Watch;

/// The most memory that a held poll takes apart from its connection, in bytes:
/// this, its waker, its watch, and what the allocator adds. `tests/memory.rs`
/// measures it.
pub const HELD_POLL_SIZE: usize = 512;

/// A `GET` by a client that knows the current revision of a session.
pub(super) struct HeldPoll {
    pub(super) context: Arc<Context>,
    pub(super) id: SessionId,
    pub(super) protocol: Protocol,
    /// What the client knows.
    pub(super) revision: Revision,
    /// The wait that the client asked for, if that decided.
    pub(super) preference: Option<Duration>,
    pub(super) watch: Watch,
}

/// Not derived: that would compile `Debug` for the whole store into the binary.
impl fmt::Debug for HeldPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldPoll").finish_non_exhaustive()
    }
}

impl HeldRequest for HeldPoll {
    fn try_respond(&mut self) -> Option<Response> {
        let pending = self.watch.is_pending();
        // One that has ended without a change gave way to a newer one.
        let released = &self.context.counters.polls_released;
        (!pending).then(|| self.respond(released))
    }

    fn release(self: Box<Self>, reason: ReleaseReason) -> Response {
        let counters = &self.context.counters;
        self.respond(match reason {
            ReleaseReason::Timeout => &counters.polls_timed_out,
            ReleaseReason::Gone => &counters.polls_gone,
            ReleaseReason::Closing => &counters.polls_released,
        })
    }
}

impl HeldPoll {
    /// The response as of now. If nothing has changed, it counts as `unchanged`.
    fn respond(&self, unchanged: &Counter) -> Response {
        let Context {
            store,
            clock,
            counters,
            ..
        } = &*self.context;
        let now = clock.now();
        let (response, ended) = match store.read(self.id, Concurrency::ETag, now) {
            Some(session) if session.revision == self.revision => {
                (not_modified(&session, now), unchanged)
            }
            Some(session) => (payload(session, now), &counters.polls_changed),
            None => (not_found(), &counters.polls_changed),
        };
        ended.increment();
        let status = response.status.0;
        let requests = &counters.requests;
        requests.count(Purpose::Protocol(self.protocol), &Method::Get, status);
        preference_applied(response, self.preference)
    }
}
