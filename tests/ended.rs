//! What the log says of sessions that have ended.

mod common;

use common::Daemon;
use rustix::process::Signal;

/// Makes a session, reads it, writes to it, reads it twice as a poll does and
/// deletes it; the name that no line may show.
fn meet(daemon: &Daemon) -> String {
    let mut client = daemon.connect();
    let text = ("Content-Type", "text/plain");
    let made = client.request("POST", "/rendezvous", &[text], "first");
    let path = made.location();
    assert_eq!(client.request("GET", path, &[], "").status, 200);
    let fields = [text, ("If-Match", made.etag())];
    let written = client.request("PUT", path, &fields, "second");
    let fields = [("If-None-Match", written.etag())];
    for _ in 0..2 {
        assert_eq!(client.request("GET", path, &fields, "").status, 304);
    }
    assert_eq!(client.request("DELETE", path, &[], "").status, 204);
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn at_debug_every_session_has_a_line_at_its_end() {
    let daemon = Daemon::start(&["--log-level", "debug", "--ttl", "1s"]);
    let unread = daemon.request("POST", "/rendezvous", &[], "x");
    let id = meet(&daemon);
    // The reaper comes within a second, and a little more on a busy machine.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    daemon.signal(Signal::TERM);
    let (lines, _) = daemon.wait();
    let log = lines.join("\n");
    for (start, end) in [
        (
            "DEBUG a session of MSC4108 ended as aborted: deleted ",
            " s after its last write, writes: 1, last payload: 6 bytes",
        ),
        (
            "DEBUG a session of MSC3886 ended as never_joined: expired ",
            " s after its creation, writes: 0, last payload: 1 bytes",
        ),
    ] {
        let is_it = |line: &&String| line.contains(start) && line.ends_with(end);
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{log}");
    }
    let other = unread.location().rsplit('/').next().unwrap();
    for name in [id.as_str(), other] {
        assert!(!log.contains(name), "{log}");
    }
}

#[test]
fn at_info_no_session_has_one() {
    let daemon = Daemon::start(&[]);
    meet(&daemon);
    daemon.signal(Signal::TERM);
    let (lines, _) = daemon.wait();
    assert!(!lines.join("\n").contains("a session of"), "{lines:?}");
}
