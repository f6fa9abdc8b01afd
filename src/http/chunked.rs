//! The chunked transfer coding of request bodies (RFC 9112, section 7.1).

use std::str;

use super::rejection::Rejection;

/// The longest chunk-size line, extensions included. No client sends
/// extensions; a longer line is an attack.
const LINE_LIMIT: usize = 256;

/// The longest trailer section. It is read and dropped.
const TRAILER_LIMIT: usize = 1024;

/// Decodes the coding in place, as bytes arrive.
///
/// What is still coded stands in the buffer behind the body decoded so far, or
/// its last part.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    decoded: usize,
    trailer: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailer,
}

impl Chunked {
    /// Bytes of body decoded so far.
    pub(super) fn decoded(&self) -> usize {
        self.decoded
    }

    /// Decodes what it can of `buffer` from `end` on, where the body decoded so
    /// far ends, and closes the gaps; true when the body is complete.
    ///
    /// # Errors
    /// A malformed coding, or a body of more than `limit` bytes.
    pub(super) fn decode(
        &mut self,
        buffer: &mut Vec<u8>,
        mut end: usize,
        limit: usize,
    ) -> Result<bool, Rejection> {
        let mut read = end;
        let outcome = self.run(buffer, &mut end, &mut read, limit);
        buffer.drain(end..read);
        outcome
    }

