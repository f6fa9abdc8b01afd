//! The request parser: however the bytes of a connection are split, the same
//! requests come out of it, in bounded memory, and they are those that an
//! independent reading finds.

use rendezvousd::http::{BodyLimit, Decoder, Framing, HEAD_LIMIT, Request, Status};

use super::framing::{self, Message};
use super::plan;

/// The largest body, in bytes.
const LIMIT: usize = 512;

/// What a decoder holds beside a head and a body: the longest line of the
/// chunked coding, before its end has come.
const LINE: usize = 1024 + 2;

/// Pieces that a stream is cut into at most: every one of them costs a look
/// at the whole head.
const PIECES: usize = 256;

/// Everything a decoder says about a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transcript {
    requests: Vec<Message>,
    refusal: Option<(u16, &'static str)>,
    /// Bytes that are in the decoder at the end.
    held: usize,
}

/// Checks the property.
pub fn check(data: &[u8]) {
    let (plan, stream) = plan::split(data);
    let whole = transcript(&[stream]);
    assert_eq!(transcript(&plan::pieces(plan, stream)), whole);
    let step = 1 + stream.len() / PIECES;
    let small: Vec<&[u8]> = stream.chunks(step).collect();
    assert_eq!(transcript(&small), whole);
    agree(stream, &whole);
}

fn transcript(pieces: &[&[u8]]) -> Transcript {
    let single = pieces.iter().all(|piece| piece.len() == 1);
    let mut decoder = Decoder::default();
    let mut said = Transcript::default();
    let mut told = false;
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.step(message) {
                Ok(Status::Partial) => break,
                Ok(Status::Continue) => assert!(!std::mem::replace(&mut told, true)),
                Ok(Status::Complete(message)) => {
                    // Due while nothing of the body has come.
                    let due = message.expects_continue
                        && !matches!(message.framing, Framing::Absent | Framing::Length(0));
                    assert!(if single { told == due } else { !told || due });
                    told = false;
                    said.requests.push(message);
                }
                Ok(Status::Unread(_)) => unreachable!("all bodies are read"),
                Err(rejection) => {
                    said.refusal = Some((rejection.status.0, rejection.reason));
                    assert!(decoder.is_empty());
                    return said;
                }
            }
        }
        assert!(decoder.held() <= HEAD_LIMIT + LIMIT + LINE + piece.len());
    }
    // Only a push lets go of what has been answered.
    decoder.push(b"");
    said.held = decoder.held();
    said
}

fn message(request: &Request<'_, '_>) -> Result<Message, BodyLimit> {
    let head = &request.head;
    let field = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
    Ok(Message {
        method: head.method.to_string(),
        path: head.path.to_owned(),
        minor: head.version.1,
        host: head.host.map(str::to_owned),
        fields: head.fields().map(field).collect(),
        framing: head.framing,
        keep_alive: head.keep_alive,
        expects_continue: head.expects_continue,
        body: request.body(LIMIT)?.to_vec(),
    })
}

/// Compares what a decoder said with the independent reading.
fn agree(stream: &[u8], said: &Transcript) {
    let mut rest = stream;
    for message in &said.requests {
        match framing::read(rest, LIMIT) {
            Ok(Some((expected, length))) => {
                assert_eq!(*message, expected);
                rest = &rest[length..];
            }
            other => panic!("{message:?} instead of {other:?}"),
        }
    }
    match (framing::read(rest, LIMIT), said.refusal) {
        (Err(_), Some(_)) => {}
        (Ok(None), None) => assert!(said.held <= rest.len()),
        // Refused early, so nothing can make a request of it.
        (Ok(None), Some(_)) => {
            let ended = [rest, b"\r\n\r\n"].concat();
            assert!(framing::read(&ended, LIMIT).is_err(), "refused for nothing");
        }
        (expected, said) => panic!("{said:?} instead of {expected:?}"),
    }
}
