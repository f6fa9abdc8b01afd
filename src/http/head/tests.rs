use super::*;

/// What becomes of a head: path and framing, or the refusal's status.
fn outcome(head: &str) -> Result<Option<(String, Framing)>, u16> {
    let mut space = fields();
    Head::parse(head.as_bytes(), &mut space)
        .map(|head| head.map(|head| (head.path.to_owned(), head.framing)))
        .map_err(|rejection| rejection.status.0)
}

fn refused(head: &str) -> u16 {
    outcome(head).expect_err(head)
}

fn with(fields: &str) -> String {
    format!("POST /r HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn framing(fields: &str) -> Framing {
    outcome(&with(fields)).expect(fields).expect(fields).1
}

#[test]
fn an_incomplete_head_is_awaited() {
    let head = with("Content-Length: 5\r\n");
    for end in 0..head.len() {
        assert_eq!(outcome(&head[..end]), Ok(None), "{end}");
    }
    assert!(outcome(&head).unwrap().is_some());
}

#[test]
fn rfc9112_2_2_empty_lines_before_a_request_are_ignored() {
    assert!(outcome("\r\n\r\nGET / HTTP/1.0\r\n\r\n").unwrap().is_some());
}

#[test]
fn rfc9112_2_2_bare_line_feeds_are_refused() {
    for head in [
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\n",
    ] {
        assert_eq!(refused(head), 400, "{head:?}");
    }
}

#[test]
fn what_is_wrong_first_is_what_is_said() {
    let long = "x".repeat(HEAD_LIMIT);
    for (head, status) in [
        ("\nPRI * HTTP/2.0\r\n\r\n".to_owned(), 400),
        ("PRI * HTTP/2.0\n\r\n".to_owned(), 505),
        (format!("GET /\n{long}\0"), 400),
        (format!("GET /{long}\n"), 431),
        (format!("GET /{long} HTTP/2.0\r\n"), 431),
    ] {
        assert_eq!(refused(&head), status, "{:?}", &head[..8]);
    }
}

#[test]
fn rfc9112_2_2_bare_carriage_returns_are_refused() {
    assert_eq!(refused(&with("A: b\rc\r\n")), 400);
    assert_eq!(refused("GET / HTTP/1.1\rHost: x\r\n\r\n"), 400);
}

#[test]
fn rfc9112_2_3_versions_other_than_1_0_and_1_1_are_refused() {
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_eq!(refused("GET / HTTP/1.2\r\nHost: x\r\n\r\n"), 505);
    assert_eq!(refused("GET / HTTP/0.9\r\n\r\n"), 505);
}

#[test]
fn rfc9112_3_malformed_request_lines_are_refused() {
    for head in [
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
        "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let status = refused(head);
        assert!(status == 400 || status == 505, "{head:?}: {status}");
    }
}

#[test]
fn rfc9112_3_2_host_is_required_once_and_well_formed() {
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refused(&with("host: y\r\n")), 400);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: é\r\n\r\n"), 400);
    for bad in [
        ":80", "a:b", "a:1:2", "a,b", "[::1", "[x]:80", "a:123456", "[::1]x",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        assert_eq!(refused(&head), 400, "{bad}");
    }
    for good in [
        "a",
        "a.example:8090",
        "127.0.0.1:80",
        "[::1]",
        "[fd00::1]:443",
        "a_b",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n");
        assert!(outcome(&head).is_ok(), "{good}");
    }
    assert!(outcome("GET / HTTP/1.0\r\n\r\n").is_ok());
    assert!(outcome("GET / HTTP/1.1\r\nHost:\r\n\r\n").is_ok());
    assert!(outcome("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").is_ok());
}

#[test]
fn rfc9112_3_2_2_an_absolute_target_names_the_host() {
    let mut space = fields();
    let bytes = b"GET HTTP://a.example:1/p?q HTTP/1.1\r\nHost: b\r\n\r\n";
    let head = Head::parse(bytes, &mut space).unwrap().unwrap();
    assert_eq!((head.host, head.path), (Some("a.example:1"), "/p"));
    let path = |target| outcome(&format!("GET {target} HTTP/1.0\r\n\r\n"));
    assert_eq!(path("http://a").unwrap().unwrap().0, "/");
    assert_eq!(path("http://a?/x").unwrap().unwrap().0, "/");
    assert_eq!(path("/a?b/c").unwrap().unwrap().0, "/a");
    assert_eq!(path("*").unwrap().unwrap().0, "*");
    for bad in ["http:///x", "http://a\"b/x", "http://u@a/x", "http://?"] {
        assert_eq!(path(bad), Err(400), "{bad}");
    }
}

#[test]
fn rfc9112_5_1_white_space_before_a_colon_is_refused() {
    assert_eq!(refused(&with("Content-Length : 5\r\n")), 400);
    assert_eq!(refused(&with("A\t: 5\r\n")), 400);
}

