//! Malformed requests and the statuses that reject them: one table for the
//! decoder's unit tests, the black-box tests and the replay of the fuzzers'
//! properties.

/// A request line and fields, `Host` included, of a request whose body is read.
fn post(fields: &str) -> String {
    format!("POST /rendezvous HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// The head of a chunked body, and what follows.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n") + body
}

/// A request without fields but these lines.
fn get(lines: &str) -> String {
    format!("GET {lines}\r\n\r\n")
}

/// The bytes and the status. Each is complete enough to be rejected, for a
/// body limit of up to 4096 bytes.
pub(crate) fn malformed() -> Vec<(Vec<u8>, u16)> {
    let long = "x".repeat(17_000);
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"));
    let coding = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"));
    let host = |value: &str| get(&format!("/ HTTP/1.1\r\nHost: {value}"));
    let table = [
        // What is no HTTP at all.
        (
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".into(),
            400,
        ),
        // RFC 9112, section 2.2: lines end in CR LF.
        ("GET / HTTP/1.1\n\n".into(), 400),
        ("GET / HTTP/1.1\n".into(), 400),
        ("\nGET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: x\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\n\n".into(), 400),
        (get("/ HTTP/1.1\rHost: x"), 400),
        (post("A: b\rc\r\n"), 400),
        // What is wrong first decides.
        ("\nPRI * HTTP/2.0\r\n\r\n".into(), 400),
        ("PRI * HTTP/2.0\n\r\n".into(), 505),
        (format!("GET /\n{long}\0"), 400),
        (format!("GET /{long}\n"), 431),
        (format!("GET /{long} HTTP/2.0\r\n"), 431),
        // Section 2.3: versions.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        (get("/ HTTP/1.2\r\nHost: x"), 505),
        (get("/ HTTP/0.9"), 505),
        // Section 3: the request line.
        (get(" / HTTP/1.1\r\nHost: x"), 400),
        (get("/a b HTTP/1.1\r\nHost: x"), 505),
        (get("/ HTTP/1.1 \r\nHost: x"), 400),
        (get("/\0 HTTP/1.1\r\nHost: x"), 400),
        ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        (" GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        // Section 3.2: Host.
        (get("/ HTTP/1.1"), 400),
        (post("host: y\r\n"), 400),
        (host("a/b"), 400),
        (host("a b"), 400),
        (host("é"), 400),
        (host("u@a"), 400),
        (host(":80"), 400),
        (host("a:b"), 400),
        (host("a:1:2"), 400),
        (host("a,b"), 400),
        (host("[::1"), 400),
        (host("[x]:80"), 400),
        (host("a:123456"), 400),
        (host("[::1]x"), 400),
        // Section 3.2.2: absolute targets.
        (get("http:///x HTTP/1.0"), 400),
        (get("http://a\"b/x HTTP/1.0"), 400),
        (get("http://u@a/x HTTP/1.0"), 400),
        (get("http://? HTTP/1.0"), 400),
        // Section 5: fields.
        (post("A\r\n"), 400),
        (post("A : b\r\n"), 400),
        (post("A\t: b\r\n"), 400),
        (post("Content-Length : 5\r\n"), 400),
        (post("A: b\r\n folded\r\n"), 400),
        (post("A: b\r\n\tfolded\r\n"), 400),
        (get("/ HTTP/1.1\r\n Host: x"), 400),
        (post("A: \0\r\n"), 400),
        (post("A: \u{1}\r\n"), 400),
        (post("A: \u{7f}\r\n"), 400),
        // Section 6: framing.
        (length(""), 400),
        (length("abc"), 400),
        (length("+5"), 400),
        (length("-1"), 400),
        (length("5, 5"), 400),
        (length("5 5"), 400),
        (length("0x5"), 400),
        (length("5.0"), 400),
        (length("٣"), 400),
        (length("1\r\nContent-Length: 1"), 400),
        (length("1\r\nContent-Length: 2"), 400),
        (length("4097"), 413),
        (length("18446744073709551615"), 413),
        (length("18446744073709551616"), 413),
        (length("99999999999999999999999"), 413),
        (coding("gzip"), 501),
        (coding("gzip, chunked"), 501),
        (coding("chunked, chunked"), 501),
        (coding("xchunked"), 501),
        (coding(""), 501),
        (coding("chunked\r\nTransfer-Encoding: chunked"), 400),
        (coding("chunked\r\nContent-Length: 5"), 400),
        (length("5\r\nTransfer-Encoding: chunked"), 400),
        (get("/ HTTP/1.0\r\nTransfer-Encoding: chunked"), 400),
        // Section 7.1: the chunked coding.
        (chunked("\r\n"), 400),
        (chunked("zz\r\n"), 400),
        (chunked("-1\r\n"), 400),
        (chunked("+1\r\n"), 400),
        (chunked("0x1\r\n"), 400),
        (chunked("1 \r\n"), 400),
        (chunked("1 1\r\n"), 400),
        (chunked("1\n"), 400),
        (chunked(";a\r\n"), 400),
        (chunked("1;a\rb\r\n"), 400),
        (chunked("1;\0\r\n"), 400),
        (chunked("1\r\nxy"), 400),
        (chunked("1\r\nx\n"), 400),
        (chunked("1\r\nx\ry"), 400),
        (chunked(&format!("1;{long}")), 400),
        (chunked(&"0".repeat(300)), 400),
        (chunked("1001\r\n"), 413),
        (chunked("ffffffffffffffff\r\n"), 413),
        (chunked("fffffffffffffffff\r\n"), 413),
        // Section 7.1.2: trailers.
        (chunked("0\r\njunk\r\n"), 400),
        (chunked("0\r\n A: b\r\n"), 400),
        (chunked("0\r\nA : b\r\n"), 400),
        (chunked("0\r\n: b\r\n"), 400),
        (chunked("0\r\nA: b\n"), 400),
        (chunked("0\r\n\n"), 400),
        (chunked(&format!("0\r\nA: {long}")), 400),
        (chunked(&format!("0\r\n{}", "A: b\r\n".repeat(300))), 400),
        // RFC 9110, section 10.1.1: expectations.
        (post("Expect: tea\r\n"), 417),
        // The limits.
        (post(&format!("A: {long}\r\n")), 431),
        (post(&"A: b\r\n".repeat(100)), 431),
        (get(&format!("/{long} HTTP/1.1\r\nHost: x")), 431),
    ];
    table
        .into_iter()
        .map(|(request, status)| (request.into_bytes(), status))
        .collect()
}
