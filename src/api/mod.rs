//! What goes over the wire: routes, errors, CORS; one file a protocol. A
//! request and the store in, a response out, no I/O.

mod answer;
mod msc3886;
mod tag;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tiny_http::Method;

use crate::clock::Clock;
use crate::http::{Handler, Head, Refusal, Request, Response};
use crate::session::SessionId;
use crate::store::Store;

/// Where MSC3886 lives on a homeserver's host name (its "Unstable prefix").
pub const MSC3886_PATH: &str = "/_matrix/client/unstable/org.matrix.msc3886/rendezvous";

/// What the operator decides about the protocols.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path of ours that homeservers redirect to: empty, or beginning
    /// and not ending with a slash.
    pub prefix: String,
    /// The URL, without a slash at its end, that clients reach us at; without
    /// it `Location` is a path.
    pub public_url: Option<String>,
    /// How long a MSC3886 session lives after its last write.
    pub ttl: Duration,
    /// The largest MSC3886 payload, in bytes.
    pub max_bytes: usize,
}

/// What the protocols have seen since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entity tags that a proxy had changed and that were read regardless.
    pub tag_repairs: AtomicU64,
    /// Reads refused because a browser would have shown the payload.
    pub navigations_refused: AtomicU64,
    /// Writes refused because another came first.
    pub conflicts: AtomicU64,
}

impl Counters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The protocols on top of one store.
#[derive(Debug)]
pub struct Api {
    store: Arc<Store>,
    clock: Clock,
    settings: Settings,
    counters: Counters,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    /// Where sessions are created, without a slash at its end.
    Create(&'a str),
    /// A session, if there can be one of that name.
    Session(Option<SessionId>),
}

impl Api {
    /// Serves the sessions of `store`, whose times are those of `clock`.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock, settings: Settings) -> Self {
        Self {
            store,
            clock,
            settings,
            counters: Counters::default(),
        }
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn route(&self, path: &str) -> Option<Route<'_>> {
        [MSC3886_PATH, self.settings.prefix.as_str()]
            .into_iter()
            .find_map(|base| match path.strip_prefix(base)? {
                "" | "/" => Some(Route::Create(base)),
                rest => {
                    let name = rest.strip_prefix('/')?;
                    (!name.contains('/')).then(|| Route::Session(SessionId::parse(name)))
                }
            })
    }
}

impl Handler for Api {
    fn body_limit(&self, _head: &Head<'_, '_>) -> usize {
        self.settings.max_bytes
    }

    fn answer(&self, request: &Request<'_, '_>) -> Response {
        let Some(route) = self.route(request.head.path) else {
            return answer::error(404, "M_UNRECOGNIZED", "There is nothing at this path");
        };
        match (route, &request.head.method) {
            (_, Method::Options) => answer::preflight(),
            (Route::Create(base), Method::Post) => self.msc3886_create(base, request),
            (Route::Create(_), _) => answer::method_not_allowed("POST, OPTIONS"),
            (Route::Session(id), Method::Get | Method::Head) => self.msc3886_read(id, request),
            (Route::Session(id), Method::Put) => self.msc3886_write(id, request),
            (Route::Session(id), Method::Delete) => self.msc3886_delete(id),
            (Route::Session(_), _) => answer::method_not_allowed("GET, HEAD, PUT, DELETE, OPTIONS"),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        let code = match refusal.status.0 {
            413 => "M_TOO_LARGE",
            _ => "M_UNKNOWN",
        };
        answer::error(refusal.status.0, code, refusal.reason)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn api(prefix: &str) -> Api {
        let store = Arc::new(Store::new(NonZeroUsize::MIN));
        let settings = Settings {
            prefix: prefix.into(),
            public_url: None,
            ttl: Duration::from_secs(60),
            max_bytes: 4096,
        };
        Api::new(store, Clock::start(), settings)
    }

    #[test]
    fn paths_lead_where_the_protocols_say() {
        let api = api("/rendezvous");
        let id = "-_v7-_v7-_v7-_v7-_v7-w";
        let session = Some(Route::Session(SessionId::parse(id)));
        for base in [MSC3886_PATH, "/rendezvous"] {
            assert_eq!(api.route(base), Some(Route::Create(base)));
            assert_eq!(api.route(&format!("{base}/")), Some(Route::Create(base)));
            assert_eq!(api.route(&format!("{base}/{id}")), session);
            let other = api.route(&format!("{base}/other"));
            assert_eq!(other, Some(Route::Session(None)));
            assert_eq!(api.route(&format!("{base}/{id}/")), None);
            assert_eq!(api.route(&format!("{base}x")), None);
        }
        for path in ["", "/", "*", "/_matrix", "/rendezvou"] {
            assert_eq!(api.route(path), None, "{path:?}");
        }
    }

    #[test]
    fn an_empty_prefix_serves_the_root_beside_the_matrix_paths() {
        let api = api("");
        assert_eq!(api.route("/"), Some(Route::Create("")));
        assert_eq!(api.route("/x"), Some(Route::Session(None)));
        assert_eq!(api.route(MSC3886_PATH), Some(Route::Create(MSC3886_PATH)));
        assert_eq!(api.route("/_matrix/client"), None);
    }
}