#[test]
fn rfc9112_5_2_obsolete_folding_is_refused() {
    assert_eq!(refused(&with("A: b\r\n c\r\n")), 400);
    assert_eq!(refused(&with("A: b\r\n\tc\r\n")), 400);
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: x\r\n\r\n"), 400);
}

#[test]
fn rfc9110_5_5_control_bytes_in_values_are_refused() {
    for byte in (0..32_u8).chain([127]) {
        let value = char::from(byte);
        let expect = byte != b'\t';
        let head = with(&format!("A: b{value}c\r\n"));
        assert_eq!(outcome(&head).is_err(), expect, "{byte}");
    }
}

#[test]
fn rfc9112_6_2_content_length_is_digits_and_stands_once() {
    assert_eq!(framing(""), Framing::Absent);
    assert_eq!(framing("content-length: 0\r\n"), Framing::Length(0));
    assert_eq!(framing("Content-Length:  17 \r\n"), Framing::Length(17));
    for value in ["", "abc", "+5", "-1", "5, 5", "5 5", "0x5", "5.0", "٣"] {
        let head = with(&format!("Content-Length: {value}\r\n"));
        assert_eq!(refused(&head), 400, "{value:?}");
    }
    let twice = "Content-Length: 5\r\nContent-Length: 5\r\n";
    assert_eq!(refused(&with(twice)), 400);
}

#[test]
fn a_content_length_beyond_64_bits_is_the_largest() {
    let value = "Content-Length: 99999999999999999999999\r\n";
    assert_eq!(framing(value), Framing::Length(u64::MAX));
    let value = "Content-Length: 18446744073709551616\r\n";
    assert_eq!(framing(value), Framing::Length(u64::MAX));
}

#[test]
fn rfc9112_6_1_chunked_is_the_only_coding_and_excludes_a_length() {
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Framing::Chunked);
    for value in ["gzip", "gzip, chunked", "chunked, chunked", "xchunked", ""] {
        let head = with(&format!("Transfer-Encoding: {value}\r\n"));
        assert_eq!(refused(&head), 501, "{value:?}");
    }
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for both in [
        format!("{length}{chunked}"),
        format!("{chunked}{length}"),
        format!("{chunked}{chunked}"),
    ] {
        assert_eq!(refused(&with(&both)), 400, "{both:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), 400);
}

#[test]
fn rfc9112_9_3_connections_persist_by_version_and_option() {
    let keeps = |version: &str, option: &str| {
        let bytes = format!("GET / HTTP/{version}\r\nHost: x\r\n{option}\r\n");
        let mut space = fields();
        let head = Head::parse(bytes.as_bytes(), &mut space);
        head.unwrap().unwrap().keep_alive
    };
    assert!(keeps("1.1", ""));
    assert!(!keeps("1.0", ""));
    assert!(!keeps("1.1", "Connection: close\r\n"));
    assert!(!keeps("1.1", "Connection: upgrade, Close\r\n"));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
    assert!(!keeps(
        "1.0",
        "Connection: close\r\nConnection: keep-alive\r\n"
    ));
    assert!(!keeps(
        "1.1",
        "Connection: close\r\nConnection: keep-alive\r\n"
    ));
}

#[test]
fn rfc9110_10_1_1_the_only_expectation_is_100_continue() {
    assert_eq!(refused(&with("Expect: tea\r\n")), 417);
    assert!(outcome(&with("Expect: 100-Continue\r\n")).is_ok());
}

#[test]
fn heads_over_the_limits_are_refused() {
    let room = HEAD_LIMIT - with("A: \r\n").len();
    let field = |size: usize| with(&format!("A: {}\r\n", "x".repeat(size)));
    assert!(outcome(&field(room)).is_ok());
    assert_eq!(refused(&field(room + 1)), 431);
    let partial = |size: usize| format!("GET /{}", "x".repeat(size - 5));
    assert_eq!(outcome(&partial(HEAD_LIMIT - 1)), Ok(None));
    assert_eq!(refused(&partial(HEAD_LIMIT)), 431);
    assert!(outcome(&with(&"A: b\r\n".repeat(FIELD_LIMIT - 1))).is_ok());
    assert_eq!(refused(&with(&"A: b\r\n".repeat(FIELD_LIMIT))), 431);
}

#[test]
fn fields_are_found_by_name_in_any_case() {
    let bytes = with("if-match: \"a\"\r\nIF-MATCH: b\r\n");
    let mut space = fields();
    let head = Head::parse(bytes.as_bytes(), &mut space).unwrap().unwrap();
    assert_eq!(head.value("If-Match"), Some(&b"\"a\""[..]));
    assert_eq!(head.values("If-Match").count(), 2);
    assert_eq!(head.value("If-None-Match"), None);
}
