//! `--probe`: the health check of a server that runs.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use common::{Daemon, program};
use rustix::process::Signal;

/// The exit status of a probe, and what it says.
fn probe(listen: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    command.arg("--probe");
    for address in listen {
        command.args(["--listen", address]);
    }
    let output = command.output().unwrap();
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

fn assert_healthy(listen: &[&str]) {
    assert_eq!(probe(listen), (Some(0), String::new()), "{listen:?}");
}

fn assert_unhealthy(listen: &[&str], reason: &str) {
    let (status, said) = probe(listen);
    assert_eq!(status, Some(1), "{listen:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains(" is not healthy: ") && said.contains(reason),
        "{said}"
    );
}

fn socket_path(name: &str) -> PathBuf {
    let name = format!("rendezvousd-probe-{name}-{}", std::process::id());
    std::env::temp_dir().join(name)
}

/// The address of a server that gives every request this answer, and closes.
fn stand_in(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"OPTIONS * HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_server_that_answers_is_healthy_at_each_of_its_addresses() {
    let path = socket_path("healthy");
    let unix = format!("unix:{}", path.display());
    let daemon = Daemon::start(&["--listen", &unix, "--no-check-page"]);
    let tcp = daemon.address.to_string();
    assert_healthy(&[&tcp]);
    assert_healthy(&[&unix]);
    assert_healthy(&[&tcp, &unix]);
    assert_unhealthy(&[&tcp, "unix:/nowhere"], "unix:/nowhere is not healthy");
}

#[test]
fn a_server_on_all_addresses_is_asked_on_this_machine() {
    let mut command = Command::new(program());
    command.args(["--listen", "0.0.0.0:0"]);
    let daemon = Daemon::spawn(command);
    let port = daemon.address.port();
    assert_healthy(&[&format!("0.0.0.0:{port}")]);
    // An IPv6 socket for all addresses would take IPv4 too.
    assert_healthy(&[&format!("[::]:{port}")]);
}

#[test]
fn other_flags_may_stand_as_they_do_for_the_server() {
    let daemon = Daemon::start(&[]);
    let address = daemon.address.to_string();
    let mut command = Command::new(program());
    command.args(["--listen", &address, "--state-file", "/nowhere/state"]);
    command.args(["--trusted-proxy", "10.0.0.0/8", "--probe"]);
    assert!(command.status().unwrap().success());
    command.args(["--ttl", "90"]);
    assert_eq!(command.status().unwrap().code(), Some(2));
}

#[test]
fn where_nobody_listens_it_is_not_healthy() {
    let daemon = Daemon::start(&[]);
    assert_healthy(&[&daemon.address.to_string()]);
    // A port in use, so that no other program starts to listen on it.
    let client = TcpStream::connect(daemon.address).unwrap();
    let taken = client.local_addr().unwrap().to_string();
    assert_unhealthy(&[&taken], "Connection refused");
    let path = socket_path("closed");
    drop(UnixListener::bind(&path).unwrap());
    assert_unhealthy(&[&format!("unix:{}", path.display())], "Connection refused");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn any_other_answer_is_not_healthy() {
    for (answer, reason) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            "the answer is \"HTTP/1.1 503 Service Unavailable\"",
        ),
        ("HTTP/1.1 301 Moved\r\n\r\n", "301"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
        ("\x1b[2J\n\n", "u{1b}"),
        ("", "no answer"),
    ] {
        assert_unhealthy(&[&stand_in(answer)], reason);
    }
    assert_healthy(&[&stand_in("HTTP/1.1 200 OK\r\n\r\n")]);
}

#[test]
fn a_server_that_says_nothing_is_not_healthy() {
    let daemon = Daemon::start(&[]);
    daemon.signal(Signal::STOP);
    assert_unhealthy(&[&daemon.address.to_string()], "no answer within 2 s");
    daemon.signal(Signal::CONT);
    assert_healthy(&[&daemon.address.to_string()]);

    // Nobody accepts here and the queue is full, so connecting blocks.
    let path = socket_path("full");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let unix = format!("unix:{}", path.display());
    assert_unhealthy(&[&unix], "no answer within 2 s");
    std::fs::remove_file(&path).unwrap();
}
