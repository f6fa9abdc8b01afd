//! Request heads: `httparse` reads them, this module rejects what RFC 9112
//! forbids and `httparse` lets pass.

use std::mem::MaybeUninit;
use std::str;
use std::str::FromStr;

use httparse::{Header, Status};
use memchr::{memchr, memchr_iter};
use tiny_http::{HTTPVersion, Method};

use super::limits::{FIELD_LIMIT, HEAD_LIMIT};
use super::rejection::Rejection;
use crate::client::is_host;

#[cfg(test)]
mod tests;

/// The framing of a request's body (RFC 9112, section 6).
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
    /// Whether the client wants the connection kept after the response.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends a body.
    pub expects_continue: bool,
    /// Bytes of the head, the empty line included.
    pub length: usize,
    closes: bool,
    fields: &'f [Header<'b>],
}

/// The request line (RFC 9112, section 3).
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
    /// The rejection, as soon as it is certain.
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
            head.evaluate(field)?;
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

    /// Evaluates a field that decides about the connection or the body.
    fn evaluate(&mut self, field: &Header<'b>) -> Result<(), Rejection> {
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
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = (&'b str, &'b [u8])> + Clone {
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

/// The first fault of a head that `httparse` refuses somewhere: the one that
/// would have been rejected had the bytes come one by one.
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
    let path = |target: &str| memchr(b'?', target.as_bytes()).unwrap_or(target.len());
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
