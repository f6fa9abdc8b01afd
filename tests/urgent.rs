//! TCP urgent data: not part of the stream, and no end of it.

mod common;

use std::io::Write;
use std::net::TcpStream;

use common::{Client, Daemon};
use rustix::net::{SendFlags, send};
use rustix::process::Signal;

const POST: &str = "POST /rendezvous HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";

/// Two requests with an urgent byte before the byte at `place`, all of it in
/// the socket when the server looks; the two statuses.
fn ask(daemon: &Daemon, place: usize) -> [u16; 2] {
    let mut sender = TcpStream::connect(daemon.address).unwrap();
    sender.set_nodelay(true).unwrap();
    let mut client = Client::new(sender.try_clone().unwrap());
    // One that has waited in the poll: a new one is looked at twice.
    assert_eq!(client.request("GET", "/x", &[], "").status, 404);
    daemon.signal(Signal::STOP);
    let stream = POST.repeat(2);
    let (before, after) = stream.as_bytes().split_at(place);
    sender.write_all(before).unwrap();
    send(&sender, b"!", SendFlags::OOB).unwrap();
    sender.write_all(after).unwrap();
    daemon.signal(Signal::CONT);
    [(), ()].map(|()| client.answer(false).expect("an answer").status)
}

#[test]
fn requests_with_urgent_data_anywhere_are_answered_at_once() {
    let daemon = Daemon::start(&["--workers", "1", "--create-burst", "1000"]);
    let head = POST.len() - 4;
    let whole = POST.len();
    let places = [
        0,
        1,
        9,
        head - 1,
        head,
        head + 2,
        whole - 1,
        whole,
        whole + 9,
    ];
    for place in places.into_iter().chain([2 * whole - 1, 2 * whole]) {
        assert_eq!(ask(&daemon, place), [201, 201], "{place}");
    }
}