    fn run(
        &mut self,
        buffer: &mut [u8],
        end: &mut usize,
        read: &mut usize,
        limit: usize,
    ) -> Result<bool, Rejection> {
        loop {
            let coded = &buffer[*read..];
            match self.state {
                State::Size => {
                    let Some(line) = line(coded, LINE_LIMIT)? else {
                        return Ok(false);
                    };
                    let size = chunk_size(line)?;
                    *read += line.len() + 2;
                    if size > (limit - self.decoded) as u64 {
                        return Err(Rejection::BODY_TOO_LARGE);
                    }
                    self.state = match usize::try_from(size) {
                        Ok(0) => State::Trailer,
                        Ok(size) => State::Data(size),
                        Err(_) => return Err(Rejection::BODY_TOO_LARGE),
                    };
                }
                State::Data(left) => {
                    let take = left.min(coded.len());
                    buffer.copy_within(*read..*read + take, *end);
                    *end += take;
                    *read += take;
                    self.decoded += take;
                    if take < left {
                        self.state = State::Data(left - take);
                        return Ok(false);
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => {
                    if !b"\r\n".starts_with(&coded[..coded.len().min(2)]) {
                        return Err(Rejection::malformed("A chunk is longer than its size"));
                    }
                    if coded.len() < 2 {
                        return Ok(false);
                    }
                    *read += 2;
                    self.state = State::Size;
                }
                State::Trailer => {
                    let Some(line) = line(coded, TRAILER_LIMIT - self.trailer)? else {
                        return Ok(false);
                    };
                    *read += line.len() + 2;
                    if line.is_empty() {
                        return Ok(true);
                    }
                    if !is_field(line) {
                        return Err(Rejection::malformed("A trailer field is malformed"));
                    }
                    self.trailer += line.len();
                }
            }
        }
    }
}

/// The line at the front, without its end; `None` while it is incomplete.
fn line(bytes: &[u8], limit: usize) -> Result<Option<&[u8]>, Rejection> {
    let feed = bytes.iter().position(|b| *b == b'\n');
    let line = &bytes[..feed.unwrap_or(bytes.len())];
    let (text, returned) = match line.split_last() {
        Some((b'\r', text)) => (text, true),
        _ => (line, false),
    };
    // In the order in which single bytes would have shown it.
    let known = &text[..text.len().min(limit + 1)];
    if known.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(Rejection::malformed("The chunked coding is malformed"));
    }
    if text.len() > limit {
        return Err(Rejection::malformed(
            "A line of the chunked coding is too long",
        ));
    }
    if feed.is_some() && !returned {
        return Err(Rejection::malformed("The chunked coding is malformed"));
    }
    Ok(feed.map(|_| text))
}

/// Whether a line is a field: a token and a colon, and something.
fn is_field(line: &[u8]) -> bool {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let mut parts = line.splitn(2, |b| *b == b':');
    let name = parts.next().unwrap_or_default();
    !name.is_empty() && name.iter().all(token) && parts.next().is_some()
}

fn chunk_size(line: &[u8]) -> Result<u64, Rejection> {
    let malformed = Rejection::malformed("A chunk size is malformed");
    let hex = |b: &&u8| b.is_ascii_hexdigit();
    let digits = line.iter().take_while(hex).count();
    let (number, rest) = line.split_at(digits);
    let extension = rest.trim_ascii_start();
    if !rest.is_empty() && extension.first() != Some(&b';') {
        return Err(malformed);
    }
    let number = str::from_utf8(number).map_err(|_| malformed)?;
    match u64::from_str_radix(number, 16) {
        Ok(size) => Ok(size),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => Ok(u64::MAX),
        Err(_) => Err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 10;

    /// The body of a complete coding, or the rejection's status.
    fn decode(coded: &str) -> Result<Option<String>, u16> {
        let mut buffer = coded.as_bytes().to_vec();
        let mut chunked = Chunked::default();
        match chunked.decode(&mut buffer, 0, LIMIT) {
            Ok(true) => {
                buffer.truncate(chunked.decoded());
                Ok(Some(String::from_utf8(buffer).unwrap()))
            }
            Ok(false) => Ok(None),
            Err(rejection) => Err(rejection.status.0),
        }
    }

    fn body(text: &str) -> Result<Option<String>, u16> {
        Ok(Some(text.into()))
    }

    #[test]
    fn rfc9112_7_1_chunks_are_joined() {
        assert_eq!(decode("0\r\n\r\n"), body(""));
        assert_eq!(decode("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), body("abcde"));
        assert_eq!(
            decode("00A\r\n0123456789\r\n000\r\n\r\n"),
            body("0123456789")
        );
    }

    #[test]
    fn rfc9112_7_1_1_extensions_are_ignored() {
        assert_eq!(decode("1;a=b\r\nx\r\n0 ; c=\"d\"\r\n\r\n"), body("x"));
    }

    #[test]
    fn rfc9112_7_1_2_trailers_are_dropped() {
        assert_eq!(decode("1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n"), body("x"));
        let long = format!("0\r\nA: {}\r\n\r\n", "x".repeat(TRAILER_LIMIT));
        assert_eq!(decode(&long), Err(400));
        let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(TRAILER_LIMIT / 4 + 1));
        assert_eq!(decode(&many), Err(400));
    }

    #[test]
    fn an_endless_size_line_is_refused() {
        let fits = "x".repeat(LINE_LIMIT - 2);
        let coded = format!("1;{fits}\r\nx\r\n0\r\n\r\n");
        assert_eq!(decode(&coded), body("x"));
        let coded = format!("1;{}", "x".repeat(LINE_LIMIT));
        assert_eq!(decode(&coded), Err(400));
        assert_eq!(decode(&"0".repeat(LINE_LIMIT + 1)), Err(400));
    }

    #[test]
    fn a_body_over_the_limit_is_refused_before_it_is_read() {
        assert_eq!(decode("b\r\n"), Err(413));
        assert_eq!(decode("6\r\nabcdef\r\n5\r\n"), Err(413));
        assert_eq!(decode("ffffffffffffffff\r\n"), Err(413));
        assert_eq!(decode("fffffffffffffffff\r\n"), Err(413));
    }

    #[test]
    fn one_byte_at_a_time_gives_the_same_and_keeps_no_waste() {
        let coded = "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n";
        let mut buffer = b"head".to_vec();
        let mut chunked = Chunked::default();
        for (sent, byte) in coded.bytes().enumerate() {
            buffer.push(byte);
            let end = 4 + chunked.decoded();
            let complete = chunked.decode(&mut buffer, end, LIMIT).unwrap();
            assert_eq!(complete, sent + 1 == coded.len());
            assert!(buffer.len() <= 4 + LIMIT + 8);
        }
        assert_eq!(buffer, b"headabcde");
    }
}
