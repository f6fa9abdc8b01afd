//! The bytes of one connection, as they come, into requests.

use super::Rejection;
use super::chunked::Chunked;
use super::head::{Framing, Head, Request, fields};
use crate::block_pool::PooledBytes;

/// Finds the requests in a connection's bytes.
///
/// It works in a buffer that it is lent while there is something to do. In
/// between the block pool has what was received of a request, so that idle
/// connections have no buffer. What comes bit by bit is not copied back and
/// forth each time: bytes of a body stay in the pool until it is complete.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The head and the body so far of a request whose head is complete.
    settled: PooledBytes,
    /// What follows them and is not decoded yet. While the buffer is lent, it
    /// begins with the same bytes, unless they have been used up.
    rest: PooledBytes,
    buffer: Vec<u8>,
    /// Where the next request begins in the buffer.
    start: usize,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Body(Body),
    /// And whether that was a `HEAD`.
    Rejected(bool),
}

/// A request whose head is complete and whose body is not.
#[derive(Debug)]
struct Body {
    head: usize,
    coding: Coding,
    limit: usize,
    continue_due: bool,
}

impl Body {
    /// How many bytes after the settled ones belong to the head and the
    /// decoded body.
    fn decoded(&self, settled: &PooledBytes, available: usize) -> usize {
        match &self.coding {
            Coding::Length(_) => available,
            Coding::Chunked(chunked) => self.head + chunked.decoded() - settled.len(),
        }
    }
}

#[derive(Debug)]
enum Coding {
    Length(usize),
    Chunked(Chunked),
}

/// How far a decoder has come.
#[derive(Debug)]
pub enum Status<T> {
    /// More bytes are needed.
    Partial,
    /// More bytes are needed, and the client waits for `100 Continue`.
    Continue,
    /// A request was complete; this is what came of it.
    Complete(T),
}

impl Decoder {
    /// Borrows a buffer to work in.
    pub fn resume(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.rest.copy_to(0, self.rest.len(), &mut buffer);
        self.buffer = buffer;
    }

    /// Returns the buffer and keeps what is left in it.
    pub fn suspend(&mut self) -> Vec<u8> {
        let start = std::mem::take(&mut self.start);
        let buffer = std::mem::take(&mut self.buffer);
        let bytes = &buffer[start..];
        if let State::Body(body) = &self.state {
            let (settled, rest) = bytes.split_at(body.decoded(&self.settled, bytes.len()));
            self.settled.append(settled);
            self.rest = PooledBytes::new(&[rest]);
        } else {
            self.rest.append(&bytes[self.rest.len()..]);
        }
        buffer
    }

