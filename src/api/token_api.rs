//! The family of sequence tokens: MSC4388, "Secure out-of-band channel for sign
//! in with QR", as of summer 2026, with JSON bodies and transactions. The older
//! text, without transactions, is spoken at the same paths.

use std::borrow::Cow;
use std::str;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tiny_http::Method;

use super::context::Context;
use super::responses::{draining, error, json, method_not_allowed, not_found, too_large};
use super::route::{Resource, Stability};
use super::settings::{BODY_LIMIT, SIGN_IN_MAX_BYTES};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::http::{Answer, Request, Response};
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, PublicId, Revision, Session, SessionId};
use crate::store::{SequenceError, Sequenced};

#[cfg(test)]
mod tests;

/// The longest transaction id (the opaque identifier grammar).
const TRANSACTION_LIMIT: usize = 255;

/// The body of a creation.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct CreateBody<'b> {
    #[serde(borrow)]
    data: Cow<'b, str>,
}

/// The body of a write.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct WriteBody<'b> {
    #[serde(borrow)]
    sequence_token: Cow<'b, str>,
    #[serde(borrow)]
    data: Cow<'b, str>,
}

#[derive(Serialize)]
struct Created<'a> {
    id: &'a str,
    sequence_token: &'a str,
    expires_in_ms: u64,
}

#[derive(Serialize)]
struct Read<'a> {
    data: &'a str,
    sequence_token: &'a str,
    expires_in_ms: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    sequence_token: &'a str,
}

/// The family of sequence tokens at one kind of path.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenApi<'c> {
    pub(super) context: &'c Context,
    pub(super) stability: Stability,
}

impl TokenApi<'_> {
    /// The answer to a request for this resource, but not for a creation.
    pub(super) fn respond(self, resource: Resource<'_>, request: &Request<'_, '_>) -> Answer {
        match (resource, &request.head.method) {
            (Resource::Create, Method::Get | Method::Head) => {
                // A load balancer then asks another server.
                if self.context.draining.has_begun() {
                    return draining().into();
                }
                json(200, r#"{"create_available":true}"#.into()).into()
            }
            (Resource::Create, _) => method_not_allowed("GET, HEAD, POST, OPTIONS").into(),
            (Resource::Session(id), Method::Get | Method::Head) => self.read(id, request).into(),
            (Resource::Session(id), Method::Put) => self.write(id, None, request).into(),
            (Resource::Session(id), Method::Delete) => self.delete(id).into(),
            (Resource::Session(_), _) => {
                method_not_allowed("GET, HEAD, PUT, DELETE, OPTIONS").into()
            }
            (Resource::Transaction(id, name), Method::Put) => {
                self.write(id, Some(name), request).into()
            }
            (
                Resource::Transaction(..)
                | Resource::ForeignSession
                | Resource::Check
                | Resource::CheckFacts,
                _,
            ) => method_not_allowed("PUT, OPTIONS").into(),
        }
    }

    /// Creates a session.
    pub(super) fn create(
        self,
        request: &Request<'_, '_>,
        client: Option<Client>,
    ) -> Result<Response, Answer> {
        let body: CreateBody<'_> = parse_object(request.body(BODY_LIMIT)?)?;
        let content = content(&body.data)?;
        let now = self.context.clock.now();
        let context = self.context;
        let (id, session) = context.create(Protocol::Msc4388, content, client, now)?;
        let node = context.settings.node;
        Ok(object(&Created {
            id: &PublicId { node, id }.to_string(),
            sequence_token: &token(session.revision),
            expires_in_ms: remaining(&session, now),
        }))
    }

    fn read(self, id: Option<SessionId>, request: &Request<'_, '_>) -> Result<Response, Response> {
        let now = self.context.clock.now();
        let family = Concurrency::SequenceToken;
        let session = self.context.readable(id, family, &request.head, now)?;
        Ok(object(&Read {
            data: &String::from_utf8(session.content.payload()).unwrap_or_default(),
            sequence_token: &token(session.revision),
            expires_in_ms: remaining(&session, now),
        }))
    }

    fn write(
        self,
        id: Option<SessionId>,
        transaction: Option<&str>,
        request: &Request<'_, '_>,
    ) -> Result<Response, Answer> {
        if transaction.is_some_and(|name| !is_opaque(name)) {
            return Err(error(400, "M_INVALID_PARAM", "The transaction id is malformed").into());
        }
        let now = self.context.clock.now();
        let store = &self.context.store;
        // Existence first: it is cheaper to find out than what the body says.
        let found = id.and_then(|id| Some((id, store.recorded(id, transaction, now)?)));
        let (id, recorded) = found.ok_or_else(not_found)?;
        if let Some(outcome) = recorded {
            return Ok(self.written(outcome));
        }
        let body: WriteBody<'_> = parse_object(request.body(BODY_LIMIT)?)?;
        let content = content(&body.data)?;
        let write = Sequenced {
            expected: expected_revision(&body.sequence_token),
            transaction,
        };
        Ok(self.written(store.write_in_sequence(id, write, content, now)))
    }

    /// The response to a write with this outcome.
    fn written(self, outcome: Result<Revision, SequenceError>) -> Response {
        match outcome {
            Ok(revision) => object(&Written {
                sequence_token: &token(revision),
            }),
            Err(SequenceError::NotFound) => not_found(),
            Err(SequenceError::Conflict) => {
                self.context.counters.conflicts.increment();
                let code = match self.stability {
                    Stability::Stable => "M_CONCURRENT_WRITE",
                    Stability::Unstable => "IO_ELEMENT_MSC4388_CONCURRENT_WRITE",
                };
                let sentence = "The session was written by another since";
                error(409, code, sentence)
            }
            Err(SequenceError::TooMany) => error(
                429,
                "M_LIMIT_EXCEEDED",
                "The session has had too many transactions",
            ),
        }
    }

    fn delete(self, id: Option<SessionId>) -> Response {
        let now = self.context.clock.now();
        let delete = |id| {
            self.context
                .store
                .delete(id, Concurrency::SequenceToken, now)
        };
        if id.and_then(delete).is_some() {
            json(200, "{}".into())
        } else {
            not_found()
        }
    }
}

