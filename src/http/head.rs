//! Request heads: `httparse` reads them, this module refuses what RFC 9112
//! wants refused and `httparse` lets pass.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;
use std::str::FromStr;

use httparse::{Header, Status};
use memchr::memchr_iter;
use tiny_http::{HTTPVersion, Method};

use super::{FIELD_LIMIT, HEAD_LIMIT, Rejection};

/// Where a request's body ends (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: no body.
    Absent,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A complete request head.
#[derive(Debug)]
pub struct Head<'b, 'f> {
    /// The method.
    pub method: Method,
    /// The path of the target without its query, still percent-encoded.
    pub path: &'b str,
    /// The version the client speaks.
    pub version: HTTPVersion,
    /// The authority of the target, or else the `Host` field.
    pub host: Option<&'b str>,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants the connection kept after the answer.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends a body.
    pub expects_continue: bool,
    /// Bytes of the head, the empty line included.
    pub length: usize,
    closes: bool,
    fields: &'f [Header<'b>],
}

/// A complete request.
#[derive(Debug)]
pub struct Request<'b, 'f> {
    /// Everything before the body.
    pub head: Head<'b, 'f>,
    /// The body, its transfer coding undone.
    pub body: &'b [u8],
}

/// What stands in the first line (RFC 9112, section 3).
struct RequestLine<'b> {
    method: &'b str,
    target: &'b str,
    minor: u8,
}

/// Space for the fields of a head that is being parsed.
pub(super) type Fields<'b> = [MaybeUninit<Header<'b>>; FIELD_LIMIT];

/// Space for the fields of one head.
pub(super) const fn fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; FIELD_LIMIT]
}

impl<'b, 'f> Head<'b, 'f> {
    /// Reads a head from the front of `bytes`; `None` while it is incomplete.
    ///
    /// # Errors
    /// The refusal, as soon as it is certain.
    pub(super) fn parse(
        bytes: &'b [u8],
        fields: &'f mut Fields<'b>,
    ) -> Result<Option<Self>, Rejection> {
        let mut parser = httparse::Request::new(&mut []);
        let status = parser.parse_with_uninit_headers(bytes, fields);
        let length = match status.map_err(|error| first_fault(bytes, error))? {
            Status::Complete(length) if length <= HEAD_LIMIT => length,
            Status::Partial if bytes.len() < HEAD_LIMIT => {
                reject_bare_line_feeds(bytes)?;
                return Ok(None);
            }
            _ => {
                reject_bare_line_feeds(&bytes[..HEAD_LIMIT])?;
                return Err(Rejection::HEAD_TOO_LARGE);
            }
        };
        reject_bare_line_feeds(&bytes[..length])?;
        let line = RequestLine {
            method: parser.method.unwrap_or_default(),
            target: parser.path.unwrap_or_default(),
            minor: parser.version.unwrap_or_default(),
        };
        Self::new(&line, parser.headers, length).map(Some)
    }

    fn new(
        line: &RequestLine<'b>,
        fields: &'f [Header<'b>],
        length: usize,
    ) -> Result<Self, Rejection> {
        let (authority, path) = split_target(line.target);
        let mut head = Self {
            method: Method::from_str(line.method)
                .map_err(|()| Rejection::malformed("The method is not a token"))?,
            path,
            version: HTTPVersion(1, line.minor),
            host: None,
            framing: Framing::Absent,
            keep_alive: line.minor == 1,
            expects_continue: false,
            length,
            closes: false,
            fields,
        };
        for field in head.fields {
            head.note(field)?;
        }
        if head.host.is_none() && line.minor == 1 {
            return Err(Rejection::malformed("HTTP/1.1 requires a Host field"));
        }
        if head.framing == Framing::Chunked && line.minor == 0 {
            return Err(Rejection::malformed("HTTP/1.0 has no transfer codings"));
        }
        // RFC 9112, section 9.3: the option to close wins.
        head.keep_alive &= !head.closes;
        if let Some(authority) = authority {
            head.host = Some(host(authority.as_bytes()).and_then(|host| match host {
                "" => Err(Rejection::malformed("The target names no host")),
                _ => Ok(host),
            })?);
        }
        Ok(head)
    }

    /// Takes in a field that decides about the connection or the body.
    fn note(&mut self, field: &Header<'b>) -> Result<(), Rejection> {
        let value = field.value;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("Host") => {
                if self.host.is_some() {
                    return Err(Rejection::malformed("More than one Host field"));
                }
                self.host = Some(host(value)?);
            }
            6 if is("Expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Rejection::EXPECTATION);
                }
                // RFC 9110, 10.1.1: from an HTTP/1.0 client it is ignored.
                self.expects_continue = self.version.1 == 1;
            }
            10 if is("Connection") => {
                self.closes |= lists(value, "close");
                self.keep_alive |= lists(value, "keep-alive");
            }
            14 if is("Content-Length") => self.frame(Framing::Length(content_length(value)?))?,
            17 if is("Transfer-Encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Rejection::CODING);
                }
                self.frame(Framing::Chunked)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self, framing: Framing) -> Result<(), Rejection> {
        if self.framing != Framing::Absent {
            return Err(Rejection::malformed(
                "Content-Length and Transfer-Encoding must not be repeated or combined",
            ));
        }
        self.framing = framing;
        Ok(())
    }

    /// Names and values of all fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// The values of all fields of this name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.fields()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the first field of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'b [u8]> {
        self.values(name).next()
    }
}

