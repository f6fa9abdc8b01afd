//! Responses that the protocols share.

use std::str;
use std::time::Duration;

use httpdate::HttpDate;

use crate::clock::Timestamp;
use crate::http::{Answer, Body, Head, Response};
use crate::protocol::Protocol;
use crate::session::{Revision, Session};

/// An answer, and the protocol that it is counted under, if that is known.
#[derive(Debug)]
pub(super) struct ProtocolAnswer {
    pub(super) protocol: Option<Protocol>,
    pub(super) answer: Answer,
}

impl ProtocolAnswer {
    pub(super) fn new(protocol: Protocol, answer: impl Into<Answer>) -> Self {
        Self {
            protocol: Some(protocol),
            answer: answer.into(),
        }
    }
}

impl From<Answer> for ProtocolAnswer {
    fn from(answer: Answer) -> Self {
        Self {
            protocol: None,
            answer,
        }
    }
}

impl From<Response> for ProtocolAnswer {
    fn from(response: Response) -> Self {
        Answer::from(response).into()
    }
}

/// The header fields of every response.
///
/// - The origin is `*` and never an echo: after a homeserver's redirect a
///   browser sends `Origin: null`.
/// - `no-store`: Chromium otherwise answers polls from its own cache.
///   `no-transform`: compressing proxies that heed it leave the `ETag` alone.
/// - MSC3886 takes any media type, on the homeserver's host name: the last
///   two keep a browser from running a payload.
const COMMON: &str = "Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: ETag, Location, X-Max-Bytes, Retry-After\r\n\
    Cache-Control: no-store, no-transform\r\n\
    Pragma: no-cache\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: sandbox; default-src 'none'\r\n";

/// A response with the fields that every response has.
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

/// A response with a JSON body.
pub(super) fn json(status: u16, text: String) -> Response {
    plain(status)
        .field("Content-Type", "application/json")
        .with(Body::Text(text))
}

/// The response to a CORS preflight, good for a day. A browser caches it for as
/// long, so it allows `Prefer` (RFC 7240) before a client sends it.
pub(super) fn preflight() -> Response {
    plain(204)
        .field(
            "Access-Control-Allow-Methods",
            "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        )
        .field(
            "Access-Control-Allow-Headers",
            "Content-Type, If-Match, If-None-Match, Authorization, X-Requested-With, Prefer",
        )
        .field("Access-Control-Max-Age", "86400")
}

/// 405 with the methods of the path.
pub(super) fn method_not_allowed(allow: &str) -> Response {
    error(
        405,
        "M_UNRECOGNIZED",
        "The path does not understand this method",
    )
    .field("Allow", allow)
}

/// The response at a path of no protocol.
pub(super) fn no_route(head: &Head<'_, '_>) -> Response {
    let sentence = match head.path {
        "/" => "This is rendezvousd, for Matrix clients; its manual is rendezvousd(8)",
        _ => "There is nothing at this path",
    };
    error(404, "M_UNRECOGNIZED", sentence)
}

pub(super) fn not_found() -> Response {
    error(404, "M_NOT_FOUND", "There is no such session, or no longer")
}

/// 404 for a session of another node. The check page knows it by its sentence.
pub(super) fn of_another_node() -> Response {
    error(404, "M_NOT_FOUND", "The session is on another node")
}

/// Whether a request has a content coding. A list or an empty value counts
/// as one, and so does any on an empty body: only `identity` alone does not.
pub(super) fn has_content_encoding(head: &Head<'_, '_>) -> bool {
    let mut codings = head.values("Content-Encoding");
    codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// 415 for a content coding. Responses do not repeat it, so a payload kept as it
/// came would be another message. `Accept-Encoding` says what is accepted (RFC
/// 9110, section 12.5.3).
pub(super) fn unsupported_content_encoding() -> Response {
    error(415, "M_UNKNOWN", "The body must have no Content-Encoding")
        .field("Accept-Encoding", "identity")
}

pub(super) fn too_large() -> Response {
    error(413, "M_TOO_LARGE", "The payload is too large")
}

/// 429: the client has created as many sessions as it may.
pub(super) fn rate_limited(protocol: Protocol, wait: u64) -> Response {
    let code = match protocol {
        Protocol::Msc4388 => "M_LIMIT_EXCEEDED",
        Protocol::Msc3886 | Protocol::Msc4108 => "M_UNKNOWN",
    };
    again_later(429, code, "Too many sessions were created", wait)
}

/// 503: the store has no session to give up.
pub(super) fn full(wait: u64) -> Response {
    again_later(503, "M_UNKNOWN", "All sessions are in use", wait)
}

/// 503: the server is about to stop. Another node takes the request at once if
/// there is one; if not, this one is back after a while.
pub(super) fn draining() -> Response {
    again_later(503, "M_UNKNOWN", "This server is about to stop", 1_000)
}

/// An error that ends in `wait` milliseconds, in HTTP's words (RFC 9110,
/// section 10.2.3) and in Matrix's.
fn again_later(status: u16, code: &str, sentence: &str, wait: u64) -> Response {
    let body = format!(r#"{{"errcode":"{code}","error":"{sentence}","retry_after_ms":{wait}}}"#);
    json(status, body).formatted("Retry-After", wait.div_ceil(1_000))
}

/// 304: the client knows the present revision.
pub(super) fn not_modified(session: &Session, now: Timestamp) -> Response {
    state(plain(304), session, now)
}

/// 200 with the payload.
pub(super) fn payload(session: Session, now: Timestamp) -> Response {
    let response =
        state(plain(200), &session, now).field("Content-Type", &session.content.media_type());
    let (bytes, length) = session.content.into_payload();
    response.with(Body::Pooled(bytes, length))
}

/// Adds the fields that describe a session. matrix-rust-sdk wants all three on
/// every response below 400, 304 too.
pub(super) fn state(response: Response, session: &Session, now: Timestamp) -> Response {
    let date = |monotonic_ms| HttpDate::from(now.system_time_at(monotonic_ms));
    let mut etag = [b'"'; Revision::LENGTH + 2];
    etag[1..=Revision::LENGTH].copy_from_slice(&session.revision.to_text());
    response
        .field("ETag", str::from_utf8(&etag).unwrap_or_default())
        .formatted("Expires", date(session.expires_at))
        .formatted("Last-Modified", date(session.modified_at))
}

/// Says that the client's preference decided how long it had to wait (RFC 7240,
/// section 3).
pub(super) fn preference_applied(response: Response, wait: Option<Duration>) -> Response {
    match wait {
        Some(wait) => response.formatted(
            "Preference-Applied",
            format_args!("wait={}", wait.as_secs()),
        ),
        None => response,
    }
}

/// Whether a browser would show the response as a page. MSC4388 asks servers
/// to refuse that; MSC3886 payloads, of any type and on the homeserver's
/// host name, need it as much.
pub(super) fn navigates(head: &Head<'_, '_>) -> bool {
    head.fields()
        .filter(|(name, _)| name.len() == "Sec-Fetch-Dest".len())
        .any(|(name, value)| {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            (is("Sec-Fetch-Dest") && value != b"empty")
                || (is("Sec-Fetch-Mode") && value == b"navigate")
                || (is("Sec-Fetch-User") && value == b"?1")
                || (is("Sec-Fetch-Site") && value == b"none")
        })
}

pub(super) fn navigation_refused() -> Response {
    error(
        403,
        "M_FORBIDDEN",
        "A rendezvous is for programs and not shown in a browser",
    )
}
