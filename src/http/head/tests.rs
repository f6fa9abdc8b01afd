use super::*;

/// What becomes of a head: path and framing, or the rejection's status.
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
fn rfc9112_3_2_well_formed_hosts_are_taken() {
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
fn rfc9112_6_2_content_length_is_digits() {
    assert_eq!(framing(""), Framing::Absent);
    assert_eq!(framing("content-length: 0\r\n"), Framing::Length(0));
    assert_eq!(framing("Content-Length:  17 \r\n"), Framing::Length(17));
}

#[test]
fn a_content_length_beyond_64_bits_is_the_largest() {
    let value = "Content-Length: 99999999999999999999999\r\n";
    assert_eq!(framing(value), Framing::Length(u64::MAX));
    let value = "Content-Length: 18446744073709551616\r\n";
    assert_eq!(framing(value), Framing::Length(u64::MAX));
}

#[test]
fn rfc9112_6_1_chunked_is_read_in_any_case() {
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Framing::Chunked);
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
fn rfc9110_10_1_1_the_expectation_is_read_in_any_case() {
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
