//! The handler of the protocols: routes a request once and passes it on.

use std::sync::Arc;

use tiny_http::Method;

use super::check;
use super::context::Context;
use super::creation_limit::CreationLimit;
use super::etag_api::{EtagApi, protocol_of};
use super::responses::{self, ProtocolAnswer};
use super::route::{Endpoint, Resource, Route};
use super::settings::Settings;
use super::token_api::TokenApi;
use crate::client::Peer;
use crate::clock::Clock;
use crate::draining::Draining;
use crate::http::{Answer, Handler, Head, Rejection, Request, Response, WakerSource};
use crate::metrics::{Counters, Purpose};
use crate::protocol::Protocol;
use crate::store::Store;

#[cfg(test)]
mod tests;

/// The protocols on top of one store.
#[derive(Debug)]
pub struct Api {
    context: Arc<Context>,
    creation_limit: CreationLimit,
}

impl Api {
    /// Serves the sessions of `store`, whose times are those of `clock`.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock, settings: Settings) -> Self {
        Self {
            creation_limit: CreationLimit::new(settings.rate_limit),
            context: Arc::new(Context {
                store,
                clock,
                settings,
                counters: Arc::default(),
                draining: Arc::default(),
            }),
        }
    }

    /// What has been counted so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.context.counters
    }

    /// How far a stop has come.
    #[must_use]
    pub fn draining(&self) -> &Arc<Draining> {
        &self.context.draining
    }

    fn etag_api(&self) -> EtagApi<'_> {
        EtagApi {
            context: &self.context,
        }
    }

    /// The response to a request with this route. Its protocol is the one that
    /// the session or a create tells, where the path does not.
    fn dispatch(
        &self,
        route: Route<'_>,
        request: &Request<'_, '_>,
        peer: Peer,
        waker: WakerSource<'_>,
    ) -> ProtocolAnswer {
        let head = &request.head;
        match (route.endpoint, route.resource, &head.method) {
            (_, _, Method::Options) => responses::preflight().into(),
            (_, Resource::ForeignSession, _) => {
                self.context.counters.foreign_sessions.increment();
                responses::of_another_node().into()
            }
            (_, Resource::Session(_) | Resource::Transaction(..), Method::Put)
                if responses::has_content_encoding(head) =>
            {
                responses::unsupported_content_encoding().into()
            }
            (_, Resource::Check, Method::Get | Method::Head) => check::page().into(),
            (_, Resource::CheckFacts, Method::Get | Method::Head) => {
                check::facts(&self.context.settings, head, peer).into()
            }
            (_, Resource::Check | Resource::CheckFacts, _) => {
                responses::method_not_allowed("GET, HEAD, OPTIONS").into()
            }
            (endpoint, Resource::Create, Method::Post) => {
                let protocol = endpoint.protocol().unwrap_or_else(|| protocol_of(head));
                ProtocolAnswer::new(protocol, self.create(route, protocol, request, peer))
            }
            (Endpoint::Msc4388(stability), resource, _) => {
                let context = &self.context;
                TokenApi { context, stability }
                    .respond(resource, request)
                    .into()
            }
            (_, Resource::Session(id), _) => self.etag_api().respond(id, request, waker),
            (Endpoint::Redirected, Resource::Create, _) => {
                check::redirect(&self.context.settings, head)
                    .unwrap_or_else(|| responses::method_not_allowed("POST, OPTIONS"))
                    .into()
            }
            _ => responses::method_not_allowed("POST, OPTIONS").into(),
        }
    }

    /// The response at a path of no protocol. With `OPTIONS *` load balancers ask
    /// whether the server is there (RFC 9110, section 9.3.7).
    fn no_route(&self, head: &Head<'_, '_>) -> Response {
        if head.path == "*" && head.method == Method::Options {
            return if self.context.draining.has_begun() {
                responses::draining()
            } else {
                responses::plain(204)
            };
        }
        if head.path == "/" {
            if let Some(redirect) = check::redirect(&self.context.settings, head) {
                return redirect;
            }
        }
        if !is_check(None, head) {
            self.context.counters.unknown_paths.increment();
        }
        responses::no_route(head)
    }

    fn create(
        &self,
        route: Route<'_>,
        protocol: Protocol,
        request: &Request<'_, '_>,
        peer: Peer,
    ) -> Result<Response, Answer> {
        let (context, head) = (&self.context, &request.head);
        if context.draining.refuses_creations() {
            context.counters.draining.increment();
            return Err(responses::draining().into());
        }
        if responses::has_content_encoding(head) {
            return Err(responses::unsupported_content_encoding().into());
        }
        // A creation counts once, when it is complete.
        request.body(context.settings.body_limit(protocol))?;
        let client = self
            .creation_limit
            .try_acquire(context, head, peer)
            .map_err(|wait| {
                context.counters.rate_limited.increment();
                responses::rate_limited(protocol, wait)
            })?;
        let path = route.create_path;
        let url = match route.endpoint {
            Endpoint::Msc4388(stability) => {
                return TokenApi { context, stability }.create(request, client);
            }
            Endpoint::Msc3886 => None,
            Endpoint::Redirected | Endpoint::Msc4108 => self.url(path, head, peer),
        };
        if url.is_none() && protocol == Protocol::Msc4108 {
            return Err(responses::error(400, "M_MISSING_PARAM", "Host is required").into());
        }
        self.etag_api()
            .create(protocol, path, url.as_deref(), request, client)
    }

    /// The URL of a path of ours as the client sees it, if that is known.
    fn url(&self, path: &str, head: &Head<'_, '_>, peer: Peer) -> Option<String> {
        let settings = &self.context.settings;
        let origin = settings.public_url.clone().or_else(|| {
            let proxies = &settings.trusted_proxies;
            proxies.origin(head.fields(), head.host, peer)
        });
        origin.map(|origin| [origin.as_str(), path].concat())
    }
}

/// Whether a request asks how the server is, and is no client's: it has no path
/// of a protocol, as those of load balancers (`OPTIONS *`, `GET /`), or one of
/// the check page. A client can create sessions at `/`, if that is the prefix.
fn is_check(route: Option<Route<'_>>, head: &Head<'_, '_>) -> bool {
    let checks =
        |route: Route<'_>| matches!(route.resource, Resource::Check | Resource::CheckFacts);
    (matches!(head.path, "/" | "*") && head.method != Method::Post) || route.is_some_and(checks)
}

impl Handler for Api {
    fn respond(&self, request: &Request<'_, '_>, peer: Peer, waker: WakerSource<'_>) -> Answer {
        let route = Route::find(request.head.path, &self.context.settings);
        let ProtocolAnswer { protocol, answer } = match route {
            Some(route) => self.dispatch(route, request, peer, waker),
            None => self.no_route(&request.head).into(),
        };
        // A held one counts once it is answered.
        if let Answer::Response(response) = &answer {
            let protocol = protocol.or_else(|| route?.endpoint.protocol());
            let purpose = match protocol {
                _ if is_check(route, &request.head) => Purpose::Check,
                Some(protocol) => Purpose::Protocol(protocol),
                None => Purpose::Unknown,
            };
            let requests = &self.context.counters.requests;
            requests.count(purpose, &request.head.method, response.status.0);
        }
        answer
    }

    fn reject(&self, rejection: Rejection) -> Response {
        let code = match rejection.status.0 {
            413 => "M_TOO_LARGE",
            _ => "M_UNKNOWN",
        };
        responses::error(rejection.status.0, code, rejection.reason)
    }
}