/// Reads a JSON object that has each key of `T` once. The values of other keys
/// are checked and skipped.
fn parse_object<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Response> {
    // What is not UTF-8 is not JSON (RFC 8259, section 8.1), nor is nothing.
    let text = str::from_utf8(body).unwrap_or_default();
    // Serde reads a struct from an array, too.
    let is_object = text.trim_ascii_start().starts_with('{');
    let object = is_object.then(|| serde_json::from_str(text).ok());
    match object.flatten() {
        Some(object) => Ok(object),
        _ if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            let sentence = "The body is no object, or a key is missing, twice there or no string";
            Err(error(400, "M_BAD_JSON", sentence))
        }
        _ => Err(error(400, "M_NOT_JSON", "The body is not JSON")),
    }
}

/// The payload of a body; its limit counts what the escapes mean.
fn content(data: &str) -> Result<Content, Response> {
    if data.len() > SIGN_IN_MAX_BYTES {
        return Err(too_large());
    }
    Content::new(data.as_bytes(), "").ok_or_else(too_large)
}

fn object(body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => json(200, text),
        Err(_) => error(500, "M_UNKNOWN", "Internal error"),
    }
}

/// A revision's sequence token: how many writes there were.
fn token(revision: Revision) -> String {
    revision.number().to_string()
}

/// The revision that a token names, if we can have written it.
fn expected_revision(text: &str) -> Option<Revision> {
    let revision = Revision::new(text.parse().ok()?);
    (token(revision) == text).then_some(revision)
}

fn remaining(session: &Session, now: Timestamp) -> u64 {
    session.expires_at.saturating_sub(now.monotonic_ms)
}

/// The opaque identifier grammar of the Matrix specification.
fn is_opaque(name: &str) -> bool {
    (1..=TRANSACTION_LIMIT).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}
