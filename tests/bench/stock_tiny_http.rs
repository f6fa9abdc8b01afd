//! The same store behind a stock `tiny_http::Server`, for the README's
//! section on why we do not face the network with it. Sessions are created
//! by `POST /rendezvous` and read by `GET`; four threads, no limits beyond
//! tiny_http's own. Not for use.
//!
//! `cargo run --release --example stock-tiny-http -- 127.0.0.1:8091`

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

use rendezvousd::clock::Clock;
use rendezvousd::session::{Content, Family, Protocol, SessionId};
use rendezvousd::store::Store;
use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

const LIFETIME: Duration = Duration::from_secs(3600);

fn main() {
    let address = env::args().nth(1).expect("an address to listen on");
    let server = Arc::new(Server::http(&address).expect("a free port"));
    let store = Arc::new(Store::new(NonZeroUsize::MIN.saturating_add(9_999)));
    let clock = Clock;
    println!("stock tiny_http on http://{address}");
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (server, store) = (Arc::clone(&server), Arc::clone(&store));
            thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    answer(request, &store, &clock);
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

fn answer(mut request: Request, store: &Store, clock: &Clock) {
    let response = match request.method() {
        Method::Post => {
            let mut body = Vec::new();
            let read = request.as_reader().read_to_end(&mut body);
            let content = Content::new(&body, "text/plain").filter(|_| read.is_ok());
            match content
                .map(|content| store.create(content, Protocol::Msc3886, LIFETIME, clock.now()))
            {
                Some(Ok((id, _))) => Response::from_data("")
                    .with_status_code(StatusCode(201))
                    .with_header(field("Location", &format!("/rendezvous/{id}"))),
                _ => Response::from_data("").with_status_code(StatusCode(400)),
            }
        }
        _ => {
            let name = request.url().rsplit('/').next().unwrap_or_default();
            let id = SessionId::parse(name);
            match id.and_then(|id| store.read(id, Family::Tagged, clock.now())) {
                Some(session) => Response::from_data(session.content().payload())
                    .with_header(field("ETag", &format!("\"{}\"", session.revision())))
                    .with_header(field("Content-Type", "text/plain"))
                    .with_header(field("Access-Control-Allow-Origin", "*"))
                    .with_header(field("Cache-Control", "no-store, no-transform"))
                    .with_header(field("X-Content-Type-Options", "nosniff")),
                None => Response::from_data("").with_status_code(StatusCode(404)),
            }
        }
    };
    // The client has gone: nothing to do.
    let _ = request.respond(response);
}

fn field(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("ASCII")
}
