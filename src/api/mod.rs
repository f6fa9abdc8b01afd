//! What goes over the wire: routes, errors, CORS; one file a family of
//! protocols. A request and the store in, a response out, no I/O.

mod check;
mod counters;
mod msc4388;
mod responses;
mod tag;
mod tagged;

pub use counters::{ByStatus, Counters, Requests};
pub use msc4388::BODY_LIMIT;

use std::sync::{Arc, Once};
use std::time::Duration;

use log::{info, warn};
use tiny_http::Method;

use crate::client::is_forwarded;
use crate::client::{Peer, TrustedProxies, UnknownClient};
use crate::clock::{Clock, Timestamp};
use crate::http::{Handler, Head, Rejection, Request, Response};
use crate::protocol::{Concurrency, Protocol};
use crate::rate_limit::{RateLimit, RateLimiter};
use crate::session::{Content, Session, SessionId};
use crate::store::{CreateError, Store};
use msc4388::Stability;

/// Where MSC3886 lives on a homeserver's host name (its "Unstable prefix").
pub const MSC3886_PATH: &str = "/_matrix/client/unstable/org.matrix.msc3886/rendezvous";

/// Where MSC4108 lives there.
pub const MSC4108_PATH: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";

/// Where MSC4388 lives there while it is not accepted.
pub const MSC4388_PATH: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

/// Where MSC4388 will live once it is.
pub const STABLE_PATH: &str = "/_matrix/client/v1/rendezvous";

/// The largest payload of the sign-in protocols, in bytes, as MSC4108 and
/// MSC4388 fix it.
pub const SIGN_IN_MAX_BYTES: usize = 4096;

/// What the operator decides about the protocols.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path of ours that homeservers redirect to: empty, or beginning
    /// and not ending with a slash.
    pub prefix: String,
    /// The URL, without a slash at its end, that clients reach us at; without
    /// it `Location` is a path and `url` is made of the request's host.
    pub public_url: Option<String>,
    /// Whose word about scheme, host and client is taken.
    pub trusted_proxies: TrustedProxies,
    /// How long a MSC3886 session lives after its last write.
    pub ttl: Duration,
    /// How long a MSC4108 or MSC4388 session lives.
    pub sign_in_ttl: Duration,
    /// The largest MSC3886 payload, in bytes.
    pub max_bytes: usize,
    /// How many sessions one client may create.
    pub rate_limit: RateLimit,
    /// Whether there is a page that checks all this.
    pub check_page: bool,
}

/// The protocols on top of one store.
#[derive(Debug)]
pub struct Api {
    store: Arc<Store>,
    clock: Clock,
    rate_limiter: RateLimiter,
    settings: Settings,
    counters: Counters,
    noted_program: Once,
    warned_of_proxy: Once,
}

/// What a path below one of ours is spoken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// The target of homeservers' redirects: MSC3886 or MSC4108, as the
    /// client has it.
    Redirected,
    Msc3886,
    Msc4108,
    Msc4388(Stability),
}

impl Wire {
    /// The protocol that a create with this head speaks.
    fn protocol(self, head: &Head<'_, '_>) -> Protocol {
        self.only().unwrap_or_else(|| tagged::protocol_of(head))
    }

