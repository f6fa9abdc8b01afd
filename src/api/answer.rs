//! Answers that the protocols share.

use crate::http::{Body, Response};

/// On every answer of every path.
///
/// - The origin is `*` and never an echo: after a homeserver's redirect a
///   browser sends `Origin: null`.
/// - `no-store`: Chromium otherwise answers polls from its own cache.
///   `no-transform`: compressing proxies that heed it leave the `ETag` alone.
/// - MSC3886 takes any media type, on the homeserver's host name: the last
///   two keep a browser from running a payload.
const COMMON: &str = "Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Location, X-Max-Bytes\r\n\
    Cache-Control: no-store, no-transform\r\n\
    Pragma: no-cache\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: sandbox; default-src 'none'\r\n";

/// An answer with the fields that every answer has.
pub(super) fn plain(status: u16) -> Response {
    Response::new(status, COMMON)
}

/// A Matrix error body. The texts are ours and need no escaping.
pub(super) fn error(status: u16, code: &str, sentence: &str) -> Response {
    json(
        status,
        format!(r#"{{"errcode":"{code}","error":"{sentence}"}}"#),
    )
}

/// An answer with a JSON body.
pub(super) fn json(status: u16, text: String) -> Response {
    plain(status)
        .field("Content-Type", "application/json")
        .with(Body::Text(text))
}

/// The answer to a CORS preflight, good for a day.
pub(super) fn preflight() -> Response {
    plain(204)
        .field(
            "Access-Control-Allow-Methods",
            "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        )
        .field(
            "Access-Control-Allow-Headers",
            "Content-Type, If-Match, If-None-Match, Authorization, X-Requested-With",
        )
        .field("Access-Control-Max-Age", 86_400)
}

/// 405 with what the path does understand.
pub(super) fn method_not_allowed(allow: &str) -> Response {
    error(
        405,
        "M_UNRECOGNIZED",
        "The path does not understand this method",
    )
    .field("Allow", allow)
}
