//! What the server does for systemd, played by this test: sockets that are
//! passed on, readiness, signs of life.

mod common;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::{Client, Daemon, PATIENCE, program};
use rustix::process::Signal;

/// A path of this test's own.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("rendezvousd-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// A command that becomes the daemon with one or two sockets, which come to
/// the shell as its standard input and output.
fn with_sockets(sockets: Vec<OwnedFd>, names: &str, flags: &str) -> Command {
    let binary = program();
    let script = format!(
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID=$$; exec {binary} {flags}"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names);
    let mut sockets = sockets.into_iter();
    command.stdin(sockets.next().unwrap());
    if let Some(second) = sockets.next() {
        command.stdout(second);
    }
    command
}

#[test]
fn inherited_sockets_are_served_instead_of_the_default_one() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = path("inherited");
    let unix = UnixListener::bind(&path).unwrap();
    let sockets = vec![tcp.try_clone().unwrap().into(), unix.into()];
    let daemon = Daemon::spawn(with_sockets(sockets, "rendezvousd.socket:", ""));
    assert_eq!(daemon.address, tcp.local_addr().unwrap());
    let ready = daemon.start.last().unwrap();
    let (tcp_address, path_shown) = (daemon.address, path.display());
    let all = format!(
        "ready on http://{tcp_address} unix:{path_shown} \
         (check page: http://{tcp_address}/rendezvous/check)"
    );
    assert!(ready.ends_with(&all), "{ready}");
    assert_eq!(daemon.request("POST", "/rendezvous", &[], "x").status, 201);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    daemon.signal(Signal::TERM);
    let (_, status) = daemon.wait();
    assert!(status.success());
    // The socket is another's, and so is its file.
    assert!(path.exists());
    fs::remove_file(&path).unwrap();
}

#[test]
fn systemd_hears_why_it_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let path = path("reason");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    for (flags, code, reason) in [
        (
            ["--ttl", "a\nREADY=1"],
            2,
            "STATUS=Error parsing option '--ttl'",
        ),
        (
            ["--listen", &taken],
            1,
            "STATUS=cannot listen on http://127",
        ),
    ] {
        let mut command = Command::new(program());
        command.args(flags).env("NOTIFY_SOCKET", &path);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let message = receive(&manager).unwrap();
        assert!(message.starts_with(reason), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_socket_that_was_announced_and_is_not_there_ends_the_start() {
    let mut command = Command::new("sh");
    let script = format!("exec 3<&-; export LISTEN_PID=$$; exec {}", program());
    command.args(["-c", &script]).env("LISTEN_FDS", "1");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot take over the sockets"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn requests_in_the_gap_of_a_restart_wait_in_the_inherited_socket() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let state = path("gap");
    let flags = format!("--state-file {}", state.display());
    let start = || {
        let socket = tcp.try_clone().unwrap().into();
        Daemon::spawn(with_sockets(vec![socket], "", &flags))
    };
    let daemon = start();
    let made = daemon.request("POST", "/rendezvous", &[], "still there");
    daemon.signal(Signal::TERM);
    daemon.wait();
    let mut waiting = Client::new(TcpStream::connect(tcp.local_addr().unwrap()).unwrap());
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", made.location());
    waiting.send(request.as_bytes());
    let _daemon = start();
    let read = waiting.answer(false).unwrap();
    assert_eq!((read.status, read.text()), (200, "still there"));
    assert_eq!(read.etag(), made.etag());
}

/// The next message, however often the process is paused while it waits: with a
/// time limit, that interrupts the call (signal(7)).
fn receive(socket: &UnixDatagram) -> io::Result<String> {
    let mut message = [0; 512];
    loop {
        match socket.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(count) => return Ok(String::from_utf8_lossy(&message[..count]).into_owned()),
        }
    }
}

#[test]
fn systemd_hears_of_readiness_life_and_the_end() {
    let path = path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || receive(&manager);
    let mut command = Command::new(program());
    command
        .args(["--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000");
    let daemon = Daemon::spawn(command);
    assert!(hear().unwrap().starts_with("READY=1"));
    let (mut alive, mut status) = (0, String::new());
    while alive < 5 {
        let message = hear().unwrap();
        alive += usize::from(message.starts_with("WATCHDOG=1"));
        if let Some(line) = message.strip_prefix("STATUS=") {
            status = line.to_owned();
        }
    }
    assert!(
        status.starts_with("0 sessions, 0 connections now; since the start 0 completed, "),
        "{status}"
    );
    // Who is stopped gives no sign.
    daemon.signal(Signal::STOP);
    manager
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let silence = loop {
        match hear() {
            Ok(_) => {}
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(silence, ErrorKind::WouldBlock);
    daemon.signal(Signal::CONT);
    daemon.signal(Signal::TERM);
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    while !hear().unwrap().starts_with("STOPPING=1") {}
    assert!(daemon.wait().1.success());
    fs::remove_file(&path).unwrap();
}
