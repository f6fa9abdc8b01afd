use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;
use crate::api::{MSC3886_PATH, MSC4108_PATH, MSC4388_PATH, STABLE_PATH};
use crate::http::{Decoder, Status};
use crate::protocol::Concurrency;
use crate::session::Content;
use crate::store::Owner;

fn api(capacity: usize) -> Api {
    let store = Arc::new(Store::new(NonZeroUsize::new(capacity).unwrap()));
    Api::new(store, Clock, Settings::of_tests("/rendezvous"))
}

/// The status of the answer to a request.
fn status(api: &Api, request: &str) -> u16 {
    let mut decoder = Decoder::default();
    decoder.push(request.as_bytes());
    let answer = |request: &Request<'_, '_>| Ok(api.respond(request, Peer::Local, &|| None));
    match decoder.step(answer) {
        Ok(Status::Complete(Answer::Response(response))) => response.status.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn before_a_stop_creations_of_all_protocols_are_refused_in_the_end() {
    let api = api(20);
    let creations = [
        ("/rendezvous", "text/plain", "x", 201),
        ("/rendezvous", "a/b", "x", 201),
        (MSC3886_PATH, "a/b", "x", 201),
        (MSC4108_PATH, "text/plain", "x", 201),
        (MSC4388_PATH, "a/b", r#"{"data":"x"}"#, 200),
        (STABLE_PATH, "a/b", r#"{"data":"x"}"#, 200),
    ];
    let create = |(path, media_type, body, _): (&str, &str, &str, u16)| {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}");
        status(
            &api,
            &format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"),
        )
    };
    let check = "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(status(&api, check), 204);
    api.draining().begin();
    assert_eq!(status(&api, check), 503);
    assert_eq!(creations.map(create), creations.map(|(.., made)| made));
    api.draining().refuse_creations();
    assert_eq!(creations.map(create), [503; 6]);
    assert_eq!(api.counters().draining.get(), 6);
    let preflight = "OPTIONS /rendezvous HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(status(&api, preflight), 204);
}

#[test]
fn a_refused_navigation_is_no_use_of_the_session() {
    let api = api(2);
    let create = |later| {
        let content = Content::new(b"x", "text/html").unwrap();
        let mut now = api.context.clock.now();
        now.monotonic_ms += later;
        let life = Duration::from_secs(60);
        api.context
            .store
            .create(content, Protocol::Msc3886, life, Owner::UNKNOWN, now)
    };
    let (older, _) = create(0).unwrap();
    let (newer, _) = create(0).unwrap();
    let path = format!("GET /rendezvous/{older}");
    let text = format!("{path} HTTP/1.1\r\nHost: x\r\nSec-Fetch-Dest: document\r\n\r\n");
    assert_eq!(status(&api, &text), 403);
    create(20_000).unwrap();
    let now = api.context.clock.now();
    assert!(
        api.context
            .store
            .read(older, Concurrency::ETag, now)
            .is_none()
    );
    assert!(
        api.context
            .store
            .read(newer, Concurrency::ETag, now)
            .is_some()
    );
}
