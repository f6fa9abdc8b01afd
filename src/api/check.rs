//! The page at `{prefix}/check`, with which an operator sees whether the
//! rendezvous works through their proxy, and what to change if not.
//!
//! It is served at `{prefix}/check/` as well, and its script finds the prefix
//! from either. A redirect would not do: a proxy or CDN that adds the slash by
//! a redirect of its own would send the browser back for ever.

use std::borrow::Cow;

use tiny_http::Method;

use super::responses;
use super::settings::{BODY_LIMIT, Settings};
use crate::client::{Peer, UnknownClient, is_forwarded};
use crate::http::{Body, HEAD_LIMIT, Head, Response};

/// The page `check.html` by `gzip -9n`; a test holds the two together. Its script
/// goes through the protocols twice: from this origin, and from a frame that has
/// none and so meets CORS as a web client does.
const PAGE: &[u8] = include_bytes!("check.html.gz");

/// The page costs no more memory than the largest response that connections
/// have room for.
const _: () = assert!(PAGE.len() + FIELDS.len() + 1024 <= BODY_LIMIT + HEAD_LIMIT);

/// - The hashes let the page's own style and script through and nothing else
///   (CSP level 3, section 2.3.1); the frame inherits them and has the same
///   script. Its icon is part of it.
/// - It may connect anywhere, for the homeserver may be anywhere.
/// - The page is for people: no other site may read it or frame it.
/// - A CDN that rewrites HTML would break the hashes, unless told not to.
/// - Every browser takes gzip, so there is no other form of it.
const FIELDS: &str = concat!(
    "Content-Type: text/html; charset=utf-8\r\n",
    "Content-Security-Policy: default-src 'none'; ",
    "style-src 'sha256-/7SaO8NE4DJFyHXNXDD9d0gDx7mdJ/WFUVU3jj6faPA='; ",
    "script-src 'sha256-g9STD51yjPzTAeSVrzcCYSC928PIUo4TpUw6wnBGsYg='; ",
    "img-src data:; connect-src http: https:; ",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
    "Cache-Control: no-store, no-transform\r\n",
    "Content-Encoding: gzip\r\n",
    "X-Content-Type-Options: nosniff\r\n",
    "Referrer-Policy: no-referrer\r\n",
);

/// Unlike those of the protocols, without CORS: no other site may read it.
const FACTS_FIELDS: &str = "Content-Type: application/json\r\n\
    Cache-Control: no-store, no-transform\r\n\
    X-Content-Type-Options: nosniff\r\n";

/// The response with the page.
pub(super) fn page() -> Response {
    Response::new(200, FIELDS).with(Body::Fixed(PAGE))
}

/// A redirect to the page for a browser that asks for a path of programs.
pub(super) fn redirect(settings: &Settings, head: &Head<'_, '_>) -> Option<Response> {
    let reads = matches!(head.method, Method::Get | Method::Head);
    let html = |value: &[u8]| value.windows(9).any(|part| part == b"text/html");
    if !settings.check_page || !reads || !head.values("Accept").any(html) {
        return None;
    }
    let origin = settings.public_url.as_deref().unwrap_or_default();
    let page = [origin, &settings.prefix, "/check"].concat();
    Some(responses::plain(302).field("Location", &page))
}

/// What the page cannot find out by itself, as JSON: the address that this
/// client counts as, and what is to change if that is not the client's.
pub(super) fn facts(settings: &Settings, head: &Head<'_, '_>, peer: Peer) -> Response {
    let (address, advice) = client(settings, head, peer);
    let quoted = |text: Option<Cow<'_, str>>| match text {
        Some(text) => format!("\"{text}\""),
        None => "null".into(),
    };
    let text = format!(
        r#"{{"address":{},"advice":{},"long_poll_ms":{}}}"#,
        quoted(address.map(Cow::Owned)),
        quoted(advice),
        settings.long_poll.as_millis(),
    );
    Response::new(200, FACTS_FIELDS).with(Body::Text(text))
}

/// The address that the client counts as, and what to change about it. The
/// texts need no escaping.
fn client(
    settings: &Settings,
    head: &Head<'_, '_>,
    peer: Peer,
) -> (Option<String>, Option<Cow<'static, str>>) {
    let proxies = &settings.trusted_proxies;
    let shown = |peer| match peer {
        Peer::Ip(address) => Some(address.to_string()),
        Peer::Local => None,
    };
    match proxies.client(head.fields(), peer) {
        Ok(Peer::Local) => (
            None,
            Some("if a proxy uses the Unix socket, add --trusted-proxy unix".into()),
        ),
        Ok(Peer::Ip(address)) if !proxies.include(peer) && is_forwarded(head.fields()) => {
            let advice = format!(
                "a proxy has passed this on; if {address} is that proxy, add --trusted-proxy {address}"
            );
            (shown(peer), Some(advice.into()))
        }
        Ok(client) => (shown(client), None),
        Err(unknown) => {
            let address = match unknown {
                UnknownClient::Loopback(hop) => Some(hop.to_string()),
                _ => None,
            };
            (address, Some(proxies.explain(unknown, peer).into()))
        }
    }
}
