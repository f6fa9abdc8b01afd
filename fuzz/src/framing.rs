//! A second reading of RFC 9112, written for clarity and nothing else: where
//! it and the server disagree about a request's beginning, end or body, a
//! request can be smuggled past a proxy.
//!
//! It waits for a head to be complete before it looks at it, so it finds
//! later than the server that something is wrong, and never the reverse.

use std::str;

use rendezvousd::http::{FIELD_LIMIT, Framing, HEAD_LIMIT};

/// The server's limit for a chunk-size line.
const SIZE_LINE_LIMIT: usize = 256;

/// The server's limit for a trailer section.
const TRAILER_LIMIT: usize = 1024;

/// What a request says, taken out of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) minor: u8,
    pub(crate) host: Option<String>,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) body: Vec<u8>,
}

/// The most bytes of empty lines before a request.
const EMPTY_LINES: usize = 8 * 2;

/// What stands there is no request, and never becomes one.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Something and how many bytes it takes; `None` while it is incomplete.
type Reading<T> = Result<Option<(T, usize)>, Malformed>;

fn require(condition: bool) -> Result<(), Malformed> {
    condition.then_some(()).ok_or(Malformed)
}

/// Reads the request at the front, whose body may have `limit` bytes.
pub(crate) fn read(stream: &[u8], limit: usize) -> Reading<Message> {
    let blank = stream.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    require(blank <= EMPTY_LINES)?;
    let bytes = &stream[blank..];
    let Some(end) = position(bytes, b"\r\n\r\n").map(|end| end + 4) else {
        require(bytes.len() < HEAD_LIMIT)?;
        return Ok(None);
    };
    require(end <= HEAD_LIMIT)?;
    let mut message = head(&bytes[..end - 4])?;
    let rest = &bytes[end..];
    let body = match message.framing {
        Framing::Absent => Some((Vec::new(), 0)),
        Framing::Length(length) => {
            require(length <= limit as u64)?;
            let length = usize::try_from(length).map_err(|_| Malformed)?;
            rest.get(..length).map(|body| (body.to_vec(), length))
        }
        Framing::Chunked => chunked(rest, limit)?,
    };
    Ok(body.map(|(body, length)| {
        message.body = body;
        (message, blank + end + length)
    }))
}

fn position(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|part| part == pattern)
}

fn is_token(bytes: &[u8]) -> bool {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(legal)
}

/// Whether there are no control characters, other than tabs.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == b'\t' || !b.is_ascii_control())
}

/// The lines of a text, without their CR LF.
fn lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = position(bytes, b"\r\n") {
        lines.push(&bytes[..end]);
        bytes = &bytes[end + 2..];
    }
    lines.push(bytes);
    lines
}

/// Sections 3 to 6 and 9.3: everything before the empty line.
fn head(bytes: &[u8]) -> Result<Message, Malformed> {
    let lines = lines(bytes);
    let (method, target, minor) = request_line(lines[0])?;
    let fields = lines[1..].iter().map(|line| field(line));
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    require(fields.len() <= FIELD_LIMIT)?;
    let values = |name: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    };
    let named = match values("Host")[..] {
        [] if minor == 0 => None,
        [one] => Some(host(one)?),
        _ => return Err(Malformed),
    };
    let (authority, path) = split_target(&target)?;
    let expectations = values("Expect");
    let known = |value: &&[u8]| value.eq_ignore_ascii_case(b"100-continue");
    require(expectations.iter().all(known))?;
    let options = values("Connection").join(&b","[..]).to_ascii_lowercase();
    let option = |name: &[u8]| {
        options
            .split(|b| *b == b',')
            .any(|o| o.trim_ascii() == name)
    };
    Ok(Message {
        framing: framing(
            &values("Content-Length"),
            &values("Transfer-Encoding"),
            minor,
        )?,
        method,
        path,
        minor,
        host: authority.or(named),
        keep_alive: !option(b"close") && (minor == 1 || option(b"keep-alive")),
        expects_continue: !expectations.is_empty() && minor == 1,
        fields,
        body: Vec::new(),
    })
}

/// Section 3: method, target and minor version, single spaces between them.
fn request_line(line: &[u8]) -> Result<(String, String, u8), Malformed> {
    let line = str::from_utf8(line).map_err(|_| Malformed)?;
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(Malformed);
    };
    require(is_token(method.as_bytes()))?;
    require(!target.is_empty() && !target.bytes().any(|b| b.is_ascii_control()))?;
    let minor = match version {
        "HTTP/1.0" => 0,
        "HTTP/1.1" => 1,
        _ => return Err(Malformed),
    };
    Ok((method.into(), target.into(), minor))
}