    /// The protocol, where there is but one.
    fn only(self) -> Option<Protocol> {
        match self {
            Self::Redirected => None,
            Self::Msc3886 => Some(Protocol::Msc3886),
            Self::Msc4108 => Some(Protocol::Msc4108),
            Self::Msc4388(_) => Some(Protocol::Msc4388),
        }
    }
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    /// The page that checks the rest.
    Check,
    /// Where sessions are created.
    Create,
    /// A session, if there can be one of that name.
    Session(Option<SessionId>),
    /// A write to a session under a name of its own, MSC4388 only.
    Transaction(Option<SessionId>, &'a str),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route<'a> {
    wire: Wire,
    /// The path where sessions are created, without a slash at its end.
    base: &'a str,
    place: Place<'a>,
}

impl Api {
    /// Serves the sessions of `store`, whose times are those of `clock`.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock, settings: Settings) -> Self {
        Self {
            store,
            clock,
            rate_limiter: RateLimiter::new(settings.rate_limit),
            settings,
            counters: Counters::default(),
            noted_program: Once::new(),
            warned_of_proxy: Once::new(),
        }
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn route<'a>(&'a self, path: &'a str) -> Option<Route<'a>> {
        [
            (self.settings.prefix.as_str(), Wire::Redirected),
            (MSC4108_PATH, Wire::Msc4108),
            (STABLE_PATH, Wire::Msc4388(Stability::Stable)),
            (MSC4388_PATH, Wire::Msc4388(Stability::Unstable)),
            (MSC3886_PATH, Wire::Msc3886),
        ]
        .into_iter()
        .find_map(|(base, wire)| {
            let place = match path.strip_prefix(base)? {
                "" | "/" => Place::Create,
                // No session's name: those are longer.
                "/check" | "/check/" if wire == Wire::Redirected && self.settings.check_page => {
                    Place::Check
                }
                rest => match rest.strip_prefix('/')?.split_once('/') {
                    None => Place::Session(SessionId::parse(&rest[1..])),
                    Some((id, name)) if matches!(wire, Wire::Msc4388(_)) && !name.contains('/') => {
                        Place::Transaction(SessionId::parse(id), name)
                    }
                    Some(_) => return None,
                },
            };
            Some(Route { wire, base, place })
        })
    }

    fn create(
        &self,
        route: Route<'_>,
        protocol: Protocol,
        request: &Request<'_, '_>,
        peer: Peer,
    ) -> Response {
        if responses::is_coded(&request.head) {
            return responses::coded();
        }
        if let Err(wait) = self.acquire_creation(&request.head, peer) {
            Counters::count(&self.counters.rate_limited);
            return responses::rate_limited(protocol, wait);
        }
        match route.wire {
            Wire::Msc4388(_) => return self.msc4388_create(request),
            Wire::Msc3886 => return self.tagged_create(protocol, route.base, None, request),
            Wire::Redirected | Wire::Msc4108 => {}
        }
        let origin = self.settings.public_url.clone();
        let origin = origin.or_else(|| self.settings.trusted_proxies.origin(&request.head, peer));
        let url = origin.map(|origin| [origin.as_str(), route.base].concat());
        if url.is_none() && protocol == Protocol::Msc4108 {
            return responses::error(400, "M_MISSING_PARAM", "Host is required");
        }
        self.tagged_create(protocol, route.base, url.as_deref(), request)
    }

    /// Counts a create against its client's quota; if that is used up, says
    /// for how many milliseconds. A proxy that does not name its clients must
    /// not have all of them throttled as one.
    fn acquire_creation(&self, head: &Head<'_, '_>, peer: Peer) -> Result<(), u64> {
        match self.settings.trusted_proxies.client(head, peer) {
            Ok(client) => self
                .rate_limiter
                .try_acquire(client.client(), self.clock.now().monotonic_ms),
            Err(unknown) => {
                Counters::count(&self.counters.unknown_client);
                self.report_unknown(unknown, head, peer);
                Ok(())
            }
        }
    }

    /// Logs once why a proxy's clients have no quota, and once that a program
    /// on this machine has none, which needs no mending.
    fn report_unknown(&self, unknown: UnknownClient, head: &Head<'_, '_>, peer: Peer) {
        let on_loopback = matches!(peer, Peer::Ip(address) if address.is_loopback());
        if on_loopback && !is_forwarded(head) {
            self.noted_program.call_once(|| {
                info!(
                    "a program on this machine creates sessions: no quota applies to it (a proxy \
                     has to send X-Forwarded-For; without one, say --trusted-proxy none)"
                );
            });
            return;
        }
        self.warned_of_proxy.call_once(|| {
            warn!(
                "a trusted proxy does not tell which client creates sessions, and no quota \
                 applies to them: {}",
                self.settings.trusted_proxies.explain(unknown, peer)
            );
        });
    }

    /// Puts a session of the protocol into the store.
    fn open(
        &self,
        protocol: Protocol,
        content: Content,
        now: Timestamp,
    ) -> Result<(SessionId, Session), Response> {
        let lifetime = match protocol {
            Protocol::Msc3886 => self.settings.ttl,
            Protocol::Msc4108 | Protocol::Msc4388 => self.settings.sign_in_ttl,
        };
        self.store
            .create(content, protocol, lifetime, now)
            .map_err(|error| match error {
                CreateError::Full(wait) => responses::full(wait),
                CreateError::NoRandomness => {
                    Counters::count(&self.counters.rng_failures);
                    responses::error(503, "M_UNKNOWN", "The server has no random numbers")
                }
            })
    }

    /// A session that may be read: not by a browser that would show it.
    fn readable(
        &self,
        id: Option<SessionId>,
        concurrency: Concurrency,
        head: &Head<'_, '_>,
        now: Timestamp,
    ) -> Result<Session, Response> {
        if responses::navigates(head) {
            Counters::count(&self.counters.navigations_refused);
            return Err(responses::navigation_refused());
        }
        id.and_then(|id| self.store.read(id, concurrency, now))
            .ok_or_else(responses::not_found)
    }

    fn tagged(
        &self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
        spoken: &mut Option<Protocol>,
    ) -> Response {
        match request.head.method {
            Method::Get | Method::Head => self.tagged_read(id, request, spoken),
            Method::Put => self.tagged_write(id, request, spoken),
            Method::Delete => self.tagged_delete(id, spoken),
            _ => responses::method_not_allowed("GET, HEAD, PUT, DELETE, OPTIONS"),
        }
    }

    fn sequenced(
        &self,
        place: Place<'_>,
        stability: Stability,
        request: &Request<'_, '_>,
    ) -> Response {
        match (place, &request.head.method) {
            (Place::Create, Method::Get | Method::Head) => Self::msc4388_discover(),
            (Place::Create, _) => responses::method_not_allowed("GET, HEAD, POST, OPTIONS"),
            (Place::Session(id), Method::Get | Method::Head) => self.msc4388_read(id, request),
            (Place::Session(id), Method::Put) => self.msc4388_write(id, None, stability, request),
            (Place::Session(id), Method::Delete) => self.msc4388_delete(id),
            (Place::Session(_), _) => {
                responses::method_not_allowed("GET, HEAD, PUT, DELETE, OPTIONS")
            }
            (Place::Transaction(id, name), Method::Put) => {
                self.msc4388_write(id, Some(name), stability, request)
            }
            (Place::Transaction(..) | Place::Check, _) => {
                responses::method_not_allowed("PUT, OPTIONS")
            }
        }
    }

    /// The answer, and in `spoken` the protocol as far as path or session
    /// tell.
    fn dispatch(
        &self,
        request: &Request<'_, '_>,
        peer: Peer,
        spoken: &mut Option<Protocol>,
    ) -> Response {
        let Some(route) = self.route(request.head.path) else {
            return responses::unrouted(&request.head);
        };
        *spoken = route.wire.only();
        match (route.wire, route.place, &request.head.method) {
            (_, _, Method::Options) => responses::preflight(),
            (_, Place::Session(_) | Place::Transaction(..), Method::Put)
                if responses::is_coded(&request.head) =>
            {
                responses::coded()
            }
            (_, Place::Check, Method::Get | Method::Head) => check::page(),
            (_, Place::Check, _) => responses::method_not_allowed("GET, HEAD, OPTIONS"),
            (wire, Place::Create, Method::Post) => {
                let protocol = wire.protocol(&request.head);
                *spoken = Some(protocol);
                self.create(route, protocol, request, peer)
            }
            (Wire::Msc4388(stability), place, _) => self.sequenced(place, stability, request),
            (_, Place::Session(id), _) => self.tagged(id, request, spoken),
            _ => responses::method_not_allowed("POST, OPTIONS"),
        }
    }
}

impl Handler for Api {
    fn body_limit(&self, head: &Head<'_, '_>) -> usize {
        let either = self.settings.max_bytes.max(SIGN_IN_MAX_BYTES);
        let Some(route) = self.route(head.path) else {
            return either;
        };
        match (route.wire, route.place) {
            (Wire::Msc4388(_), _) => BODY_LIMIT,
            (wire, Place::Create) => self.max_bytes(wire.protocol(head)),
            _ => either,
        }
    }

    fn respond(&self, request: &Request<'_, '_>, peer: Peer) -> Response {
        let mut spoken = None;
        let response = self.dispatch(request, peer, &mut spoken);
        let requests = &self.counters.requests;
        requests.count(spoken, &request.head.method, response.status.0);
        response
    }

    fn reject(&self, rejection: Rejection) -> Response {
        self.counters.refused.count(rejection.status.0);
        let code = match rejection.status.0 {
            413 => "M_TOO_LARGE",
            _ => "M_UNKNOWN",
        };
        responses::error(rejection.status.0, code, rejection.reason)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::http::{Decoder, Status};

    fn api(prefix: &str) -> Api {
        api_with(prefix, 1)
    }

    fn api_with(prefix: &str, capacity: usize) -> Api {
        let store = Arc::new(Store::new(NonZeroUsize::new(capacity).unwrap()));
        let settings = Settings {
            prefix: prefix.into(),
            public_url: None,
            trusted_proxies: TrustedProxies::default(),
            ttl: Duration::from_secs(60),
            sign_in_ttl: Duration::from_secs(300),
            max_bytes: 4096,
            rate_limit: RateLimit {
                rate: 20,
                burst: 30,
            },
            check_page: true,
        };
        Api::new(store, Clock, settings)
    }

    const ID: &str = "-_v7-_v7-_v7-_v7-_v7-w";

    #[test]
    fn paths_lead_where_the_protocols_say() {
        let api = api("/rendezvous");
        for (base, wire) in [
            ("/rendezvous", Wire::Redirected),
            (MSC3886_PATH, Wire::Msc3886),
            (MSC4108_PATH, Wire::Msc4108),
            (MSC4388_PATH, Wire::Msc4388(Stability::Unstable)),
            (STABLE_PATH, Wire::Msc4388(Stability::Stable)),
        ] {
            let place = |rest: &str| {
                let path = format!("{base}{rest}");
                let route = api.route(&path)?;
                assert_eq!((route.wire, route.base), (wire, base));
                Some(match route.place {
                    Place::Check => "check".to_owned(),
                    Place::Create => "create".to_owned(),
                    Place::Session(id) => format!("session {}", id.is_some()),
                    Place::Transaction(id, name) => format!("{name} {}", id.is_some()),
                })
            };
            assert_eq!(place("").as_deref(), Some("create"));
            assert_eq!(place("/").as_deref(), Some("create"));
            assert_eq!(place(&format!("/{ID}")).as_deref(), Some("session true"));
            assert_eq!(place("/other").as_deref(), Some("session false"));
            let checks = wire == Wire::Redirected;
            let checked = if checks { "check" } else { "session false" };
            assert_eq!(place("/check").as_deref(), Some(checked));
            let transactions = matches!(wire, Wire::Msc4388(_));
            let checked = match (checks, transactions) {
                (true, _) => Some("check"),
                (_, true) => Some(" false"),
                _ => None,
            };
            assert_eq!(place("/check/").as_deref(), checked);
            let named = transactions.then_some("t.1 true");
            assert_eq!(place(&format!("/{ID}/t.1")).as_deref(), named);
            assert_eq!(place(&format!("/{ID}/t/1")), None);
            assert!(api.route(&format!("{base}x")).is_none());
        }
        for path in ["", "/", "*", "/_matrix", "/rendezvou"] {
            assert_eq!(api.route(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_refused_navigation_is_no_use_of_the_session() {
        let api = api_with("/rendezvous", 2);
        let create = |later| {
            let content = Content::new(b"x", "text/html").unwrap();
            let mut now = api.clock.now();
            now.monotonic_ms += later;
            let life = Duration::from_secs(60);
            api.store.create(content, Protocol::Msc3886, life, now)
        };
        let (older, _) = create(0).unwrap();
        let (newer, _) = create(0).unwrap();
        let mut decoder = Decoder::default();
        let path = format!("GET /rendezvous/{older}");
        let text = format!("{path} HTTP/1.1\r\nHost: x\r\nSec-Fetch-Dest: document\r\n\r\n");
        decoder.push(text.as_bytes());
        let step = decoder.step(|_| 0, |request| api.respond(request, Peer::Local));
        assert!(matches!(step, Ok(Status::Complete(response)) if response.status.0 == 403));
        create(20_000).unwrap();
        let now = api.clock.now();
        assert!(api.store.read(older, Concurrency::ETag, now).is_none());
        assert!(api.store.read(newer, Concurrency::ETag, now).is_some());
    }

    #[test]
    fn an_empty_prefix_serves_the_root_beside_the_matrix_paths() {
        let api = api("");
        let place = |path| api.route(path).map(|route| (route.wire, route.place));
        assert_eq!(place("/"), Some((Wire::Redirected, Place::Create)));
        assert_eq!(place("/x"), Some((Wire::Redirected, Place::Session(None))));
        assert_eq!(place(MSC3886_PATH), Some((Wire::Msc3886, Place::Create)));
        assert_eq!(place("/_matrix/client"), None);
    }
}
