//! How often a connection reads and writes, over a stream without a socket.

use std::collections::VecDeque;
use std::io::ErrorKind;

use super::*;

/// A stream whose reads bring one part each, all shorter than they could be,
/// and then nothing; and whose peer may take nothing.
#[derive(Default)]
struct Parts {
    parts: VecDeque<String>,
    reads: usize,
    writes: usize,
    sent: Vec<u8>,
    full: bool,
}

impl Read for Parts {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let part = self.parts.pop_front().ok_or(ErrorKind::WouldBlock)?;
        into[..part.len()].copy_from_slice(part.as_bytes());
        Ok(part.len())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        if self.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.sent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Parts {
    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Something to read, and urgent data that hides more.
const READABLE: Readiness = Readiness {
    readable: true,
    writable: false,
    hidden: true,
    closed: false,
};

/// Gives parts and one event to a connection that has waited; how many reads
/// it takes and how many answers it makes.
fn reads(parts: &[&str], hidden: bool) -> (usize, usize) {
    let mut context = Context::new(Arc::new(Echo), Arc::default(), calm());
    let mut connection = Connection::new(Parts::default(), Peer::Local, &context);
    assert_eq!(connection.drive(&mut context), Next::AwaitIo);
    let parts = parts.iter().map(|part| (*part).to_owned()).collect();
    *connection.stream() = Parts {
        parts,
        ..Parts::default()
    };
    connection.set_readiness(Readiness { hidden, ..READABLE });
    while connection.drive(&mut context) == Next::Reschedule {}
    let stream = connection.stream();
    let sent = String::from_utf8_lossy(&stream.sent);
    (stream.reads, sent.matches("HTTP/1.1 200 ").count())
}

#[test]
fn one_read_brings_what_has_come_at_once() {
    assert_eq!(reads(&[&post("x")], false), (1, 1));
    assert_eq!(reads(&[&post("x").repeat(3)], false), (1, 3));
    assert_eq!(reads(&[&post("x")[..20]], false), (1, 0));
}

#[test]
fn what_is_behind_urgent_data_is_read_until_nothing_comes() {
    let (head, body) = (&post("x")[..20], &post("x")[20..]);
    assert_eq!(reads(&[head, body], true), (3, 1));
    assert_eq!(reads(&[&post("x"), &post("y")], true), (3, 2));
    assert_eq!(reads(&[head], true), (2, 0));
}

#[test]
fn a_turn_is_one_read_and_one_batch_of_output() {
    let mut context = Context::new(Arc::new(Echo), Arc::default(), calm());
    let mut connection = Connection::new(Parts::default(), Peer::Local, &context);
    connection.stream().parts = [get("/4k").repeat(5), post("x")].into();
    connection.set_readiness(READABLE);
    let answers = |connection: &mut Connection<Parts>| {
        let stream = connection.stream();
        let sent = String::from_utf8_lossy(&stream.sent);
        (stream.reads, sent.matches("HTTP/1.1 200 ").count())
    };
    for expected in [(1, 2), (1, 4), (1, 5), (2, 6)] {
        assert_eq!(connection.drive(&mut context), Next::Reschedule);
        assert_eq!(answers(&mut connection), expected);
    }
}

#[test]
fn a_full_socket_is_left_alone_until_it_is_writable() {
    let mut context = Context::new(Arc::new(Echo), Arc::default(), calm());
    let mut connection = Connection::new(Parts::default(), Peer::Local, &context);
    connection.stream().parts = [post("x")].into();
    connection.stream().full = true;
    assert_eq!(connection.drive(&mut context), Next::AwaitIo);
    let before = connection.stream().writes;
    for _ in 0..10 {
        connection.set_readiness(READABLE);
        assert_eq!(connection.drive(&mut context), Next::AwaitIo);
    }
    let stream = connection.stream();
    assert_eq!((stream.reads, stream.writes), (1, before));
    stream.full = false;
    connection.set_readiness(Readiness {
        writable: true,
        ..READABLE
    });
    while connection.drive(&mut context) == Next::Reschedule {}
    let sent = String::from_utf8_lossy(&connection.stream().sent).into_owned();
    assert!(sent.ends_with("\r\n\r\nx"), "{sent}");
}
