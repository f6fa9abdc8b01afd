//! The family of entity tags: MSC3886, "Simple client rendezvous capability",
//! in its text of 2024-02, and MSC4108, "Mechanism to allow OAuth 2.0 sign in
//! with QR code", in its text of 2024 that shipped clients speak. They differ
//! in how a session is created and in what it takes; the rest is one.

use httpdate::HttpDate;
use tiny_http::Method;

use super::responses::{error, json, not_found, plain, too_large};
use super::tag::{IfMatch, if_match, if_none_match};
use super::{Api, Counters, SIGN_IN_MAX_BYTES};
use crate::clock::Timestamp;
use crate::http::{Body, Framing, Head, Request, Response};
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Session, SessionId};
use crate::store::WriteError;

const TEXT_PLAIN: &str = "text/plain";

impl Api {
    /// Creates a session below `base`. `url`, for the wires that want it, is
    /// the address of `base` as the client sees it.
    pub(super) fn tagged_create(
        &self,
        protocol: Protocol,
        base: &str,
        url: Option<&str>,
        request: &Request<'_, '_>,
    ) -> Response {
        let content = match self.content(protocol, request) {
            Ok(content) => content,
            Err(response) => return response,
        };
        let now = self.clock.now();
        let (id, session) = match self.open(protocol, content, now) {
            Ok(opened) => opened,
            Err(response) => return response,
        };
        let origin = self.settings.public_url.as_deref().unwrap_or_default();
        let response = match url {
            // Its characters need no escaping: see the checks of hosts.
            Some(url) => json(
                201,
                [r#"{"url":""#, url, "/", &id.to_string(), r#""}"#].concat(),
            ),
            None => plain(201),
        };
        state(response, &session, now)
            .field("Location", format_args!("{origin}{base}/{id}"))
            .field("X-Max-Bytes", self.max_bytes(protocol))
    }

    pub(super) fn tagged_read(
        &self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
        spoken: &mut Option<Protocol>,
    ) -> Response {
        let now = self.clock.now();
        let head = &request.head;
        let session = match self.readable(id, Concurrency::ETag, head, now) {
            Ok(session) => session,
            Err(response) => return response,
        };
        *spoken = Some(session.protocol);
        if let Some(tag) = if_none_match(head, session.revision) {
            self.count_normalized(tag.repaired);
            return state(plain(304), &session, now);
        }
        if let Some(id) = id
            && head.method == Method::Get
            && session.is_untouched()
        {
            self.store.note_fetch(id);
        }
        state(plain(200), &session, now)
            .field("Content-Type", session.content.media_type())
            .with(Body::Content(session.content))
    }

    pub(super) fn tagged_write(
        &self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
        spoken: &mut Option<Protocol>,
    ) -> Response {
        let tag = match if_match(&request.head) {
            IfMatch::Tag(tag) => tag,
            IfMatch::Absent => return error(400, "M_MISSING_PARAM", "If-Match is required"),
            IfMatch::Malformed => {
                return error(400, "M_INVALID_PARAM", "If-Match is not one entity tag");
            }
        };
        let now = self.clock.now();
        // What may be written depends on the protocol, which never changes.
        let found = id.and_then(|id| Some((id, self.store.protocol(id, Concurrency::ETag, now)?)));
        let Some((id, protocol)) = found else {
            return not_found();
        };
        *spoken = Some(protocol);
        let content = match self.content(protocol, request) {
            Ok(content) => content,
            Err(response) => return response,
        };
        match self.store.write(id, tag.revision, content, now) {
            Ok(session) => {
                self.count_normalized(tag.repaired);
                // The type is there because a CDN strips the ETag of an
                // answer without one.
                state(plain(202), &session, now).field("Content-Type", TEXT_PLAIN)
            }
            Err(WriteError::NotFound) => not_found(),
            Err(WriteError::Conflict(session)) => {
                Counters::count(&self.counters.conflicts);
                state(conflict(protocol), &session, now)
            }
        }
    }

    pub(super) fn tagged_delete(
        &self,
        id: Option<SessionId>,
        spoken: &mut Option<Protocol>,
    ) -> Response {
        let now = self.clock.now();
        *spoken = id
            .and_then(|id| self.store.protocol(id, Concurrency::ETag, now))
            .or(*spoken);
        match id {
            Some(id) if self.store.delete(id, Concurrency::ETag, now) => plain(204),
            _ => not_found(),
        }
    }

    /// The largest payload of a protocol, in bytes.
    pub(super) fn max_bytes(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Msc3886 => self.settings.max_bytes,
            Protocol::Msc4108 | Protocol::Msc4388 => SIGN_IN_MAX_BYTES,
        }
    }

