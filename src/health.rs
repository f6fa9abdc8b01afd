//! The health check of a running server: one request, answered in time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::server::Address;

/// How long connection and answer may take. A request takes a millisecond at
/// worst.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Bytes that are read of an answer: more than a status line has.
const READ_LIMIT: u64 = 256;

/// What load balancers ask; it needs no session and shows nothing.
const REQUEST: &[u8] = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Checks that a server at the address answers 2xx.
///
/// # Errors
/// What it answers instead, or why nothing came.
pub fn check(address: &Address) -> io::Result<()> {
    let line = status_line(address)?;
    if is_success(&line) {
        return Ok(());
    }
    Err(io::Error::other(match &*line {
        "" => "no answer".into(),
        line => format!("the answer is {line:?}"),
    }))
}

fn is_success(status_line: &str) -> bool {
    let mut words = status_line.split(' ');
    let status = words.nth(1).and_then(|word| word.parse().ok());
    status_line.starts_with("HTTP/1.") && matches!(status, Some(200..=299))
}

/// The first line of the answer.
fn status_line(address: &Address) -> io::Result<String> {
    let (sender, answer) = mpsc::channel();
    let address = address.clone();
    // Connecting to a Unix socket cannot be limited in time. A thread that waits
    // ends with the process.
    thread::Builder::new().spawn(move || sender.send(ask(&address)))?;
    answer.recv_timeout(TIME_LIMIT).unwrap_or_else(|_| {
        let line = format!("no answer within {} s", TIME_LIMIT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, line))
    })
}

fn ask(address: &Address) -> io::Result<String> {
    match address {
        // A server that listens on all addresses, [::] included, is reached by
        // IPv4; a container may have no ::1.
        Address::Tcp(address) if address.ip().is_unspecified() => {
            exchange(TcpStream::connect((Ipv4Addr::LOCALHOST, address.port()))?)
        }
        Address::Tcp(address) => exchange(TcpStream::connect(address)?),
        Address::Unix(path) => exchange(UnixStream::connect(path)?),
    }
}

fn exchange(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(REQUEST)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(READ_LIMIT)).read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(line.trim_ascii_end()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_of_success_is_healthy() {
        for (line, expected) in [
            ("HTTP/1.1 204 No Content", true),
            ("HTTP/1.0 200", true),
            ("HTTP/1.1 199 Strange", false),
            ("HTTP/1.1 300 Multiple Choices", false),
            ("HTTP/1.1 503 Service Unavailable", false),
            ("HTTP/1.1 2", false),
            ("HTTP/1.1", false),
            ("SSH-2.0 200", false),
            ("", false),
        ] {
            assert_eq!(is_success(line), expected, "{line:?}");
        }
    }
}
