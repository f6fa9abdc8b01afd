//! A whole connection: however its peer sends and takes, every complete
//! request is answered once and in order, nothing follows an announced close,
//! and the buffers stay within bounds.

use std::str;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rendezvousd::client::Peer;
use rendezvousd::http::{
    Answer, Body, BodyLimit, Decoder, HEAD_LIMIT, Handler, HeldRequest, Persistence, Rejection,
    ReleaseReason, Request, Response, Status, WakerSource,
};
use rendezvousd::server::{Connection, Context, Deadlines, Next};
use tiny_http::Method;

use super::plan;
use super::transport::Scripted;

/// The largest body of a request, in bytes.
const BODY: usize = 512;

/// Bytes of an answer whose path asks for a long one: three are a batch.
const LONG: usize = 3000;

/// The most that the buffers take: a head, a body, a line of the chunked
/// coding and a read, in a vector that doubles; a batch of answers and one.
const BUFFERS: usize = 2 * (HEAD_LIMIT + BODY + 1026 + 8 * 1024) + 8 * 1024 + 2 * LONG;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// How long a request for `/hold` is held.
const HOLD: Duration = Duration::from_secs(5);

/// Answers with a number, so that none can take another's place.
#[derive(Debug, Default)]
struct Echo {
    answered: AtomicUsize,
    /// Requests that are held at present.
    held: Arc<AtomicUsize>,
}

/// A request that is held: every second one can be answered when it is looked
/// at, the others when their time is over.
#[derive(Debug)]
struct Held {
    response: Response,
    ready: bool,
    held: Arc<AtomicUsize>,
}

impl HeldRequest for Held {
    fn try_respond(&mut self) -> Option<Response> {
        self.ready.then(|| self.response.clone())
    }

