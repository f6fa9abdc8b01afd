//! MSC3886, "Simple client rendezvous capability", in its text of 2024-02.

use httpdate::HttpDate;

use super::answer::{error, json, plain};
use super::tag::{IfMatch, if_match, if_none_match};
use super::{Api, Counters};
use crate::clock::Moment;
use crate::http::{Body, Framing, Head, Request, Response};
use crate::session::{Content, Lifetime, Session, SessionId};
use crate::store::WriteError;

impl Api {
    pub(super) fn msc3886_create(&self, base: &str, request: &Request<'_, '_>) -> Response {
        let content = match content(request) {
            Ok(content) => content,
            Err(response) => return response,
        };
        let now = self.clock.now();
        let lifetime = Lifetime::SinceWrite(self.settings.ttl);
        let Ok((id, session)) = self.store.create(content, lifetime, now) else {
            return error(503, "M_UNKNOWN", "The server has no random numbers");
        };
        let origin = self.settings.public_url.as_deref().unwrap_or_default();
        state(plain(201), &session, now)
            .field("Location", format_args!("{origin}{base}/{id}"))
            .field("X-Max-Bytes", self.settings.max_bytes)
    }

    pub(super) fn msc3886_read(
        &self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
    ) -> Response {
        if navigates(&request.head) {
            Counters::count(&self.counters.navigations_refused);
            return error(
                403,
                "M_FORBIDDEN",
                "A rendezvous is for programs and not shown in a browser",
            );
        }
        let now = self.clock.now();
        let Some(session) = id.and_then(|id| self.store.read(id, now)) else {
            return not_found();
        };
        if let Some(tag) = if_none_match(&request.head, session.revision()) {
            self.count_repair(tag.repaired);
            return state(plain(304), &session, now);
        }
        let content = session.content();
        state(plain(200), &session, now)
            .field("Content-Type", content.media_type())
            .with(Body::Content(content))
    }

    pub(super) fn msc3886_write(
        &self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
    ) -> Response {
        let content = match content(request) {
            Ok(content) => content,
            Err(response) => return response,
        };
        let tag = match if_match(&request.head) {
            IfMatch::Tag(tag) => tag,
            IfMatch::Absent => return error(400, "M_MISSING_PARAM", "If-Match is required"),
            IfMatch::Malformed => {
                return error(400, "M_INVALID_PARAM", "If-Match is not one entity tag");
            }
        };
        let now = self.clock.now();
        let Some(id) = id else {
            return not_found();
        };
        match self.store.write(id, tag.revision, content, now) {
            Ok(session) => {
                self.count_repair(tag.repaired);
                // The type is there because a CDN strips the ETag of an
                // answer without one.
                state(plain(202), &session, now).field("Content-Type", "text/plain")
            }
            Err(WriteError::NotFound) => not_found(),
            Err(WriteError::Conflict(session)) => {
                Counters::count(&self.counters.conflicts);
                state(json(412, CONFLICT.into()), &session, now)
            }
        }
    }

    pub(super) fn msc3886_delete(&self, id: Option<SessionId>) -> Response {
        match id {
            Some(id) if self.store.delete(id, self.clock.now()) => plain(204),
            _ => not_found(),
        }
    }

    fn count_repair(&self, repaired: bool) {
        if repaired {
            Counters::count(&self.counters.tag_repairs);
        }
    }
}

/// MSC3886 has the errcode; Synapse answers MSC4108 with the second key.
const CONFLICT: &str = concat!(
    r#"{"errcode":"M_CONCURRENT_WRITE","#,
    r#""org.matrix.msc4108.errcode":"M_CONCURRENT_WRITE","#,
    r#""error":"The session was written by another since"}"#
);

fn not_found() -> Response {
    error(404, "M_NOT_FOUND", "There is no such session, or no longer")
}

/// The fields that describe a session. matrix-rust-sdk wants all three on
/// every answer below 400, 304 too.
fn state(response: Response, session: &Session, now: Moment) -> Response {
    let date = |steady| HttpDate::from(now.wall_at(steady));
    response
        .field("ETag", format_args!("\"{}\"", session.revision()))
        .field("Expires", date(session.expires()))
        .field("Last-Modified", date(session.modified()))
}

/// What a create or a write brings.
fn content(request: &Request<'_, '_>) -> Result<Content, Response> {
    if request.head.framing == Framing::Absent {
        return Err(error(400, "M_MISSING_PARAM", "Content-Length is required"));
    }
    let declared = request.head.value("Content-Type").unwrap_or_default();
    media_type(declared)
        .and_then(|media_type| Content::new(request.body, media_type))
        .ok_or_else(|| {
            error(
                400,
                "M_INVALID_PARAM",
                "Content-Type is not a short ASCII text",
            )
        })
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
    Some(if essence.eq_ignore_ascii_case("text/plain") {
        "text/plain"
    } else {
        text
    })
}

/// Whether a browser would show the answer as a page. MSC4388 asks servers
/// to refuse that; MSC3886 payloads, of any type and on the homeserver's
/// host name, need it no less.
fn navigates(head: &Head<'_, '_>) -> bool {
    let is = |name, value: &[u8]| head.value(name) == Some(value);
    head.value("Sec-Fetch-Dest")
        .is_some_and(|dest| dest != b"empty")
        || is("Sec-Fetch-Mode", b"navigate")
        || is("Sec-Fetch-User", b"?1")
        || is("Sec-Fetch-Site", b"none")
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