    /// Takes in bytes from the connection.
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
        self.buffer.is_empty() && self.rest.is_empty() && self.settled.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.settled.len() + self.buffer.len().max(self.rest.len())
    }

    /// What is kept in the block pool takes so many bytes.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.settled.size() + self.rest.size()
    }

    /// Whether what is there begins a `HEAD`, or was one that is refused: not
    /// even a refusal has a body then.
    #[must_use]
    pub fn is_head(&self) -> bool {
        const METHOD: &[u8] = b"HEAD ";
        match self.state {
            State::Rejected(head) => head,
            State::Head | State::Body(_) if self.settled.is_empty() => {
                self.buffer[self.start..].starts_with(METHOD)
            }
            State::Head | State::Body(_) => {
                let mut method = Vec::new();
                let end = METHOD.len().min(self.settled.len());
                self.settled.copy_to(0, end, &mut method);
                method == METHOD
            }
        }
    }

    /// Looks for the next request. `limit` says, from its head, how large
    /// its body may be; `answer` gets it when it is complete.
    ///
    /// # Errors
    /// The request is rejected, once; nothing that follows can be understood.
    pub fn step<T>(
        &mut self,
        limit: impl FnOnce(&Head<'_, '_>) -> usize,
        answer: impl FnOnce(&Request<'_, '_>) -> T,
    ) -> Result<Status<T>, Rejection> {
        if self.buffer.is_empty() {
            return Ok(Status::Partial);
        }
        let status = match self.state {
            State::Head => self.head(limit, answer),
            State::Body(_) => self.body(answer),
            State::Rejected(_) => Ok(Status::Partial),
        };
        if status.is_err() {
            self.state = State::Rejected(self.is_head());
            self.rest = PooledBytes::default();
            self.forget();
        }
        status
    }

    fn head<T>(
        &mut self,
        limit: impl FnOnce(&Head<'_, '_>) -> usize,
        answer: impl FnOnce(&Request<'_, '_>) -> T,
    ) -> Result<Status<T>, Rejection> {
        // RFC 9112, section 2.2: an empty line before a request is ignored.
        // Dropped here, it does not count as a request's beginning.
        while self.buffer[self.start..].starts_with(b"\r\n") {
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
        let limit = match head.framing {
            Framing::Absent => 0,
            _ => limit(&head),
        };
        let coding = match head.framing {
            Framing::Absent => Coding::Length(0),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= limit => Coding::Length(length),
                _ => return Err(Rejection::BODY_TOO_LARGE),
            },
            Framing::Chunked => Coding::Chunked(Chunked::default()),
        };
        let front = head.length;
        if let Coding::Length(length) = coding
            && let Some(body) = bytes.get(front..front + length)
        {
            let answer = answer(&Request { head, body });
            self.consume(front + length);
            return Ok(Status::Complete(answer));
        }
        let continue_due = head.expects_continue && bytes.len() == front;
        self.state = State::Body(Body {
            head: front,
            coding,
            limit,
            continue_due,
        });
        self.body(answer)
    }

    fn body<T>(
        &mut self,
        answer: impl FnOnce(&Request<'_, '_>) -> T,
    ) -> Result<Status<T>, Rejection> {
        let State::Body(body) = &mut self.state else {
            return Ok(Status::Partial);
        };
        let (complete, length) = match &mut body.coding {
            Coding::Length(length) => {
                let received = self.settled.len() + self.buffer.len() - self.start;
                (received >= body.head + *length, *length)
            }
            Coding::Chunked(chunked) => {
                let decoded = body.head + chunked.decoded() - self.settled.len();
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
        let settled = std::mem::take(&mut self.settled).to_vec();
        self.buffer.splice(self.start..self.start, settled);
        let bytes = &self.buffer[self.start..];
        let mut space = fields();
        // Parsed once already: keeping what was found across reads would
        // need pointers into a buffer that moves.
        let Some(head) = Head::parse(bytes, &mut space)? else {
            return Ok(Status::Partial);
        };
        let end = head.length + length;
        let answer = answer(&Request {
            body: &bytes[head.length..end],
            head,
        });
        self.consume(end);
        Ok(Status::Complete(answer))
    }

    fn consume(&mut self, length: usize) {
        self.state = State::Head;
        self.rest = PooledBytes::default();
        self.start += length;
        if self.start == self.buffer.len() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.start = 0;
        self.buffer.clear();
        self.settled = PooledBytes::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64;

    /// Everything a decoder says about a stream that comes in these pieces.
    fn transcript<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut said = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            loop {
                let step = decoder.step(
                    |_| LIMIT,
                    |request| {
                        let body = request.body.escape_ascii();
                        format!("{} {} {body}", request.head.method, request.head.path)
                    },
                );
                match step {
                    Ok(Status::Partial) => break,
                    Ok(Status::Continue) => said.push("continue".into()),
                    Ok(Status::Complete(request)) => said.push(request),
                    Err(rejection) => {
                        said.push(format!("{} {}", rejection.status.0, rejection.reason));
                        return said;
                    }
                }
            }
            let held = decoder.held();
            assert!(held <= super::super::HEAD_LIMIT + LIMIT + piece.len() + 512);
            let buffer = decoder.suspend();
            assert!(decoder.held() <= held);
            decoder.resume(buffer);
        }
        said
    }

    fn post(body: &str) -> String {
        let length = body.len();
        format!("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    #[test]
    fn requests_come_out_one_by_one_and_in_order() {
        let stream = format!("{}GET /g HTTP/1.0\r\n\r\n{}", post("one"), post(""));
        let said = transcript([stream.as_bytes()]);
        assert_eq!(said, ["POST /p one", "GET /g ", "POST /p "]);
    }

    #[test]
    fn a_body_declared_too_large_is_refused_before_it_comes() {
        let said = transcript([&b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 65\r\n\r\n"[..]]);
        assert_eq!(said, ["413 The body is too large"]);
    }

    #[test]
    fn nothing_after_a_refusal_is_a_request() {
        let stream = format!("BAD\0{}", post("x"));
        assert_eq!(transcript([stream.as_bytes(), stream.as_bytes()]).len(), 1);
    }

    #[test]
    fn rfc9110_10_1_1_continue_is_due_once_and_only_while_the_body_is_missing() {
        let stream =
            b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok";
        let head = stream.len() - 2;
        assert_eq!(transcript([&stream[..]]), ["PUT / ok"]);
        let pieces = [&stream[..head], b"o", b"k"];
        assert_eq!(transcript(pieces), ["continue", "PUT / ok"]);
        let chunked = b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
        let pieces = [&chunked[..], b"2\r\nok\r\n0\r\n\r\n"];
        assert_eq!(transcript(pieces), ["continue", "PUT / ok"]);
    }

    #[test]
    fn rfc9110_10_1_1_continue_is_not_for_http_1_0_nor_for_a_body_that_has_begun() {
        let head =
            "PUT / HTTP/VERSION\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let old = head.replace("VERSION", "1.0");
        assert_eq!(transcript([old.as_bytes(), b"ok"]), ["PUT / ok"]);
        let begun = head.replace("VERSION", "1.1") + "o";
        assert_eq!(transcript([begun.as_bytes(), b"k"]), ["PUT / ok"]);
    }

    #[test]
    fn rfc9112_2_2_empty_lines_between_requests_are_no_beginning_of_one() {
        let mut decoder = Decoder::default();
        decoder.push(b"\r\n\r\n");
        assert!(matches!(
            decoder.step(|_| LIMIT, |_| ()),
            Ok(Status::Partial)
        ));
        assert!(decoder.is_empty());
        decoder.push(b"\r\nGET / HTTP/1.0\r\n\r\n\r\n");
        assert!(matches!(
            decoder.step(|_| LIMIT, |_| ()),
            Ok(Status::Complete(()))
        ));
        assert!(matches!(
            decoder.step(|_| LIMIT, |_| ()),
            Ok(Status::Partial)
        ));
        assert!(decoder.is_empty());
    }

    #[test]
    fn between_two_turns_an_idle_decoder_keeps_nothing_and_others_what_is_left() {
        let mut decoder = Decoder::default();
        decoder.push(b"GET /a HTTP/1.0\r\n\r\nGET /b HTT");
        let path = |decoder: &mut Decoder| {
            let step = decoder.step(|_| LIMIT, |request| request.head.path.to_owned());
            let Ok(Status::Complete(path)) = step else {
                panic!("{step:?}");
            };
            path
        };
        assert_eq!(path(&mut decoder), "/a");
        let buffer = decoder.suspend();
        assert!(!decoder.is_empty());
        assert_eq!(decoder.rest.to_vec(), b"GET /b HTT");
        decoder.resume(buffer);
        decoder.push(b"P/1.0\r\n\r\n");
        assert_eq!(path(&mut decoder), "/b");
        decoder.suspend();
        assert!(decoder.is_empty());
        assert_eq!(decoder.kept(), 0);
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    /// A stream of requests: most well-formed, some mutilated.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let body = proptest::collection::vec(any::<u8>(), 0..LIMIT + 4);
        let plain = body.clone().prop_map(|body| {
            let mut bytes = format!(
                "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            bytes.extend(body);
            bytes
        });
        let chunked = (body, 1..9_usize).prop_map(|(body, size)| {
            let mut bytes =
                b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in body.chunks(size) {
                bytes.extend(format!("{:x};e=1\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nTrailer: 1\r\n\r\n");
            bytes
        });
        let get = Just(b"\r\nGET /g?q HTTP/1.0\r\nA: b\r\n\r\n".to_vec());
        let requests = proptest::collection::vec(prop_oneof![plain, chunked, get], 1..5);
        (
            requests,
            any::<prop::sample::Index>(),
            proptest::option::weighted(0.3, any::<u8>()),
        )
            .prop_map(|(requests, place, damage)| {
                let mut stream = requests.concat();
                if let Some(byte) = damage {
                    let place = place.index(stream.len());
                    stream[place] = byte;
                }
                stream
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn splitting_the_bytes_anywhere_gives_the_same_requests(
            stream in streams(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let whole = transcript([&stream[..]]);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let mut from = 0;
            let pieces: Vec<&[u8]> = cuts
                .iter()
                .map(|&to| &stream[std::mem::replace(&mut from, to)..to])
                .collect();
            prop_assert_eq!(&transcript(pieces), &whole);
            prop_assert_eq!(&transcript(stream.chunks(1)), &whole);
        }

        #[test]
        fn no_bytes_whatever_can_panic_it(pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..200), 0..8)
        ) {
            transcript(pieces.iter().map(Vec::as_slice));
        }
    }
}
