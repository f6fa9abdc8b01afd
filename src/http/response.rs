//! Responses, and the one function that serializes them.

use std::fmt::{Display, Write};
use std::sync::Arc;

use tiny_http::StatusCode;

use crate::block_pool::PooledBytes;

/// The body of a response.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// Text made for this response.
    Text(String),
    /// Bytes that are always the same.
    Fixed(&'static [u8]),
    /// Shared bytes that never change, and how many of them, from the first.
    Pooled(Arc<PooledBytes>, usize),
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Text(text) => text.len(),
            Self::Fixed(bytes) => bytes.len(),
            Self::Pooled(_, length) => *length,
        }
    }

    fn copy_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => {}
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Fixed(bytes) => out.extend_from_slice(bytes),
            Self::Pooled(bytes, length) => bytes.copy_to(0, *length, out),
        }
    }
}

/// A response: status, header fields, body.
///
/// `tiny_http::Response` allocates twice a field, cannot announce that the
/// connection closes and puts a length on a 204; hence this type.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The body. Of what a `HEAD`, a 204 or a 304 must not have, only the
    /// length counts.
    pub body: Body,
    constant: &'static str,
    fields: String,
}

/// What the connection does after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, as HTTP/1.1 assumes.
    KeepAlive,
    /// It stays open, which an HTTP/1.0 client must be told.
    KeepAliveExplicit,
    /// It closes, and the client is told.
    Close,
}

impl Response {
    /// A response with header fields that never change: complete lines, each
    /// with its CR LF.
    #[must_use]
    pub fn new(status: u16, constant: &'static str) -> Self {
        debug_assert!(constant.is_empty() || constant.ends_with("\r\n"));
        Self {
            status: StatusCode(status),
            body: Body::Empty,
            constant,
            // The fields of a creation, the longest, fit in one allocation.
            fields: String::with_capacity(320),
        }
    }

    /// Adds a header field. The value must not have control characters, which
    /// could begin a line of their own: what came from a peer is checked
    /// where it comes in.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        debug_assert!(!value.contains(char::is_control));
        for part in [name, ": ", value, "\r\n"] {
            self.fields.push_str(part);
        }
        self
    }

    /// The same with a value that has to be formatted, which takes longer.
    #[must_use]
    pub fn formatted(mut self, name: &str, value: impl Display) -> Self {
        self.fields.push_str(name);
        self.fields.push_str(": ");
        // Writing to a string never fails.
        let _ = write!(self.fields, "{value}");
        self.fields.push_str("\r\n");
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Appends the response to `out` as it is sent. `date` is the present time
    /// as an IMF-fixdate, `head` whether the request was a HEAD.
    pub fn write(&self, head: bool, persistence: Persistence, date: &str, out: &mut Vec<u8>) {
        let status = self.status.0;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.status.default_reason_phrase().as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.constant.as_bytes());
        out.extend_from_slice(self.fields.as_bytes());
        // RFC 9110, section 8.6: never on a 204, and on a 304 only what a
        // 200 would have had.
        let bodiless = status == 204 || status == 304;
        if !bodiless {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(self.body.len()).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(match persistence {
            Persistence::KeepAlive => b"\r\n",
            Persistence::KeepAliveExplicit => b"Connection: keep-alive\r\n\r\n",
            Persistence::Close => b"Connection: close\r\n\r\n",
        });
        if !bodiless && !head {
            self.body.copy_to(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

    fn wire(response: &Response, head: bool, persistence: Persistence) -> String {
        let mut out = Vec::new();
        response.write(head, persistence, DATE, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn text(status: u16) -> Response {
        Response::new(status, "A: b\r\n")
            .field("C", "5")
            .with(Body::Text("hello".into()))
    }

    #[test]
    fn an_answer_has_status_date_fields_length_and_body() {
        assert_eq!(
            wire(&text(200), false, Persistence::KeepAlive),
            format!(
                "HTTP/1.1 200 OK\r\nDate: {DATE}\r\nA: b\r\nC: 5\r\nContent-Length: 5\r\n\r\nhello"
            )
        );
    }

    #[test]
    fn rfc9110_9_3_2_head_has_the_length_and_no_body() {
        let answer = wire(&text(200), true, Persistence::KeepAlive);
        assert!(answer.ends_with("Content-Length: 5\r\n\r\n"), "{answer}");
    }

    #[test]
    fn rfc9110_8_6_no_length_on_204() {
        for status in [204, 304] {
            let answer = wire(&text(status), false, Persistence::KeepAlive);
            assert!(!answer.contains("Content-Length"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        }
        let empty = Response::new(202, "");
        assert!(wire(&empty, false, Persistence::KeepAlive).contains("Content-Length: 0\r\n"));
    }

    #[test]
    fn rfc9112_9_6_a_close_is_announced() {
        assert!(
            wire(&text(200), false, Persistence::Close).contains("\r\nConnection: close\r\n\r\n")
        );
        let said = wire(&text(200), false, Persistence::KeepAliveExplicit);
        assert!(said.contains("\r\nConnection: keep-alive\r\n\r\n"));
    }
}
