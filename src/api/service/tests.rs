use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;
use crate::http::{Decoder, Status};
use crate::protocol::Concurrency;
use crate::session::Content;
use crate::store::Owner;

fn api(capacity: usize) -> Api {
    let store = Arc::new(Store::new(NonZeroUsize::new(capacity).unwrap()));
    Api::new(store, Clock, Settings::of_tests("/rendezvous"))
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
    let mut decoder = Decoder::default();
    let path = format!("GET /rendezvous/{older}");
    let text = format!("{path} HTTP/1.1\r\nHost: x\r\nSec-Fetch-Dest: document\r\n\r\n");
    decoder.push(text.as_bytes());
    let step = decoder.step(|request| Ok(api.respond(request, Peer::Local, &|| None)));
    assert!(
        matches!(step, Ok(Status::Complete(Answer::Response(response))) if response.status.0 == 403)
    );
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
