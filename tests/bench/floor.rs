//! What a server over TCP costs at least, for the figures: a thread for each
//! core, which takes whatever comes for one request and answers the same bytes,
//! as many as rendezvousd. One read and one write a request, and nothing in
//! between.
//!
//! `cargo run --release --example floor -- 127.0.0.1:8092`

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::{env, thread};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

fn main() -> io::Result<()> {
    let address = env::args().nth(1).expect("an address to listen on");
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    for _ in 1..thread::available_parallelism()?.get() {
        let other = listener.try_clone()?;
        thread::spawn(move || work(other).expect("a poll"));
    }
    work(listener)
}

fn work(listener: TcpListener) -> io::Result<()> {
    let mut listener = mio::net::TcpListener::from_std(listener);
    let answer = answer();
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut streams: HashMap<Token, TcpStream> = HashMap::new();
    let mut last = LISTENER.0;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            // A tracer came or went.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() != LISTENER {
                let stream = streams.get_mut(&event.token());
                if stream.is_some_and(|stream| serve(stream, &answer).is_err()) {
                    streams.remove(&event.token());
                }
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                last += 1;
                let token = Token(last);
                stream.set_nodelay(true)?;
                poll.registry()
                    .register(&mut stream, token, Interest::READABLE)?;
                streams.insert(token, stream);
            }
        }
    }
}

/// Answers once, as edge-triggered as the rest; an error is the end.
fn serve(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    match stream.read(&mut [0; 4096]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => stream.write_all(answer),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// An answer of the size of a read of 512 bytes.
fn answer() -> Vec<u8> {
    let fields = format!("X-Fields: {}\r\n", "x".repeat(399));
    let body = "x".repeat(512);
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 512\r\n\r\n{body}").into_bytes()
}
