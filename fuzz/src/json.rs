//! The bodies of MSC4388: what becomes of one is what its pairs of keys and
//! values, collected without the server's help, say.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rendezvousd::api::{Api, BODY_LIMIT, STABLE_PATH, Settings};
use rendezvousd::client::{Peer, TrustedProxies};
use rendezvousd::clock::Clock;
use rendezvousd::http::{Answer, Body, Decoder, Handler, Status};
use rendezvousd::rate_limit::RateLimit;
use rendezvousd::store::Store;
use serde_json::Value;

use super::object::{Object, object};

/// The largest data, in bytes.
const DATA_LIMIT: usize = 4096;

/// What the answer to a body is.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// 200, and this data is read from then on.
    Taken(String),
    /// An error with this errcode.
    Refused(u16, String),
}

impl Outcome {
    fn refused(status: u16, code: &str) -> Self {
        Self::Refused(status, code.into())
    }
}

/// Checks the property with a create and three writes of one body.
pub fn check(data: &[u8]) {
    let server = api();
    let created = match ask(&server, "POST", "", data) {
        (200, answer) => {
            assert_eq!(answer["sequence_token"], "0");
            Outcome::Taken(read(&server, &answer["id"], "0"))
        }
        other => refusal(other),
    };
    assert_eq!(created, expected(data, false));
    for name in ["", "/t"] {
        let (status, made) = ask(&server, "POST", "", br#"{"data":"before"}"#);
        assert_eq!(status, 200);
        let path = format!("/{}{name}", text(&made["id"]));
        let first = ask(&server, "PUT", &path, data);
        let written = match &first {
            (200, answer) => {
                assert_eq!(answer["sequence_token"], "1");
                Outcome::Taken(read(&server, &made["id"], "1"))
            }
            other => {
                assert_eq!(read(&server, &made["id"], "0"), "before");
                refusal(other.clone())
            }
        };
        assert_eq!(written, expected(data, true));
        // The same again is a retry, with a transaction and without.
        assert_eq!(ask(&server, "PUT", &path, data), first);
    }
}

/// What has to become of a body.
fn expected(body: &[u8], is_write: bool) -> Outcome {
    if body.len() > BODY_LIMIT {
        return Outcome::refused(413, "M_TOO_LARGE");
    }
    let pairs = match object(body) {
        Object::Pairs(pairs) => pairs,
        Object::Other => return Outcome::refused(400, "M_BAD_JSON"),
        Object::Broken => return Outcome::refused(400, "M_NOT_JSON"),
    };
    let only = |key: &str| {
        let mut values = pairs.iter().filter(|(other, _)| other == key);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => serde_json::from_str::<String>(value.get()).ok(),
            _ => None,
        }
    };
    let token = if is_write {
        only("sequence_token")
    } else {
        Some("0".into())
    };
    match (only("data"), token) {
        (Some(data), Some(_)) if data.len() > DATA_LIMIT => Outcome::refused(413, "M_TOO_LARGE"),
        (Some(data), Some(token)) if token == "0" => Outcome::Taken(data),
        (Some(_), Some(_)) => Outcome::refused(409, "M_CONCURRENT_WRITE"),
        _ => Outcome::refused(400, "M_BAD_JSON"),
    }
}

fn refusal((status, answer): (u16, Value)) -> Outcome {
    assert!(!text(&answer["error"]).is_empty());
    Outcome::refused(status, text(&answer["errcode"]))
}

fn read(server: &Api, id: &Value, token: &str) -> String {
    let (status, answer) = ask(server, "GET", &format!("/{}", text(id)), b"");
    assert_eq!((status, &answer["sequence_token"]), (200, &token.into()));
    text(&answer["data"]).into()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// Status and body of the answer to a request.
fn ask(server: &Api, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let length = body.len();
    let head = format!("{method} {STABLE_PATH}{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    let mut decoder = Decoder::default();
    decoder.push(head.as_bytes());
    decoder.push(body);
    let step = decoder.step(
        |request| match server.respond(request, Peer::Local, &|| None) {
            Answer::ReadBody(limit) => Err(limit),
            answer => Ok(answer),
        },
    );
    let response = match step {
        Ok(Status::Complete(Answer::Response(response))) => response,
        Ok(Status::Complete(answer)) => panic!("{answer:?}"),
        Err(rejection) => server.reject(rejection),
        Ok(Status::Partial | Status::Continue | Status::Unread(_)) => {
            panic!("the request is complete")
        }
    };
    let Body::Text(text) = response.body else {
        panic!("no text: {response:?}");
    };
    let value = serde_json::from_str(&text).expect("JSON");
    (response.status.0, value)
}

fn api() -> Api {
    let store = Arc::new(Store::new(NonZeroUsize::MIN.saturating_add(3)));
    let minute = Duration::from_secs(60);
    let settings = Settings {
        prefix: "/rendezvous".into(),
        public_url: None,
        node: None,
        trusted_proxies: TrustedProxies::default(),
        rate_limit: RateLimit {
            rate: 60_000,
            burst: 60_000,
        },
        check_page: false,
        ttl: minute,
        sign_in_ttl: 5 * minute,
        long_poll: minute,
        max_bytes: 4096,
    };
    Api::new(store, Clock, settings)
}
