//! The page at `{prefix}/check`, with which an operator sees whether the
//! rendezvous works through their proxy, and what to change if not.
//!
//! It is served at `{prefix}/check/` as well, and its script finds the prefix
//! from either. A redirect would not do: a proxy or CDN that adds the slash by
//! a redirect of its own would send the browser back for ever.

use super::settings::BODY_LIMIT;
use crate::http::{Body, Response};

/// The page. Its script goes through the protocols twice: from this origin,
/// and from a frame that has none and so meets CORS as a web client does.
const PAGE: &str = include_str!("check.html");

/// The page costs no more memory than the largest response of a protocol.
const _: () = assert!(PAGE.len() <= 20_000 && PAGE.len() < BODY_LIMIT);

/// - The hashes let the page's own style and script through and nothing else
///   (CSP level 3, section 2.3.1); the frame inherits them and has the same
///   script.
/// - It may connect anywhere, for the homeserver may be anywhere.
/// - The page is for people: no other site may read it or frame it.
/// - A CDN that rewrites HTML would break the hashes, unless told not to.
const FIELDS: &str = concat!(
    "Content-Type: text/html; charset=utf-8\r\n",
    "Content-Security-Policy: default-src 'none'; ",
    "style-src 'sha256-iSg8WK5rSjtryHgq41loG9xrj93P8Cl1QlMvkFEP5RM='; ",
    "script-src 'sha256-n3RVhW/mnl9+wuQV9yoXMPJv1Ua4BbjY94kzQkkplts='; ",
    "connect-src http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
    "Cache-Control: no-store, no-transform\r\n",
    "X-Content-Type-Options: nosniff\r\n",
    "Referrer-Policy: no-referrer\r\n",
);

/// The response with the page.
pub(super) fn page() -> Response {
    Response::new(200, FIELDS).with(Body::Fixed(PAGE))
}
