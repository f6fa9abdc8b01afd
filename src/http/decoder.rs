//! An incremental decoder from a connection's bytes to requests.

use super::chunked::Chunked;
use super::head::{Framing, Head, fields};
use super::rejection::Rejection;
use super::request::{BodyLimit, Request};
use crate::block_pool::PooledBytes;

#[cfg(test)]
mod tests;

/// Finds the requests in a connection's bytes.
///
/// It works in a buffer that it is lent by [`Self::resume`] and returns with
/// [`Self::suspend`]. While suspended, what was received of a request is in the
/// block pool, so that idle connections have no buffer. Bytes of a body stay
/// there until it is complete, and are not copied at every turn.
///
/// What holds between two calls, `received` being the bytes of the stream that
/// belong to no answered request:
///
/// | `state` | `head_and_body` | lent: `buffer[start..]` | suspended: `undecoded` |
/// |---|---|---|---|
/// | `Head` | empty | `received` | `received` |
/// | `Body` | the head and the body decoded before the last `resume` | the body decoded since, then what is not decoded | what is not decoded |
/// | `Rejected` | empty | bytes pushed since | empty, or such bytes |
///
/// While lent, `undecoded` still has what `resume` copied to the front of
/// `buffer`, unless that was used up: `suspend` then need not copy it back.
/// While suspended, `buffer` is empty and without capacity, and `start` is 0.
/// A body of known length is never undecoded, so only the chunked coding
/// leaves something there. In `Rejected` nothing is decoded any more.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The head and the body so far of a request whose head is complete.
    head_and_body: PooledBytes,
    /// What follows them and is not decoded yet.
    undecoded: PooledBytes,
    buffer: Vec<u8>,
    /// Where the next request begins in the buffer.
    start: usize,
    /// Empty lines since the last request.
    empty_lines: usize,
    state: State,
}

/// Empty lines that may come before a request. Old browsers send one after a
/// body; more would be a connection that is never idle and asks for nothing.
const EMPTY_LINES: usize = 8;

#[derive(Debug, Default)]
enum State {
    #[default]
    /// Awaits the end of a head.
    Head,
    /// Awaits the end of a body.
    Body(Body),
    /// A request was rejected, or answered before its body was read; whether it
    /// was a `HEAD`.
    Rejected(bool),
}

/// An empty body in the chunked coding, as a proxy may give it to a request that
/// had none.
const EMPTY_CHUNKED: &[u8] = b"0\r\n\r\n";

/// A request whose head is complete and whose body is not.
#[derive(Debug)]
struct Body {
    /// Bytes of the head.
    head: usize,
    coding: Coding,
    /// The largest body that the route takes, in bytes.
    limit: usize,
    /// Whether `100 Continue` has to be sent.
    continue_due: bool,
}

impl Body {
    /// How many of the `available` bytes behind the first `kept` ones of the
    /// request belong to its head and its decoded body.
    fn decoded(&self, kept: usize, available: usize) -> usize {
        match &self.coding {
            Coding::Length(_) => available,
            Coding::Chunked(chunked) => self.head + chunked.decoded() - kept,
        }
    }
}

#[derive(Debug)]
enum Coding {
    Length(usize),
    Chunked(Chunked),
}

/// The progress of a decoder.
#[derive(Debug)]
pub enum Status<T> {
    /// More bytes are needed.
    Partial,
    /// More bytes are needed, and the client waits for `100 Continue`.
    Continue,
    /// A request was complete, and this is what the handler made of it.
    Complete(T),
    /// The same without its body, which is not read; nor is what follows.
    Unread(T),
}

impl Decoder {
    /// Borrows a buffer to work in.
    pub fn resume(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.undecoded.copy_to(0, self.undecoded.len(), &mut buffer);
        self.buffer = buffer;
    }

    /// Returns the buffer and keeps what is left in it.
    pub fn suspend(&mut self) -> Vec<u8> {
        let start = std::mem::take(&mut self.start);
        let buffer = std::mem::take(&mut self.buffer);
        let bytes = &buffer[start..];
        if let State::Body(body) = &self.state {
            let decoded = body.decoded(self.head_and_body.len(), bytes.len());
            let (decoded, undecoded) = bytes.split_at(decoded);
            self.head_and_body.append(decoded);
            self.undecoded = PooledBytes::new(&[undecoded]);
        } else {
            self.undecoded.append(&bytes[self.undecoded.len()..]);
        }
        buffer
    }

