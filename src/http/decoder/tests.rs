use proptest::prelude::*;

use super::*;
use crate::http::HEAD_LIMIT;

#[path = "../../../tests/malformed/mod.rs"]
mod malformed;

const LIMIT: usize = 64;

/// What a decoder says next; `None` if it needs more bytes.
fn step(decoder: &mut Decoder) -> Option<String> {
    let step = decoder.step(|request| {
        let head = format!("{} {}", request.head.method, request.head.path);
        match request.head.path {
            "/early" => Ok(head),
            _ => Ok(format!("{head} {}", request.body(LIMIT)?.escape_ascii())),
        }
    });
    match step {
        Ok(Status::Partial) => None,
        Ok(Status::Continue) => Some("continue".into()),
        Ok(Status::Complete(request)) => Some(request),
        Ok(Status::Unread(request)) => Some(format!("{request}, unread")),
        Err(rejection) => Some(format!("{} {}", rejection.status.0, rejection.reason)),
    }
}

/// Everything a decoder says about a stream that comes in these pieces.
fn transcript<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = Decoder::default();
    let mut said = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(line) = step(&mut decoder) {
            said.push(line);
            if matches!(decoder.state, State::Rejected(_)) {
                return said;
            }
        }
        let held = decoder.held();
        assert!(held <= HEAD_LIMIT + LIMIT + piece.len() + 512);
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
fn rfc9112_9_3_a_request_that_its_head_answers_ends_the_stream_unless_its_body_is_there() {
    let request = |framing: &str| format!("PUT /early HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
    let [none, two] = [0, 2].map(|length| request(&format!("Content-Length: {length}")));
    let empty = request("Transfer-Encoding: chunked") + "0\r\n\r\n";
    let whole = format!("{none}{two}ok{empty}{none}");
    assert_eq!(transcript([whole.as_bytes()]), ["PUT /early"; 4]);
    for stream in [
        format!("{two}o"),
        request("Content-Length: 999999999999999999999"),
        request("Expect: 100-continue\r\nContent-Length: 2"),
        request("Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\n\r\n",
    ] {
        let said = transcript([stream.as_bytes(), whole.as_bytes()]);
        assert_eq!(said, ["PUT /early, unread"], "{stream}");
    }
}

#[test]
fn nothing_after_a_refusal_is_a_request() {
    let stream = format!("BAD\0{}", post("x"));
    assert_eq!(transcript([stream.as_bytes(), stream.as_bytes()]).len(), 1);
}

/// However they arrive, and at the latest with the last byte.
#[test]
fn malformed_requests_are_rejected() {
    for (bytes, status) in malformed::malformed() {
        let shown = bytes[..bytes.len().min(80)].escape_ascii().to_string();
        // Every byte costs a look at the whole head.
        let small = bytes.chunks(1 + bytes.len() / 1_000);
        for pieces in [vec![&bytes[..]], small.collect()] {
            let mut decoder = Decoder::default();
            let mut rejection = None;
            for piece in pieces {
                decoder.push(piece);
                match decoder.step(|request| request.body(4096).map(|_| ())) {
                    Ok(Status::Partial) => {}
                    Err(found) => {
                        rejection = Some(found.status.0);
                        break;
                    }
                    other => panic!("{other:?} for {shown}"),
                }
            }
            assert_eq!(rejection, Some(status), "{shown}");
        }
    }
}

#[test]
fn rfc9110_10_1_1_continue_is_due_once_and_only_while_the_body_is_missing() {
    let stream =
        b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok";
    let head = stream.len() - 2;
    assert_eq!(transcript([&stream[..]]), ["PUT / ok"]);
    let pieces = [&stream[..head], b"o", b"k"];
    assert_eq!(transcript(pieces), ["continue", "PUT / ok"]);
    let chunked =
        b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pieces = [&chunked[..], b"2\r\nok\r\n0\r\n\r\n"];
    assert_eq!(transcript(pieces), ["continue", "PUT / ok"]);
}

#[test]
fn rfc9110_10_1_1_continue_is_not_for_http_1_0_nor_for_a_body_that_has_begun() {
    let head = "PUT / HTTP/VERSION\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let old = head.replace("VERSION", "1.0");
    assert_eq!(transcript([old.as_bytes(), b"ok"]), ["PUT / ok"]);
    let begun = head.replace("VERSION", "1.1") + "o";
    assert_eq!(transcript([begun.as_bytes(), b"k"]), ["PUT / ok"]);
}

#[test]
fn empty_lines_without_end_are_refused() {
    let request = "GET /g HTTP/1.0\r\n\r\n";
    let lines = |count: usize| "\r\n".repeat(count);
    let most = format!(
        "{}{request}{}{request}",
        lines(EMPTY_LINES),
        lines(EMPTY_LINES)
    );
    let refused = format!("{request}{}", lines(EMPTY_LINES + 1));
    for piece in [1, 2, 1_000] {
        assert_eq!(
            transcript(most.as_bytes().chunks(piece)),
            ["GET /g ", "GET /g "]
        );
        let said = transcript(refused.as_bytes().chunks(piece));
        assert_eq!(said, ["GET /g ", "400 Too many empty lines"]);
    }
}

#[test]
fn rfc9112_2_2_empty_lines_between_requests_are_no_beginning_of_one() {
    let mut decoder = Decoder::default();
    decoder.push(b"\r\n\r\n");
    assert!(matches!(decoder.step(|_| Ok(())), Ok(Status::Partial)));
    assert!(decoder.is_empty());
    decoder.push(b"\r\nGET / HTTP/1.0\r\n\r\n\r\n");
    assert!(matches!(decoder.step(|_| Ok(())), Ok(Status::Complete(()))));
    assert!(matches!(decoder.step(|_| Ok(())), Ok(Status::Partial)));
    assert!(decoder.is_empty());
}

#[test]
fn between_two_turns_an_idle_decoder_keeps_nothing_and_others_what_is_left() {
    let mut decoder = Decoder::default();
    decoder.push(b"GET /a HTTP/1.0\r\n\r\nGET /b HTT");
    let path = |decoder: &mut Decoder| {
        let step = decoder.step(|request| Ok(request.head.path.to_owned()));
        let Ok(Status::Complete(path)) = step else {
            panic!("{step:?}");
        };
        path
    };
    assert_eq!(path(&mut decoder), "/a");
    let buffer = decoder.suspend();
    assert!(!decoder.is_empty());
    assert_eq!(decoder.undecoded.to_vec(), b"GET /b HTT");
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
    fn suspending_after_any_steps_and_a_rejection_changes_nothing(
        stream in streams(),
        turns in proptest::collection::vec((0..40_usize, 0..3_usize, any::<bool>()), 1..40),
    ) {
        let mut decoder = Decoder::default();
        let mut said = Vec::new();
        let mut rest = &stream[..];
        // The last turns bring what is left and step to the end.
        let last = [(usize::MAX, usize::MAX, true), (0, usize::MAX, true)];
        for (bytes, steps, suspends) in turns.into_iter().chain(last) {
            let (piece, behind) = rest.split_at(bytes.min(rest.len()));
            rest = behind;
            decoder.push(piece);
            for _ in 0..steps {
                match step(&mut decoder) {
                    Some(line) => said.push(line),
                    None => break,
                }
            }
            if suspends {
                let (held, is_head) = (decoder.held(), decoder.is_head());
                let buffer = decoder.suspend();
                prop_assert!(decoder.held() <= held);
                prop_assert_eq!(decoder.kept() == 0, decoder.held() == 0);
                prop_assert!(decoder.buffer.capacity() == 0 && decoder.start == 0);
                decoder.resume(buffer);
                prop_assert_eq!(decoder.is_head(), is_head);
            }
            if let State::Rejected(_) = decoder.state {
                prop_assert!(decoder.head_and_body.is_empty());
            }
        }
        prop_assert_eq!(said, transcript([&stream[..]]));
    }

    #[test]
    fn no_bytes_whatever_can_panic_it(pieces in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..200), 0..8)
    ) {
        transcript(pieces.iter().map(Vec::as_slice));
    }
}