/// Section 5: a token, a colon right behind it, and a text in white space. A
/// folded line begins with white space and so has no token.
fn field(line: &[u8]) -> Result<(String, Vec<u8>), Malformed> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Malformed)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    require(is_token(name) && is_text(value))?;
    let name = str::from_utf8(name).map_err(|_| Malformed)?;
    Ok((name.into(), value.trim_ascii().to_vec()))
}

/// Section 3.2: the authority of a target in absolute form, and the path.
fn split_target(target: &str) -> Result<(Option<String>, String), Malformed> {
    let lower = target.to_ascii_lowercase();
    let scheme = ["http://", "https://"]
        .iter()
        .find(|s| lower.starts_with(**s));
    let Some(scheme) = scheme else {
        let end = target.find('?').filter(|_| target.starts_with('/'));
        return Ok((None, target[..end.unwrap_or(target.len())].into()));
    };
    let rest = target[scheme.len()..].split('?').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    require(!authority.is_empty())?;
    let path = if path.is_empty() { "/" } else { path };
    Ok((Some(host(authority.as_bytes())?), path.into()))
}

/// Section 3.2 and RFC 3986, section 3.2.2: a host and maybe a port, or
/// nothing.
fn host(value: &[u8]) -> Result<String, Malformed> {
    let text = str::from_utf8(value).map_err(|_| Malformed)?;
    let end = text.find(']').map_or(0, |bracket| bracket + 1);
    let end = text[end..]
        .find(':')
        .map_or(text.len(), |colon| end + colon);
    let (name, port) = text.split_at(end);
    let inner = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&b);
    require(match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.bytes().all(legal),
    })?;
    let digits = port.strip_prefix(':').unwrap_or_default();
    require(digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()))?;
    require(port.is_empty() || !name.is_empty())?;
    Ok(text.into())
}

/// Section 6: at most one field says how long the body is.
fn framing(lengths: &[&[u8]], codings: &[&[u8]], minor: u8) -> Result<Framing, Malformed> {
    match (lengths, codings) {
        ([], []) => Ok(Framing::Absent),
        ([length], []) => {
            require(!length.is_empty() && length.iter().all(u8::is_ascii_digit))?;
            let digits = str::from_utf8(length).map_err(|_| Malformed)?;
            Ok(Framing::Length(digits.parse().unwrap_or(u64::MAX)))
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        _ => Err(Malformed),
    }
}

/// Section 7.1: a body in chunks.
fn chunked(bytes: &[u8], limit: usize) -> Reading<Vec<u8>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line(&bytes[at..], SIZE_LINE_LIMIT)? else {
            return Ok(None);
        };
        at += line.len() + 2;
        let size = chunk_size(line, limit - body.len())?;
        if size == 0 {
            let trailer = trailer(&bytes[at..])?;
            return Ok(trailer.map(|length| (body, at + length)));
        }
        let Some(chunk) = bytes.get(at..at + size) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        at += size;
        let end = &bytes[at..bytes.len().min(at + 2)];
        require(b"\r\n".starts_with(end))?;
        if end.len() < 2 {
            return Ok(None);
        }
        at += 2;
    }
}

/// Hexadecimal digits and maybe extensions behind a semicolon.
fn chunk_size(line: &[u8], limit: usize) -> Result<usize, Malformed> {
    let number = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = line[number..].trim_ascii_start();
    require(number > 0 && (line.len() == number || rest.starts_with(b";")))?;
    let size = line[..number].iter().try_fold(0_usize, |size, digit| {
        let digit = char::from(*digit).to_digit(16)? as usize;
        Some(size * 16 + digit).filter(|size| *size <= limit)
    });
    size.ok_or(Malformed)
}

/// The length of the trailer section, its empty line included.
fn trailer(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let (mut at, mut texts) = (0, 0);
    loop {
        let Some(line) = line(&bytes[at..], TRAILER_LIMIT - texts)? else {
            return Ok(None);
        };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
        field(line)?;
        texts += line.len();
    }
}

/// The line at the front, without its CR LF.
fn line(bytes: &[u8], limit: usize) -> Result<Option<&[u8]>, Malformed> {
    let Some(end) = position(bytes, b"\r\n") else {
        return Ok(None);
    };
    require(end <= limit && is_text(&bytes[..end]))?;
    Ok(Some(&bytes[..end]))
}