    /// What a create or a write brings, as the protocol wants it. Without a
    /// length the body is empty (RFC 9112, section 6.3); MSC3886 asks for one.
    fn content(&self, protocol: Protocol, request: &Request<'_, '_>) -> Result<Content, Response> {
        if request.head.framing == Framing::Absent && protocol == Protocol::Msc3886 {
            return Err(error(400, "M_MISSING_PARAM", "Content-Length is required"));
        }
        if request.body.len() > self.max_bytes(protocol) {
            return Err(too_large());
        }
        let declared = request.head.value("Content-Type").unwrap_or_default();
        if protocol == Protocol::Msc4108 && declared.is_empty() {
            return Err(error(400, "M_MISSING_PARAM", "Content-Type is required"));
        }
        media_type(declared)
            .filter(|kept| protocol != Protocol::Msc4108 || *kept == TEXT_PLAIN)
            .and_then(|kept| Content::new(request.body, kept))
            .ok_or_else(|| error(400, "M_INVALID_PARAM", "Content-Type is not one taken here"))
    }

    fn count_normalized(&self, repaired: bool) {
        if repaired {
            Counters::count(&self.counters.etags_normalized);
        }
    }
}

/// What a create at the redirect target is: both protocols come there, and
/// only MSC4108 clients write `text/plain`.
pub(super) fn protocol_of(head: &Head<'_, '_>) -> Protocol {
    let declared = head.value("Content-Type").unwrap_or_default();
    match media_type(declared) {
        Some(TEXT_PLAIN) => Protocol::Msc4108,
        _ => Protocol::Msc3886,
    }
}

/// The answer to a write over a revision that is not current. MSC3886 has an
/// errcode for it; MSC4108, while it is unstable, has a key of its own beside
/// `M_UNKNOWN`.
fn conflict(protocol: Protocol) -> Response {
    if protocol == Protocol::Msc4108 {
        return json(412, MSC4108_CONFLICT.into());
    }
    let sentence = "The session was written by another since";
    error(412, "M_CONCURRENT_WRITE", sentence)
}

const MSC4108_CONFLICT: &str = concat!(
    r#"{"errcode":"M_UNKNOWN","#,
    r#""org.matrix.msc4108.errcode":"M_CONCURRENT_WRITE","#,
    r#""error":"The session was written by another since"}"#
);

/// The fields that describe a session. matrix-rust-sdk wants all three on
/// every answer below 400, 304 too.
fn state(response: Response, session: &Session, now: Timestamp) -> Response {
    let date = |monotonic_ms| HttpDate::from(now.system_time_at(monotonic_ms));
    response
        .field("ETag", format_args!("\"{}\"", session.revision))
        .field("Expires", date(session.expires_at))
        .field("Last-Modified", date(session.modified_at))
}

/// The media type to keep. Both SDKs compare `text/plain` to the letter, and
/// a browser adds a charset to it, so there the parameters go. It will stand
/// in a header field again, so it is printable ASCII.
fn media_type(declared: &[u8]) -> Option<&str> {
    if declared.is_empty() {
        return Some("application/octet-stream");
    }
    if !declared.iter().all(|b| matches!(b, b' '..=b'~')) {
        return None;
    }
    let text = str::from_utf8(declared).ok()?;
    let essence = text.split(';').next().unwrap_or_default().trim_ascii();
    Some(if essence.eq_ignore_ascii_case(TEXT_PLAIN) {
        TEXT_PLAIN
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msc3886_a_write_without_a_type_is_octets() {
        assert_eq!(media_type(b""), Some("application/octet-stream"));
    }

    #[test]
    fn text_plain_loses_its_parameters_and_nothing_else_does() {
        for declared in [
            "text/plain",
            "text/plain;charset=UTF-8",
            "Text/Plain ; charset=\"utf-8\"",
        ] {
            assert_eq!(media_type(declared.as_bytes()), Some("text/plain"));
        }
        for kept in ["application/json;x=y", "text/html; charset=utf-8", "x"] {
            assert_eq!(media_type(kept.as_bytes()), Some(kept));
        }
        assert_eq!(media_type("text/é".as_bytes()), None);
        assert_eq!(media_type(b"\xff"), None);
        assert_eq!(media_type(b"a\tb"), None);
        assert_eq!(media_type(b"a\r\nEvil: b"), None);
    }
}
