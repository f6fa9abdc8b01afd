//! MSC4388, "Secure out-of-band channel for sign in with QR", as of summer
//! 2026: JSON bodies, sequence tokens, transactions. The older text, without
//! transactions, is spoken at the same paths.

use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;

use super::responses::{error, json, not_found, too_large};
use super::{Api, Counters, SIGN_IN_MAX_BYTES};
use crate::clock::Timestamp;
use crate::http::{Request, Response};
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Revision, Session, SessionId};
use crate::store::{SequenceError, Sequenced};

/// The largest body: 4096 bytes of payload, each escaped as `\u00xx`, and the
/// rest of the object.
pub const BODY_LIMIT: usize = 26 * 1024;

const DATA: &str = "data";
const TOKEN: &str = "sequence_token";

/// The longest transaction id (the opaque identifier grammar).
const TRANSACTION_LIMIT: usize = 255;

/// Which paths a request came by: the error of a conflict is named by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stability {
    Stable,
    Unstable,
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

impl Api {
    pub(super) fn msc4388_discover() -> Response {
        json(200, r#"{"create_available":true}"#.into())
    }

    pub(super) fn msc4388_create(&self, request: &Request<'_, '_>) -> Response {
        let content = strings(request.body, [DATA]).and_then(|[data]| content(&data));
        let content = match content {
            Ok(content) => content,
            Err(response) => return response,
        };
        let now = self.clock.now();
        let (id, session) = match self.open(Protocol::Msc4388, content, now) {
            Ok(opened) => opened,
            Err(response) => return response,
        };
        object(&Created {
            id: &id.to_string(),
            sequence_token: &token(session.revision),
            expires_in_ms: left(&session, now),
        })
    }

    pub(super) fn msc4388_read(
        &self,
        id: Option<SessionId>,
        request: &Request<'_, '_>,
    ) -> Response {
        let now = self.clock.now();
        let session = match self.readable(id, Concurrency::SequenceToken, &request.head, now) {
            Ok(session) => session,
            Err(response) => return response,
        };
        object(&Read {
            data: &String::from_utf8(session.content.payload()).unwrap_or_default(),
            sequence_token: &token(session.revision),
            expires_in_ms: left(&session, now),
        })
    }

    pub(super) fn msc4388_write(
        &self,
        id: Option<SessionId>,
        transaction: Option<&str>,
        stability: Stability,
        request: &Request<'_, '_>,
    ) -> Response {
        if transaction.is_some_and(|name| !is_opaque(name)) {
            return error(400, "M_INVALID_PARAM", "The transaction id is malformed");
        }
        let now = self.clock.now();
        // Existence first: it is cheaper to find out than what the body says.
        let found = id.and_then(|id| Some((id, self.store.recorded(id, transaction, now)?)));
        let Some((id, recorded)) = found else {
            return not_found();
        };
        if let Some(outcome) = recorded {
            return self.msc4388_outcome(outcome, stability);
        }
        let body = strings(request.body, [TOKEN, DATA])
            .and_then(|[token, data]| Ok((content(&data)?, token)));
        let (content, expected) = match body {
            Ok(body) => body,
            Err(response) => return response,
        };
        let write = Sequenced {
            expected: expected_revision(&expected),
            transaction,
        };
        let outcome = self.store.write_in_sequence(id, write, content, now);
        self.msc4388_outcome(outcome, stability)
    }

    fn msc4388_outcome(
        &self,
        outcome: Result<Revision, SequenceError>,
        stability: Stability,
    ) -> Response {
        match outcome {
            Ok(revision) => object(&Written {
                sequence_token: &token(revision),
            }),
            Err(SequenceError::NotFound) => not_found(),
            Err(SequenceError::Conflict) => {
                Counters::count(&self.counters.conflicts);
                let code = match stability {
                    Stability::Stable => "M_CONCURRENT_WRITE",
                    Stability::Unstable => "IO_ELEMENT_MSC4388_CONCURRENT_WRITE",
                };
                error(409, code, "The session was written by another since")
            }
            Err(SequenceError::TooMany) => error(
                429,
                "M_LIMIT_EXCEEDED",
                "The session has had too many transactions",
            ),
        }
    }

    pub(super) fn msc4388_delete(&self, id: Option<SessionId>) -> Response {
        match id {
            Some(id)
                if self
                    .store
                    .delete(id, Concurrency::SequenceToken, self.clock.now()) =>
            {
                json(200, "{}".into())
            }
            _ => not_found(),
        }
    }
}

/// The strings under these keys of a body. Unknown keys are ignored, but what
/// stands there has to be JSON like the rest; what is missing, null, of
/// another type or there twice is bad.
fn strings<const N: usize>(body: &[u8], keys: [&'static str; N]) -> Result<[String; N], Response> {
    let mut reader = Deserializer::from_slice(body);
    let read = Keys(keys).deserialize(&mut reader);
    let json = match read.and_then(|strings| reader.end().map(|()| strings)) {
        Ok(Some(strings)) => return Ok(strings),
        Ok(None) => true,
        // Not an object, but it may still be JSON.
        Err(error) if error.is_data() => is_json(body),
        Err(_) => false,
    };
    Err(if json {
        let sentence = "The body is no object, or a key is missing, twice there or no string";
        error(400, "M_BAD_JSON", sentence)
    } else {
        error(400, "M_NOT_JSON", "The body is not JSON")
    })
}

fn is_json(body: &[u8]) -> bool {
    let mut reader = Deserializer::from_slice(body);
    let read = Value::SKIPPED.deserialize(&mut reader);
    read.and_then(|_| reader.end()).is_ok()
}

/// Reads an object in one pass. A derived reader would stop at the first wrong
/// type, and skip unknown keys without checking their escapes or depth.
struct Keys<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Keys<N> {
    type Value = Option<[String; N]>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Keys<N> {
    type Value = Option<[String; N]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        let mut valid = true;
        while let Some(index) = map.next_key_seed(Key(&self.0))? {
            if let Some(index) = index {
                let first = found[index].is_none();
                found[index] = map.next_value_seed(Value { keep: true })?;
                valid &= first && found[index].is_some();
            } else {
                map.next_value_seed(Value::SKIPPED)?;
            }
        }
        let found = found.into_iter().collect::<Option<Vec<_>>>();
        Ok(found
            .filter(|_| valid)
            .and_then(|strings| strings.try_into().ok()))
    }
}

/// Reads a key as its index among the known ones.
struct Key<'k>(&'k [&'static str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == key))
    }
}

/// Reads any value and returns it if it is a string that is to be kept; of all
/// else nothing is built, however deeply nested. `serde::de::IgnoredAny` does
/// not do: in what it skips, `serde_json` takes any depth, unpaired surrogates
/// and invalid UTF-8.
#[derive(Clone, Copy)]
struct Value {
    keep: bool,
}

impl Value {
    const SKIPPED: Self = Self { keep: false };
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.keep.then(|| text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element_seed(Self::SKIPPED)?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_key_seed(Key(&[]))?.is_some() {
            map.next_value_seed(Self::SKIPPED)?;
        }
        Ok(None)
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

fn left(session: &Session, now: Timestamp) -> u64 {
    session.expires_at.saturating_sub(now.monotonic_ms)
}

/// The opaque identifier grammar of the Matrix specification.
fn is_opaque(name: &str) -> bool {
    (1..=TRANSACTION_LIMIT).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a write's body: its token and data, or the errcode.
    fn read(body: &[u8]) -> Result<(String, String), String> {
        strings(body, [TOKEN, DATA])
            .and_then(|[token, data]| {
                content(&data)?;
                Ok((token, data))
            })
            .map_err(|response| {
                let mut out = Vec::new();
                response.write(false, crate::http::Persistence::KeepAlive, "", &mut out);
                let text = String::from_utf8(out).unwrap();
                let code = text.split(r#""errcode":""#).nth(1).unwrap();
                code.split('"').next().unwrap().to_owned()
            })
    }

    #[test]
    fn bodies_are_objects_with_the_keys_and_maybe_more() {
        let body = br#" {"x": [1, {"data": 2}], "data": "a\u00e9\n", "sequence_token": "0"} "#;
        assert_eq!(read(body), Ok(("0".into(), "aé\n".into())));
    }

    #[test]
    fn what_is_json_and_not_the_object_is_bad_json() {
        for body in [
            r#"{}"#,
            r#"[]"#,
            r#"["0", "a"]"#,
            r#""a""#,
            r#"null"#,
            r#"{"data": "a"}"#,
            r#"{"sequence_token": "0"}"#,
            r#"{"sequence_token": "0", "data": null}"#,
            r#"{"sequence_token": 0, "data": "a"}"#,
            r#"{"sequence_token": "0", "data": ["a"]}"#,
            r#"{"sequence_token": "0", "data": "a", "data": "b"}"#,
            r#"{"sequence_token": "0", "data": "a", "x": [], "data": "a"}"#,
        ] {
            assert_eq!(read(body.as_bytes()), Err("M_BAD_JSON".into()), "{body}");
        }
    }

    #[test]
    fn u_0000_is_text_like_any_other() {
        let body = r#"{"sequence_token": "0", "data": "a\u0000b"}"#;
        assert_eq!(read(body.as_bytes()), Ok(("0".into(), "a\0b".into())));
    }

    #[test]
    fn skipped_values_have_the_verdict_of_a_parser_that_keeps_them() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let values = [
            "0",
            "-0",
            "01",
            "1e5",
            "1e999",
            "-1e999",
            "1e-999",
            "18446744073709551616",
            "-",
            "1.",
            ".5",
            "+1",
            "NaN",
            "truth",
            "true",
            "nul",
            "null",
            "\"\\ud800\"",
            "\"\\ud83d\\ude00\"",
            "\"\\u12\"",
            "\"\t\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{1:2}",
            "{\"a\":1,\"a\":2}",
            "{\"\\ud800\":1}",
            "{\"a\":{\"b\":[{}]}}",
            "[]]",
            "",
        ];
        let nested = [deep(125), deep(126), deep(127), deep(128), deep(129)];
        let values = values.into_iter().chain(nested.iter().map(String::as_str));
        for value in values {
            let body = format!(r#"{{"x": {value}, "sequence_token": "0", "data": "a"}}"#);
            let expected = match serde_json::from_str::<serde_json::Value>(&body) {
                Ok(_) => Ok(("0".into(), "a".into())),
                Err(_) => Err("M_NOT_JSON".into()),
            };
            assert_eq!(read(body.as_bytes()), expected, "{value:.40}");
            let parsed = serde_json::from_str::<serde_json::Value>(value).is_ok();
            assert_eq!(is_json(value.as_bytes()), parsed, "{value:.40}");
        }
    }

    #[test]
    fn what_is_not_json_is_not_json() {
        let brackets = "[".repeat(BODY_LIMIT);
        let nested = format!(r#"{{"x": {}"#, "[".repeat(20_000));
        let depth = 2_000;
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let closed = format!(r#"{{"sequence_token": "0", "data": "a", "x": {open}{close}}}"#);
        let objects = r#"{"x":"#.repeat(5_000);
        for body in [
            "",
            " ",
            "{",
            "}",
            "data=a",
            "'a'",
            &brackets,
            &nested,
            &objects,
            r#"{"sequence_token": "0", "data": "a"} x"#,
            r#"{"sequence_token": "0", "data": "a", "x": "\ud800"}"#,
            r#"{"sequence_token": "0", "data": null"#,
            r#"{"data": 1,,,,"#,
            &closed,
            r#"{"sequence_token": "0", "data": "\ud800"}"#,
            r#"{"sequence_token": "0", "data": "\udc00\ud800"}"#,
            r#"{"sequence_token": "0", "data": "\q"}"#,
            "{\"sequence_token\": \"0\", \"data\": \"\0\"}",
            "{\"sequence_token\": \"0\", \"data\": \"\n\"}",
        ] {
            let shown = &body[..body.len().min(60)];
            assert_eq!(read(body.as_bytes()), Err("M_NOT_JSON".into()), "{shown}");
        }
        for invalid in [
            &b"{\"sequence_token\": \"0\", \"data\": \"\xff\"}"[..],
            b"{\"sequence_token\": \"0\", \"data\": \"a\", \"x\": \"\xff\"}",
        ] {
            assert_eq!(read(invalid), Err("M_NOT_JSON".into()));
        }
    }

    #[test]
    fn the_limit_is_of_bytes_after_unescaping() {
        let body = |data: &str| format!(r#"{{"sequence_token": "0", "data": "{data}"}}"#);
        let escaped = body(&r"\u0061".repeat(4096));
        assert!(escaped.len() <= BODY_LIMIT);
        assert_eq!(read(escaped.as_bytes()).unwrap().1, "a".repeat(4096));
        assert!(read(body(&"é".repeat(2048)).as_bytes()).is_ok());
        for large in [body(&"a".repeat(4097)), body(&"é".repeat(2049))] {
            assert_eq!(read(large.as_bytes()), Err("M_TOO_LARGE".into()));
        }
    }

    #[test]
    fn tokens_are_those_we_write() {
        assert_eq!(expected_revision("0"), Some(Revision::new(0)));
        assert_eq!(expected_revision("17"), Some(Revision::new(17)));
        for text in [
            "",
            "01",
            "+1",
            "-1",
            " 1",
            "1.0",
            "x",
            "18446744073709551616",
        ] {
            assert_eq!(expected_revision(text), None, "{text:?}");
        }
    }

    #[test]
    fn transaction_ids_follow_the_grammar() {
        for good in ["a", "m1700000000.1", "A-Z_a~z.0", &"x".repeat(255)] {
            assert!(is_opaque(good), "{good}");
        }
        for bad in ["", "a b", "a%20b", "é", "a/b", "a+b", &"x".repeat(256)] {
            assert!(!is_opaque(bad), "{bad}");
        }
    }
}
