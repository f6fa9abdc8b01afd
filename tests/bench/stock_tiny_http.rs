//! The same store behind a stock `tiny_http::Server`, for the figures in
//! README.md beside this file and its section on why we do not face the network
//! with it: create, read, poll, write and delete as MSC3886 has them, with the
//! header fields that rendezvousd sends; four threads, no limits beyond tiny_http's
//! own. Not for use.
//!
//! `cargo run --release --example stock-tiny-http -- 127.0.0.1:8091 [SESSIONS]`

use std::fmt::Display;
use std::io::Cursor;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

use httpdate::HttpDate;
use rendezvousd::clock::{Clock, Timestamp};
use rendezvousd::protocol::{Concurrency, Protocol};
use rendezvousd::session::{Content, Revision, Session, SessionId};
use rendezvousd::store::{Owner, Store, WriteError};
use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

const LIFETIME: Duration = Duration::from_secs(3600);

type Answer = Response<Cursor<Vec<u8>>>;

fn main() {
    let address = env::args().nth(1).expect("an address to listen on");
    let sessions = env::args().nth(2).map_or(10_000, |number| {
        number.parse().expect("a number of sessions")
    });
    let server = Arc::new(Server::http(&address).expect("a free port"));
    let sessions = NonZeroUsize::new(sessions).expect("at least one session");
    let store = Arc::new(Store::new(sessions));
    println!("stock tiny_http on http://{address}");
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (server, store) = (Arc::clone(&server), Arc::clone(&store));
            thread::spawn(move || {
                while let Ok(mut request) = server.recv() {
                    let answer = answer(&mut request, &store, Clock.now());
                    // The client has gone: nothing to do.
                    let _ = request.respond(answer);
                }
            })
        })
        .collect();
    for worker in workers {
        if worker.join().is_err() {
            println!("a worker is gone");
        }
    }
}

fn answer(request: &mut Request, store: &Store, now: Timestamp) -> Answer {
    if *request.method() == Method::Post {
        let content = content(request);
        let create = |content| {
            store
                .create(content, Protocol::Msc3886, LIFETIME, Owner::UNKNOWN, now)
                .ok()
        };
        return match content.and_then(create) {
            Some((id, session)) => state(plain(201), &session, now)
                .with_header(field("Location", format_args!("/rendezvous/{id}"))),
            None => plain(400),
        };
    }
    let name = request.url().rsplit('/').next().unwrap_or_default();
    let Some(id) = SessionId::parse(name) else {
        return plain(404);
    };
    match request.method() {
        Method::Put => {
            let expected = tag(request, "If-Match");
            let Some(content) = content(request) else {
                return plain(400);
            };
            match store.write(id, expected, content, now) {
                Ok(session) => state(plain(202), &session, now),
                Err(WriteError::Conflict(session)) => state(plain(412), &session, now),
                Err(WriteError::NotFound) => plain(404),
            }
        }
        Method::Delete if store.delete(id, Concurrency::ETag, now).is_some() => plain(204),
        Method::Get => match store.read(id, Concurrency::ETag, now) {
            Some(session) if tag(request, "If-None-Match") == Some(session.revision) => {
                state(plain(304), &session, now)
            }
            Some(session) => {
                let content = &session.content;
                let body = Response::from_data(content.payload());
                state(with_common(body), &session, now)
                    .with_header(field("Content-Type", content.media_type()))
            }
            None => plain(404),
        },
        _ => plain(404),
    }
}

/// What the request brings, if it can be kept.
fn content(request: &mut Request) -> Option<Content> {
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body).ok()?;
    Content::new(&body, "text/plain")
}

/// The revision that a field names.
fn tag(request: &Request, name: &'static str) -> Option<Revision> {
    let mut fields = request.headers().iter();
    let value = fields
        .find(|header| header.field.equiv(name))?
        .value
        .as_str();
    Revision::parse(value.trim_matches('"'))
}

fn plain(status: u16) -> Answer {
    with_common(Response::from_data("")).with_status_code(StatusCode(status))
}

fn with_common(answer: Answer) -> Answer {
    [
        ("Access-Control-Allow-Origin", "*"),
        (
            "Access-Control-Expose-Headers",
            "ETag, Location, X-Max-Bytes, Retry-After",
        ),
        ("Cache-Control", "no-store, no-transform"),
        ("Pragma", "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "sandbox; default-src 'none'"),
    ]
    .into_iter()
    .fold(answer, |answer, (name, value)| {
        answer.with_header(field(name, value))
    })
}

fn state(answer: Answer, session: &Session, now: Timestamp) -> Answer {
    let date = |monotonic_ms| HttpDate::from(now.system_time_at(monotonic_ms));
    answer
        .with_header(field("ETag", format_args!("\"{}\"", session.revision)))
        .with_header(field("Expires", date(session.expires_at)))
        .with_header(field("Last-Modified", date(session.modified_at)))
}

fn field(name: &str, value: impl Display) -> Header {
    Header::from_bytes(name, value.to_string()).expect("ASCII")
}