    fn release(self: Box<Self>, _: ReleaseReason) -> Response {
        self.response.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler for Echo {
    fn respond(&self, request: &Request<'_, '_>, _: Peer, waker: WakerSource<'_>) -> Answer {
        let body = match request.body(BODY) {
            Ok(body) => body.escape_ascii(),
            Err(limit) => return limit.into(),
        };
        let number = self.answered.fetch_add(1, Ordering::Relaxed);
        let mut text = format!("{number} {} {body}", request.head.path);
        if request.head.path == "/long" {
            text = text.repeat(1 + LONG / text.len());
        }
        let response = Response::new(200, "X: y\r\n").with(Body::Text(text));
        let holds = request.head.path == "/hold" && request.head.method == Method::Get;
        if !holds || waker().is_none() {
            return response.into();
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        let held = Held {
            response,
            ready: number % 2 == 1,
            held: Arc::clone(&self.held),
        };
        Answer::Hold {
            request: Box::new(held),
            at_most: HOLD,
        }
    }

    fn reject(&self, rejection: Rejection) -> Response {
        Response::new(rejection.status.0, "").with(Body::Text(rejection.reason.into()))
    }
}

/// Checks the property. The two highest bits of the first byte say whether
/// the peer ends its side, and else whether we lose patience.
pub fn check(data: &[u8]) {
    let (plan, stream) = plan::split(data);
    let first = data.first().copied().unwrap_or_default();
    let (ends, late) = (first & 0x80 != 0, first & 0x40 != 0);
    let mut expected = Expected::of(stream);

    let handler = Arc::<Echo>::default();
    let held = Arc::clone(&handler.held);
    let held = || held.load(Ordering::Relaxed);
    let mut context = Context::new(handler, Arc::default(), Deadlines::default());
    context.date = DATE.into();
    let peer = Scripted::new(plan, stream);
    let mut connection = Connection::new(peer, Peer::Local, &context);
    let mut open = run(&mut connection, &mut context);
    if open {
        connection.stream().let_go(ends);
        open = run(&mut connection, &mut context);
    }
    while open && held() > 0 {
        context.now += HOLD;
        open = connection.expire(&mut context) != Next::Close && run(&mut connection, &mut context);
    }
    assert!(if ends { !open } else { open || expected.closes });
    expected.compare(&connection.stream().taken);
    if open && late {
        let next = connection.expire(&mut context);
        if let Some(head) = expected.partial {
            assert_eq!(next, Next::AwaitIo);
            expected.reject(Rejection::LATE, head);
        } else {
            assert_eq!(next, Next::Close);
        }
        expected.compare(&connection.stream().taken);
    }
}

/// Drives a connection as a worker does until nothing more happens; false if
/// it was closed.
fn run(connection: &mut Connection<Scripted>, context: &mut Context) -> bool {
    loop {
        match connection.drive(context) {
            Next::Close => {
                assert!(!connection.stream().would_reset());
                return false;
            }
            Next::Reschedule => continue,
            Next::AwaitIo => assert!(connection.buffered() <= BUFFERS),
        }
        let peer = connection.stream();
        let event = loop {
            match peer.event() {
                Some(event) => break event,
                None if peer.act() => {}
                None => return true,
            }
        };
        connection.set_readiness(event);
    }
}

/// What a stream's answers are, as a decoder that gets all of it at once and
/// the same handler have it.
#[derive(Default)]
struct Expected {
    /// Each with whether `100 Continue` may stand before it.
    answers: Vec<(bool, Vec<u8>)>,
    /// The last answer announces the end.
    closes: bool,
    /// A request has begun and is not complete: whether it is a `HEAD`.
    partial: Option<bool>,
}

impl Expected {
    fn of(stream: &[u8]) -> Self {
        let handler = Echo::default();
        let mut expected = Self::default();
        let mut decoder = Decoder::default();
        decoder.push(stream);
        let mut told = false;
        while !expected.closes {
            match decoder.step(|request| answer(&handler, request)) {
                Ok(Status::Partial) => break,
                // All has come, so only an incomplete request waits for it.
                Ok(Status::Continue) => assert!(!std::mem::replace(&mut told, true)),
                Ok(Status::Complete((told, ending, bytes))) => {
                    expected.answers.push((told, bytes));
                    expected.closes = ending == Persistence::Close;
                }
                Ok(Status::Unread(_)) => unreachable!("all bodies are read"),
                Err(rejection) => expected.reject(rejection, decoder.is_head()),
            }
        }
        let partial = !expected.closes && !decoder.is_empty();
        expected.partial = partial.then(|| decoder.is_head());
        expected
    }

    fn reject(&mut self, rejection: Rejection, head: bool) {
        let mut bytes = Vec::new();
        let response = Echo::default().reject(rejection);
        response.write(head, Persistence::Close, DATE, &mut bytes);
        self.answers.push((true, bytes));
        self.closes = true;
    }

    fn compare(&self, taken: &[u8]) {
        let mut rest = taken;
        for (told, answer) in &self.answers {
            if *told {
                rest = rest.strip_prefix(CONTINUE).unwrap_or(rest);
            }
            let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
            assert!(
                rest.starts_with(answer),
                "{} not {}",
                shown(rest),
                shown(answer)
            );
            rest = &rest[answer.len()..];
        }
        assert!(rest.is_empty() || (self.partial.is_some() && rest == CONTINUE));
    }
}

fn answer(
    handler: &Echo,
    request: &Request<'_, '_>,
) -> Result<(bool, Persistence, Vec<u8>), BodyLimit> {
    let ending = match (request.head.keep_alive, request.head.version.1) {
        (false, _) => Persistence::Close,
        (true, 0) => Persistence::KeepAliveExplicit,
        (true, _) => Persistence::KeepAlive,
    };
    let is_head = request.head.method == Method::Head;
    let mut bytes = Vec::new();
    let response = match handler.respond(request, Peer::Local, &|| None) {
        Answer::Response(response) => response,
        Answer::ReadBody(limit) => return Err(limit),
        Answer::Hold { .. } => panic!("a request is held without a waker"),
    };
    response.write(is_head, ending, DATE, &mut bytes);
    well_formed(&bytes, is_head, ending);
    Ok((request.head.expects_continue, ending, bytes))
}

/// RFC 9112, sections 2.1, 4, 6.3 and 9.6: lines, the length of the body, and
/// the end's announcement.
fn well_formed(answer: &[u8], is_head: bool, ending: Persistence) {
    let text = str::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 200 OK"));
    let fields: Vec<_> = lines.map(|line| line.split_once(": ")).collect();
    assert!(!head.contains("\n\n") && fields.iter().all(Option::is_some));
    let value = |name: &str| {
        let mut named = fields.iter().flatten().filter(|(other, _)| *other == name);
        let value = named.next().map(|(_, value)| *value);
        assert!(named.next().is_none());
        value
    };
    let length: usize = value("Content-Length")
        .expect("a length")
        .parse()
        .expect("a number");
    assert!(if is_head {
        body.is_empty()
    } else {
        body.len() == length
    });
    assert_eq!(
        value("Connection") == Some("close"),
        ending == Persistence::Close
    );
}
