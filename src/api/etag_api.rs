//! The family of ETags: MSC3886, "Simple client rendezvous capability", in its
//! text of 2024-02, and MSC4108, "Mechanism to allow OAuth 2.0 sign in with QR
//! code", in its text of 2024 that shipped clients speak. They differ in how a
//! session is created and in what it takes; the rest is one.

use std::str;
use std::sync::Arc;

use tiny_http::Method;

use super::context::Context;
use super::etag::{IfMatch, IfNoneMatch, if_match, if_none_match};
use super::held_poll::HeldPoll;
use super::prefer;
use super::responses::{
    ProtocolAnswer, error, json, method_not_allowed, not_found, not_modified, payload, plain,
    preference_applied, state,
};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::http::{Answer, Framing, Head, Request, Response, WakerSource};
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, PublicId, Session, SessionId};
use crate::store::WriteError;

const TEXT_PLAIN: &str = "text/plain";

/// The family of ETags.
#[derive(Clone, Copy, Debug)]
pub(super) struct EtagApi<'c> {
    pub(super) context: &'c Arc<Context>,
}

impl EtagApi<'_> {
    /// The response to a request for a session. Its protocol is that of the
    /// session, if that was looked up.
    pub(super) fn respond(
        self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
        waker: WakerSource<'_>,
    ) -> ProtocolAnswer {
        match request.head.method {
            Method::Get | Method::Head => self.read(id, request, waker),
            Method::Put => self.write(id, request),
            Method::Delete => self.delete(id),
            _ => method_not_allowed("GET, HEAD, PUT, DELETE, OPTIONS").into(),
        }
    }

    /// Creates a session below `create_path`. `url`, for the endpoints that
    /// want it, is the address of `create_path` as the client sees it.
    pub(super) fn create(
        self,
        protocol: Protocol,
        create_path: &str,
        url: Option<&str>,
        request: &Request<'_, '_>,
        client: Option<Client>,
    ) -> Result<Response, Answer> {
        let content = self.content(protocol, request)?;
        let now = self.context.clock.now();
        let (id, session) = self.context.create(protocol, content, client, now)?;
        let settings = &self.context.settings;
        let node = settings.node;
        let id = PublicId { node, id };
        let origin = settings.public_url.as_deref().unwrap_or_default();
        let response = match url {
            // Its characters need no escaping: see the checks of hosts.
            Some(url) => json(
                201,
                [r#"{"url":""#, url, "/", &id.to_string(), r#""}"#].concat(),
            ),
            None => plain(201),
        };
        Ok(state(response, &session, now)
            .formatted("Location", format_args!("{origin}{create_path}/{id}"))
            .formatted("X-Max-Bytes", settings.max_bytes(protocol)))
    }

    fn read(
        self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
        waker: WakerSource<'_>,
    ) -> ProtocolAnswer {
        let now = self.context.clock.now();
        let head = &request.head;
        let session = match self.context.readable(id, Concurrency::ETag, head, now) {
            Ok(session) => session,
            Err(response) => return response.into(),
        };
        let protocol = session.protocol;
        match if_none_match(head, session.revision) {
            Some(IfNoneMatch::Tag(tag)) => {
                self.count_normalized(tag.repaired);
                let answer = match id.filter(|_| head.method == Method::Get) {
                    Some(id) => self.poll(id, &session, head, waker, now),
                    None => not_modified(&session, now).into(),
                };
                return ProtocolAnswer::new(protocol, answer);
            }
            Some(IfNoneMatch::Any) => {
                return ProtocolAnswer::new(protocol, not_modified(&session, now));
            }
            None => {}
        }
        if let Some(id) = id.filter(|_| head.method == Method::Get && session.is_untouched()) {
            self.context.store.note_fetch(id);
        }
        ProtocolAnswer::new(protocol, payload(session, now))
    }

    /// The answer to a client that knows the current revision: it is held until
    /// that changes, for as long as both sides want.
    fn poll(
        self,
        id: SessionId,
        session: &Session,
        head: &Head<'_, '_>,
        waker: WakerSource<'_>,
        now: Timestamp,
    ) -> Answer {
        let long_poll = self.context.settings.long_poll;
        let preference = prefer::wait(head).filter(|wait| *wait < long_poll);
        let wait = preference.unwrap_or(long_poll);
        let waker = (!wait.is_zero()).then(waker).flatten();
        let Some(waker) = waker else {
            return preference_applied(not_modified(session, now), preference).into();
        };
        match (self.context.store).watch(id, session.revision, waker, now) {
            Ok(watch) => {
                let held = HeldPoll {
                    context: Arc::clone(self.context),
                    id,
                    protocol: session.protocol,
                    revision: session.revision,
                    preference,
                    watch,
                };
                Answer::Hold {
                    request: Box::new(held),
                    at_most: wait,
                }
            }
            Err(Some(session)) => payload(session, now).into(),
            Err(None) => not_found().into(),
        }
    }

    fn write(self, id: Option<SessionId>, request: &Request<'_, '_>) -> ProtocolAnswer {
        let tag = match if_match(&request.head) {
            IfMatch::Tag(tag) => tag,
            IfMatch::Absent => {
                return error(400, "M_MISSING_PARAM", "If-Match is required").into();
            }
            IfMatch::Malformed => {
                return error(400, "M_INVALID_PARAM", "If-Match is not one entity tag").into();
            }
        };
        let now = self.context.clock.now();
        // What may be written depends on the protocol.
        let content = |protocol| {
            let content = self.content(protocol, request);
            content.map_err(|answer| ProtocolAnswer::new(protocol, answer))
        };
        let write = |id| (self.context.store).write_with(id, tag.revision, now, content);
        match id.map_or(Err(WriteError::NotFound), write) {
            Ok(session) => {
                self.count_normalized(tag.repaired);
                // The type is there because a CDN strips the ETag of a
                // response without one.
                let response = state(plain(202), &session, now).field("Content-Type", TEXT_PLAIN);
                ProtocolAnswer::new(session.protocol, response)
            }
            Err(WriteError::NotFound) => not_found().into(),
            Err(WriteError::Conflict(session)) => {
                self.context.counters.conflicts.increment();
                let response = state(conflict(session.protocol), &session, now);
                ProtocolAnswer::new(session.protocol, response)
            }
            Err(WriteError::Refused(answer)) => answer,
        }
    }

    fn delete(self, id: Option<SessionId>) -> ProtocolAnswer {
        let now = self.context.clock.now();
        let delete = |id| self.context.store.delete(id, Concurrency::ETag, now);
        match id.and_then(delete) {
            Some(protocol) => ProtocolAnswer::new(protocol, plain(204)),
            None => not_found().into(),
        }
    }

    /// The content of a create or a write, checked by the protocol's rules.
    /// Without a length the body is empty (RFC 9112, section 6.3); MSC3886
    /// requires one.
    fn content(self, protocol: Protocol, request: &Request<'_, '_>) -> Result<Content, Answer> {
        if request.head.framing == Framing::Absent && protocol == Protocol::Msc3886 {
            return Err(error(400, "M_MISSING_PARAM", "Content-Length is required").into());
        }
        let declared = request.head.value("Content-Type").unwrap_or_default();
        if protocol == Protocol::Msc4108 && declared.is_empty() {
            return Err(error(400, "M_MISSING_PARAM", "Content-Type is required").into());
        }
        let refused = || error(400, "M_INVALID_PARAM", "Content-Type is not one taken here");
        let kept = media_type(declared)
            .filter(|kept| protocol != Protocol::Msc4108 || *kept == TEXT_PLAIN)
            .ok_or_else(refused)?;
        let body = request.body(self.context.settings.body_limit(protocol))?;
        Ok(Content::new(body, kept).ok_or_else(refused)?)
    }

    fn count_normalized(self, repaired: bool) {
        if repaired {
            self.context.counters.etags_normalized.increment();
        }
    }
}

/// The protocol of a create at the redirect target: both come there, and only
/// MSC4108 clients write `text/plain`.
pub(super) fn protocol_of(head: &Head<'_, '_>) -> Protocol {
    let declared = head.value("Content-Type").unwrap_or_default();
    match media_type(declared) {
        Some(TEXT_PLAIN) => Protocol::Msc4108,
        _ => Protocol::Msc3886,
    }
}

/// The response to a write over a revision that is not current. MSC3886 has an
/// errcode for it; MSC4108, while it is unstable, has a key of its own besides
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

/// The media type to keep; `None` if it is not printable ASCII, for it is sent
/// in a header again. Both SDKs compare `text/plain` to the letter, and browsers
/// add a charset to it, so that type loses its parameters.
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
