//! What answering a request allocates, counted.

use std::alloc::System;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rendezvousd::api::{Api, BODY_LIMIT, Settings};
use rendezvousd::client::{Peer, TrustedProxies};
use rendezvousd::clock::Clock;
use rendezvousd::http::{Answer, Decoder, Handler, Status};
use rendezvousd::protocol::Protocol;
use rendezvousd::rate_limit::RateLimit;
use rendezvousd::session::Content;
use rendezvousd::store::{Owner, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Beside the string that is kept: keys with escapes, the answer.
const SMALL: usize = 4 * 1024;

fn api(store: &Arc<Store>) -> Api {
    let settings = Settings {
        prefix: "/rendezvous".into(),
        public_url: None,
        node: None,
        trusted_proxies: TrustedProxies::default(),
        ttl: Duration::from_secs(60),
        sign_in_ttl: Duration::from_secs(300),
        long_poll: Duration::ZERO,
        max_bytes: 4096,
        rate_limit: RateLimit { rate: 1, burst: 1 },
        check_page: true,
    };
    Api::new(Arc::clone(store), Clock, settings)
}

/// A body of the largest size: `unit` again and again between the two ends.
fn filled(start: &str, unit: &str, end: &str) -> String {
    let room = BODY_LIMIT - start.len() - end.len();
    format!("{start}{}{end}", unit.repeat(room / unit.len()))
}

/// One test, because the allocator counts for the whole process.
#[test]
fn what_is_not_kept_is_not_built() {
    json();
    forwarded_headers();
}

fn json() {
    let store = Arc::new(Store::new(NonZeroUsize::MIN));
    let api = api(&store);
    let content = Content::new(b"", "").unwrap();
    let lifetime = Duration::from_secs(300);
    let created = store.create(
        content,
        Protocol::Msc4388,
        lifetime,
        Owner::UNKNOWN,
        Clock.now(),
    );
    let (id, _) = created.unwrap();
    let deep = |open: &str, close: &str| format!("{}0{},", open.repeat(120), close.repeat(120));
    for body in [
        filled("{\"x\":[", "{\"\":{\"\":0}},", "0]}"),
        filled("{\"x\":[", "{\"\":0},", "0]}"),
        filled("{\"x\":[", &deep("[", "]"), "0]}"),
        filled("{\"x\":[", &deep("{\"\":", "}"), "0]}"),
        filled("{\"x\":[", "[],", "0]}"),
        filled("{\"x\":[", "0,", "0]}"),
        filled("{\"x\":[", "\"\",", "0]}"),
        filled("{\"data\":[", "\"\",", "0]}"),
        filled("{", "\"\":0,", "\"x\":0}"),
        filled("{", "\"\\n\":\"\\n\",", "\"x\":0}"),
        filled("[", "{\"\":{\"\":0}},", "0]"),
    ] {
        let path = format!("/_matrix/client/v1/rendezvous/{id}");
        let length = body.len();
        let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let mut decoder = Decoder::default();
        decoder.push((head + &body).as_bytes());
        let region = Region::new(ALLOCATOR);
        let step = decoder.step(|request| Ok(status(api.respond(request, Peer::Local, &|| None))));
        assert!(matches!(step, Ok(Status::Complete(400))), "{step:?}");
        let allocated = allocated(&region);
        assert!(allocated <= SMALL, "{allocated} bytes for {body:.30}");
    }
}

/// The status of an answer that is given at once.
fn status(answer: Answer) -> u16 {
    let Answer::Response(response) = answer else {
        panic!("{answer:?}");
    };
    response.status.0
}

/// Bytes that have been allocated since the beginning of a region.
fn allocated(region: &Region<'_, System>) -> usize {
    let change = region.change();
    let allocated = change.bytes_allocated;
    allocated
        .checked_add_signed(change.bytes_reallocated)
        .unwrap()
}

/// Values of 16 KiB in which only the end counts: the client is found without
/// any allocation, and the origin allocates itself.
fn forwarded_headers() {
    let proxies = TrustedProxies {
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        loopback: true,
        local: true,
    };
    for (name, unit) in [
        ("X-Forwarded-For", "1,"),
        ("X-Forwarded-For", ","),
        ("X-Forwarded-For", "192.0.2.1,"),
        ("X-Forwarded-For", "10.0.0.1,"),
        ("X-Forwarded-Host", "a,"),
        ("Forwarded", ","),
        ("Forwarded", ";"),
        ("Forwarded", "a,"),
        ("Forwarded", "a;"),
        ("Forwarded", "for=192.0.2.1,"),
        ("Forwarded", "for=\"10.0.0.1\","),
        ("Forwarded", "for=\"\\10.0.0.1\","),
        ("Forwarded", "proto=http;host=a;"),
        ("Forwarded", "host=\"a\""),
        ("Forwarded", "\""),
        ("Forwarded", "\","),
        ("Forwarded", "\\"),
    ] {
        for end in ["", "x", "\"", "\"\\"] {
            let value = unit.repeat(16 * 1024 / unit.len()) + end;
            let fields = [(name, value.as_bytes())];
            let region = Region::new(ALLOCATOR);
            let client = proxies.client(fields.into_iter(), Peer::Local);
            let for_client = allocated(&region);
            let origin = proxies.origin(fields.into_iter(), Some("backend"), Peer::Local);
            let for_origin = allocated(&region) - for_client;
            let kept = origin.map_or(0, |origin| origin.len());
            let shown = format!("{client:?} for {name}: {unit}… {end}");
            assert_eq!((for_client, for_origin), (0, kept), "{shown}");
        }
    }
}