    /// Appends bytes from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the connection is between two requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.undecoded.is_empty() && self.head_and_body.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.head_and_body.len() + self.buffer.len().max(self.undecoded.len())
    }

    /// Bytes taken in the block pool.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.head_and_body.size() + self.undecoded.size()
    }

    /// Whether the pending or rejected request is a HEAD; its response must
    /// have no body even if it is an error.
    #[must_use]
    pub fn is_head(&self) -> bool {
        const METHOD: &[u8] = b"HEAD ";
        match self.state {
            State::Rejected(head) => head,
            State::Head | State::Body(_) if self.head_and_body.is_empty() => {
                self.buffer[self.start..].starts_with(METHOD)
            }
            State::Head | State::Body(_) => {
                let mut method = Vec::new();
                let end = METHOD.len().min(self.head_and_body.len());
                self.head_and_body.copy_to(0, end, &mut method);
                method == METHOD
            }
        }
    }

    /// Looks for the next request. `respond` gets it as soon as its head is
    /// complete, and once more with its body if it asks for that.
    ///
    /// # Errors
    /// The request is rejected, once; nothing that follows can be understood.
    pub fn step<T>(
        &mut self,
        respond: impl FnMut(&Request<'_, '_>) -> Result<T, BodyLimit>,
    ) -> Result<Status<T>, Rejection> {
        let status = match self.state {
            State::Head if !self.buffer.is_empty() => self.head(respond),
            // All of it may be in the pool: what was pushed and not decoded
            // before a suspension.
            State::Body(_) => self.body(respond),
            State::Head | State::Rejected(_) => Ok(Status::Partial),
        };
        if matches!(status, Err(_) | Ok(Status::Unread(_))) {
            self.state = State::Rejected(self.is_head());
            self.undecoded = PooledBytes::default();
            self.forget();
        }
        status
    }

    /// Looks for a head, and for a body that has come with it.
    fn head<T>(
        &mut self,
        mut respond: impl FnMut(&Request<'_, '_>) -> Result<T, BodyLimit>,
    ) -> Result<Status<T>, Rejection> {
        // RFC 9112, section 2.2: an empty line before a request is ignored.
        // Dropped here, it does not count as a request's beginning.
        while self.buffer[self.start..].starts_with(b"\r\n") {
            if self.empty_lines == EMPTY_LINES {
                return Err(Rejection::malformed("Too many empty lines"));
            }
            self.empty_lines += 1;
            self.consume(2);
        }
        if self.buffer.is_empty() {
            return Ok(Status::Partial);
        }
        let bytes = &self.buffer[self.start..];
        let mut space = fields();
        let Some(head) = Head::parse(bytes, &mut space)? else {
            return Ok(Status::Partial);
        };
        let front = head.length;
        let (coding, end) = match head.framing {
            Framing::Absent => (Coding::Length(0), Some(front)),
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                (Coding::Length(length), front.checked_add(length))
            }
            Framing::Chunked => {
                let empty = bytes[front..].starts_with(EMPTY_CHUNKED);
                let end = front + EMPTY_CHUNKED.len();
                (Coding::Chunked(Chunked::default()), empty.then_some(end))
            }
        };
        let end = end.filter(|end| *end <= bytes.len());
        let continue_due = head.expects_continue && bytes.len() == front;
        let body = end.map(|end| match coding {
            Coding::Length(_) => &bytes[front..end],
            Coding::Chunked(_) => &[],
        });
        let request = Request::new(head, body);
        match (respond(&request), end) {
            (Ok(answer), Some(end)) => {
                self.complete(end);
                return Ok(Status::Complete(answer));
            }
            (Ok(answer), None) => return Ok(Status::Unread(answer)),
            (Err(BodyLimit(limit)), _) => {
                if matches!(coding, Coding::Length(length) if length > limit) {
                    return Err(Rejection::BODY_TOO_LARGE);
                }
                self.state = State::Body(Body {
                    head: front,
                    coding,
                    limit,
                    continue_due,
                });
            }
        }
        self.body(respond)
    }

    /// Looks for the end of a body whose head is complete.
    fn body<T>(
        &mut self,
        mut respond: impl FnMut(&Request<'_, '_>) -> Result<T, BodyLimit>,
    ) -> Result<Status<T>, Rejection> {
        let State::Body(body) = &mut self.state else {
            return Ok(Status::Partial);
        };
        let (complete, length) = match &mut body.coding {
            Coding::Length(length) => {
                let received = self.head_and_body.len() + self.buffer.len() - self.start;
                (received >= body.head + *length, *length)
            }
            Coding::Chunked(chunked) => {
                let decoded = body.head + chunked.decoded() - self.head_and_body.len();
                let end = self.start + decoded;
                let complete = chunked.decode(&mut self.buffer, end, body.limit)?;
                (complete, chunked.decoded())
            }
        };
        if !complete {
            let due = std::mem::take(&mut body.continue_due);
            return Ok(if due {
                Status::Continue
            } else {
                Status::Partial
            });
        }
        let before = std::mem::take(&mut self.head_and_body).to_vec();
        self.buffer.splice(self.start..self.start, before);
        let bytes = &self.buffer[self.start..];
        let mut space = fields();
        // Parsed once already: keeping what was found across reads would
        // need pointers into a buffer that moves.
        let Some(head) = Head::parse(bytes, &mut space)? else {
            return Ok(Status::Partial);
        };
        let end = head.length + length;
        let request = Request::new(head, Some(&bytes[end - length..end]));
        // It has the limit asked for, so only a smaller one is asked for now.
        let answer = respond(&request).map_err(|_| Rejection::BODY_TOO_LARGE)?;
        self.complete(end);
        Ok(Status::Complete(answer))
    }

    /// Drops a complete request from the front.
    fn complete(&mut self, length: usize) {
        self.consume(length);
        self.empty_lines = 0;
    }

    /// Drops a request, or a part of none, from the front.
    fn consume(&mut self, length: usize) {
        self.state = State::Head;
        self.undecoded = PooledBytes::default();
        self.start += length;
        if self.start == self.buffer.len() {
            self.forget();
        }
    }

    /// Drops all bytes but those in `undecoded`.
    fn forget(&mut self) {
        self.start = 0;
        self.buffer.clear();
        self.head_and_body = PooledBytes::default();
    }
}