fn rejection(error: httparse::Error) -> Rejection {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Rejection::HEAD_TOO_LARGE,
        Error::Version => Rejection::VERSION,
        Error::HeaderName => Rejection::malformed("A field name is malformed"),
        Error::HeaderValue => Rejection::malformed("A field value is malformed"),
        Error::NewLine => Rejection::malformed("A line does not end in CR LF"),
        Error::Token | Error::Status => Rejection::malformed("The request line is malformed"),
    }
}

const BARE_LINE_FEED: Rejection = Rejection::malformed("A line does not end in CR LF");

/// What is wrong first with a head that `httparse` refuses somewhere: what
/// would have been refused had the bytes come one by one.
fn first_fault(bytes: &[u8], error: httparse::Error) -> Rejection {
    let bare = |place: &usize| bytes[*place] == b'\n' && (*place == 0 || bytes[place - 1] != b'\r');
    let bare = (0..bytes.len().min(HEAD_LIMIT)).find(bare);
    let before = &bytes[..bare.unwrap_or(bytes.len().min(HEAD_LIMIT))];
    let mut space = fields();
    let mut parser = httparse::Request::new(&mut []);
    match parser.parse_with_uninit_headers(before, &mut space) {
        Err(error) => rejection(error),
        Ok(_) if bare.is_some() => BARE_LINE_FEED,
        Ok(_) if bytes.len() >= HEAD_LIMIT => Rejection::HEAD_TOO_LARGE,
        Ok(_) => rejection(error),
    }
}

/// RFC 9112, section 2.2, lets a recipient take a bare LF for a line's end;
/// where a proxy disagrees about that, requests can be smuggled.
fn reject_bare_line_feeds(bytes: &[u8]) -> Result<(), Rejection> {
    let ends_well = |end: usize| end > 0 && bytes[end - 1] == b'\r';
    if memchr_iter(b'\n', bytes).all(ends_well) {
        Ok(())
    } else {
        Err(BARE_LINE_FEED)
    }
}

/// Splits a target into authority (RFC 9112, section 3.2.2) and path.
fn split_target(target: &str) -> (Option<&str>, &str) {
    let path = |target: &'_ str| target.find('?').unwrap_or(target.len());
    if target.starts_with('/') {
        return (None, &target[..path(target)]);
    }
    let absolute = ["http://", "https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme)
            .then(|| &target[scheme.len()..])
    });
    let Some(rest) = absolute else {
        return (None, target);
    };
    let rest = &rest[..path(rest)];
    match rest.find('/') {
        Some(slash) => (Some(&rest[..slash]), &rest[slash..]),
        None => (Some(rest), "/"),
    }
}

/// RFC 9112, section 3.2: a Host that is no `uri-host [":" port]` is a 400.
fn host(value: &[u8]) -> Result<&str, Rejection> {
    str::from_utf8(value)
        .ok()
        .filter(|text| is_host(text))
        .ok_or(Rejection::malformed("The Host field is malformed"))
}

/// Whether a text is a host with or without a port (RFC 3986, sections 3.2.2
/// and 3.2.3), or empty. No list: nobody names a host with a comma.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            (address, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:".contains(&b);
    let digits = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    name.bytes().all(legal)
        && (port.is_empty() || (!name.is_empty() && port.strip_prefix(':').is_some_and(digits)))
}

/// Digits only (RFC 9110, section 8.6); a number beyond 64 bits is as good
/// as the largest.
fn content_length(value: &[u8]) -> Result<u64, Rejection> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Rejection::malformed("Content-Length is not a number"));
    }
    Ok(value.iter().fold(0_u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// Whether a comma-separated value has this option.
fn lists(value: &[u8], option: &str) -> bool {
    value
        .split(|b| *b == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

#[cfg(test)]
mod tests {
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
}
