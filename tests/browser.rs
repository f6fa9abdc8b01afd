//! What browsers need (CORS) and what must be kept from them (payloads as
//! pages).

mod common;

use common::Daemon;

const SDK: &str = "/_matrix/client/unstable/org.matrix.msc3886/rendezvous";

#[test]
fn a_preflight_of_any_known_path_allows_what_clients_send() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let fields = [
        ("Origin", "null"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "content-type,if-match"),
    ];
    for path in ["/rendezvous", SDK, "/rendezvous/AAAAAAAAAAAAAAAAAAAAAA"] {
        let answer = client.request("OPTIONS", path, &fields, "");
        assert_eq!(answer.status, 204, "{path}");
        for (name, value) in [
            ("Access-Control-Allow-Origin", "*"),
            (
                "Access-Control-Allow-Methods",
                "GET, HEAD, POST, PUT, DELETE, OPTIONS",
            ),
            (
                "Access-Control-Allow-Headers",
                "Content-Type, If-Match, If-None-Match, Authorization, X-Requested-With, Prefer",
            ),
            ("Access-Control-Max-Age", "86400"),
        ] {
            assert_eq!(answer.field(name), Some(value), "{path}");
        }
        assert_eq!(answer.field("Content-Length"), None);
    }
    let unknown = client.request("OPTIONS", "/unknown", &fields, "");
    unknown.assert_error(404, "M_UNRECOGNIZED");
}

/// "`OPTIONS *` is 204 (a load balancer's health check)".
#[test]
fn rfc9110_9_3_7_options_of_the_server_is_answered_whatever_the_prefix() {
    for flags in [&[][..], &["--prefix", "/"], &["--no-check-page"]] {
        let daemon = Daemon::start(flags);
        let mut client = daemon.connect();
        // As HAProxy sends it, and with a host, a body and an origin.
        for request in [
            "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: matrix.example.org\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: null\r\nContent-Length: 1\r\n\r\nx",
        ] {
            client.send(request.as_bytes());
            let answer = client.answer(false).unwrap();
            assert_eq!(answer.status, 204, "{request:?}");
            assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
            assert_eq!(answer.field("Content-Length"), None);
        }
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "BREW"] {
            let answer = client.request(method, "*", &[], "");
            assert_eq!(answer.status, 404, "{method}");
        }
        for path in ["*?", "*/", "**", "/*"] {
            let answer = client.request("OPTIONS", path, &[], "");
            let known = path == "/*" && flags.contains(&"/");
            assert_eq!(answer.status, if known { 204 } else { 404 }, "{path}");
        }
    }
}

#[test]
fn the_allowed_origin_is_a_star_and_never_an_echo() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    for origin in ["null", "https://app.example"] {
        let made = client.request("POST", "/rendezvous", &[("Origin", origin)], "x");
        for (method, path, status) in [
            ("GET", made.location(), 200),
            ("PUT", made.location(), 400),
            ("DELETE", made.location(), 204),
            ("GET", made.location(), 404),
            ("GET", "/rendezvous", 405),
        ] {
            let answer = client.request(method, path, &[("Origin", origin)], "");
            assert_eq!(answer.status, status);
            assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
        }
    }
}

/// "Expose `ETag, Location, X-Max-Bytes, Retry-After`", where there is one.
#[test]
fn what_clients_read_is_exposed_on_every_answer() {
    let daemon = Daemon::start(&["--trusted-proxy", "none", "--create-burst", "1"]);
    let mut client = daemon.connect();
    let made = client.request("POST", "/rendezvous", &[], "x");
    let limited = client.request("POST", "/rendezvous", &[], "x");
    assert_eq!(limited.status, 429);
    assert!(limited.field("Retry-After").is_some());
    let late = [("If-Match", "\"0000000000000000\"")];
    let refused = client.request("PUT", made.location(), &late, "x");
    let gone = client.request("GET", "/rendezvous/x", &[], "");
    let unknown = client.request("GET", "/unknown", &[], "");
    for answer in [made, limited, refused, gone, unknown] {
        let exposed = answer.field("Access-Control-Expose-Headers");
        assert_eq!(exposed, Some("ETag, Location, X-Max-Bytes, Retry-After"));
    }
}

#[test]
fn refusals_of_the_http_layer_can_be_read_by_browsers_too() {
    let daemon = Daemon::start(&[]);
    for (request, status) in [
        (
            "POST /rendezvous HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
            413,
        ),
        (
            "POST /rendezvous HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
            400,
        ),
    ] {
        let mut client = daemon.connect();
        client.send(request.as_bytes());
        let answer = client.answer(false).unwrap();
        let code = if status == 413 {
            "M_TOO_LARGE"
        } else {
            "M_UNKNOWN"
        };
        answer.assert_error(status, code);
    }
}

#[test]
fn a_payload_is_not_shown_as_a_page() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let html = [("Content-Type", "text/html")];
    let made = client.request("POST", "/rendezvous", &html, "<script>alert(1)</script>");
    for (name, value) in [
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Dest", "iframe"),
        ("Sec-Fetch-Dest", "script"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-User", "?1"),
        ("Sec-Fetch-Site", "none"),
    ] {
        let answer = client.request("GET", made.location(), &[(name, value)], "");
        answer.assert_error(403, "M_FORBIDDEN");
    }
    let fetch = [
        ("Sec-Fetch-Dest", "empty"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    let answer = client.request("GET", made.location(), &fetch, "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
    let policy = Some("sandbox; default-src 'none'");
    assert_eq!(answer.field("Content-Security-Policy"), policy);
}
