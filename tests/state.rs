//! A restart that no session notices: `--state-file`.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use common::{Answer, Daemon, program};
use rustix::process::Signal;
use serde_json::Value;

const SEQUENCED: &str = "/_matrix/client/v1/rendezvous";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

/// A directory of its own with the state file in it, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn start(&self, flags: &[&str]) -> Daemon {
        let path = self.file();
        let ours = ["--state-file", path.to_str().unwrap()];
        Daemon::start(&[&ours, flags].concat())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Stops it and checks that it went well; what it logged.
fn stop(daemon: Daemon) -> Vec<String> {
    stop_by(Signal::TERM, daemon)
}

fn stop_by(signal: Signal, daemon: Daemon) -> Vec<String> {
    daemon.signal(signal);
    let (lines, status) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{lines:?}");
    lines
}

fn warnings(lines: &[String]) -> Vec<&String> {
    let is_warning = |line: &&String| line.contains(" WARN ") || line.contains(" ERROR ");
    lines.iter().filter(is_warning).collect()
}

fn read(daemon: &Daemon, path: &str) -> Answer {
    daemon.request("GET", path, &[], "")
}

/// A session of the tagged family that has been written to; its path and how
/// it reads.
fn tagged(daemon: &Daemon, field: (&str, &str)) -> (String, Answer) {
    let made = daemon.request("POST", "/rendezvous", &[field], "first");
    let path = made.location().to_owned();
    let tag = ("If-Match", made.etag());
    let written = daemon.request("PUT", &path, &[field, tag], "second");
    assert_eq!(written.status, 202);
    let answer = read(daemon, &path);
    assert_eq!((answer.status, answer.text()), (200, "second"));
    (path, answer)
}

/// The same, of a server that has stopped.
fn left_behind(directory: &Directory) -> (String, Answer) {
    let daemon = directory.start(&[]);
    let session = tagged(&daemon, TEXT);
    stop(daemon);
    session
}

fn object(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

fn put(daemon: &Daemon, path: &str, token: &str, data: &str) -> Answer {
    let body = format!(r#"{{"sequence_token": "{token}", "data": "{data}"}}"#);
    daemon.request("PUT", path, &[JSON], &body)
}

/// A session of MSC4388 with a transaction that was done and one that came
/// too late; its path.
fn sequenced(daemon: &Daemon) -> String {
    let made = daemon.request("POST", SEQUENCED, &[JSON], r#"{"data": "first"}"#);
    let id = object(&made)["id"].as_str().unwrap().to_owned();
    let path = format!("{SEQUENCED}/{id}");
    object(&put(daemon, &format!("{path}/done"), "0", "sécond"));
    put(daemon, &format!("{path}/late"), "0", "x").assert_error(409, "M_CONCURRENT_WRITE");
    path
}

/// The time in a field, which is rounded to a second.
fn date(answer: &Answer, name: &str) -> SystemTime {
    httpdate::parse_http_date(answer.field(name).unwrap()).unwrap()
}

fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other)
        .unwrap_or_else(|error| error.duration())
}

#[test]
fn a_start_that_fails_keeps_the_sessions_for_the_next() {
    let directory = Directory::new("failing");
    let (path, before) = left_behind(&directory);
    // Too few descriptors for the workers.
    let line = "ulimit -n 11 && exec \"$0\" --listen 127.0.0.1:0 --state-file \"$1\"";
    let mut failing = Command::new("sh");
    failing.args(["-c", line, &program()]).arg(directory.file());
    let output = failing.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("restored 1 sessions from "), "{log}");
    let daemon = directory.start(&[]);
    assert_eq!(read(&daemon, &path).etag(), before.etag());
}

#[test]
fn sessions_of_all_protocols_go_on_after_a_restart() {
    let directory = Directory::new("restart");
    let daemon = directory.start(&[]);
    assert!(warnings(&daemon.start).is_empty(), "{:?}", daemon.start);
    let sessions = [TEXT, JSON].map(|field| tagged(&daemon, field));
    let path = sequenced(&daemon);
    let before_read = Instant::now();
    let before = object(&read(&daemon, &path));
    let after_read = Instant::now();
    stop(daemon);
    assert_eq!(directory.names(), ["state"]);
    let mode = fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    sleep(Duration::from_millis(300));
    let daemon = directory.start(&[]);
    assert!(directory.names().is_empty());
    for (path, before) in &sessions {
        let after = read(&daemon, path);
        assert_eq!((after.status, after.text()), (200, "second"));
        for name in ["ETag", "Content-Type"] {
            assert_eq!(after.field(name), before.field(name));
        }
        for name in ["Expires", "Last-Modified"] {
            let moved = distance(date(&after, name), date(before, name));
            assert!(moved <= Duration::from_secs(1), "{name} {moved:?}");
        }
        let same = ("If-None-Match", before.etag());
        assert_eq!(daemon.request("GET", path, &[same], "").status, 304);
        let fields = [TEXT, ("If-Match", before.etag())];
        let written = daemon.request("PUT", path, &fields, "third");
        assert_eq!(written.status, 202);
        assert_ne!(written.etag(), before.etag());
        let stale = daemon.request("PUT", path, &fields, "fourth");
        assert_eq!(stale.status, 412);
    }

    let least = after_read.elapsed();
    let after = object(&read(&daemon, &path));
    let most = before_read.elapsed();
    assert_eq!(before["data"], "sécond");
    for key in ["data", "sequence_token"] {
        assert_eq!(after[key], before[key]);
    }
    let left = |object: &Value| object["expires_in_ms"].as_u64().unwrap();
    let passed = Duration::from_millis(left(&before) - left(&after));
    let rounding = Duration::from_millis(1);
    assert!(least <= passed + rounding, "{passed:?}");
    assert!(passed <= most + rounding, "{passed:?}");
    let again = object(&put(&daemon, &format!("{path}/done"), "7", "y"));
    assert_eq!(again["sequence_token"], "1");
    put(&daemon, &format!("{path}/late"), "1", "y").assert_error(409, "M_CONCURRENT_WRITE");
    let replayed = object(&read(&daemon, &path));
    for key in ["data", "sequence_token"] {
        assert_eq!(replayed[key], before[key]);
    }
}

#[test]
fn sessions_go_on_whatever_signal_stopped_it() {
    for signal in [Signal::INT, Signal::HUP, Signal::QUIT] {
        let directory = Directory::new("signal");
        let daemon = directory.start(&[]);
        let (path, before) = tagged(&daemon, TEXT);
        stop_by(signal, daemon);
        let daemon = directory.start(&[]);
        assert_eq!(read(&daemon, &path).etag(), before.etag(), "{signal:?}");
    }
}

#[test]
fn a_life_that_ends_in_the_gap_has_ended() {
    let directory = Directory::new("gap");
    let daemon = directory.start(&["--ttl", "1s"]);
    let (short, _) = tagged(&daemon, JSON);
    let (long, _) = tagged(&daemon, TEXT);
    stop(daemon);
    sleep(Duration::from_millis(1_100));
    // The life of a session is what it was when it was made.
    let daemon = directory.start(&["--ttl", "1h"]);
    assert_eq!(read(&daemon, &short).status, 404);
    assert_eq!(read(&daemon, &long).status, 200);
}

#[test]
fn a_smaller_server_keeps_the_most_recently_used() {
    let directory = Directory::new("smaller");
    let daemon = directory.start(&["--max-bytes", "8KiB"]);
    let sessions = [JSON, TEXT, JSON].map(|field| tagged(&daemon, field).0);
    let large = daemon.request("POST", "/rendezvous", &[JSON], &"x".repeat(5_000));
    assert_eq!(read(&daemon, &sessions[0]).status, 200);
    stop(daemon);
    let daemon = directory.start(&["--max-entries", "2"]);
    let status = sessions.each_ref().map(|path| read(&daemon, path).status);
    assert_eq!(status, [200, 404, 200]);
    assert_eq!(read(&daemon, large.location()).status, 404);
}

#[test]
fn what_was_read_back_is_not_read_again_after_a_crash() {
    let directory = Directory::new("crash");
    let (path, _) = left_behind(&directory);
    let daemon = directory.start(&[]);
    assert_eq!(read(&daemon, &path).status, 200);
    daemon.signal(Signal::KILL);
    drop(daemon.wait());
    let daemon = directory.start(&[]);
    assert!(warnings(&daemon.start).is_empty(), "{:?}", daemon.start);
    assert_eq!(read(&daemon, &path).status, 404);
}

#[test]
fn a_damaged_file_is_one_warning_and_a_normal_start() {
    let directory = Directory::new("damaged");
    let (path, _) = left_behind(&directory);
    let whole = fs::read(directory.file()).unwrap();
    let mut newer = whole.clone();
    newer[8] += 1;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, why) in [
        (&whole[..whole.len() / 2], "is damaged"),
        (&flipped, "is damaged"),
        (&newer, "is of version 5, and this program knows 3 to 4"),
        (b"", "is damaged"),
    ] {
        fs::write(directory.file(), bytes).unwrap();
        let daemon = directory.start(&[]);
        let warnings = warnings(&daemon.start);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(why), "{warnings:?}");
        assert_eq!(read(&daemon, &path).status, 404);
        let (path, _) = tagged(&daemon, TEXT);
        stop(daemon);
        // What was refused has been written over.
        let daemon = directory.start(&[]);
        assert_eq!(read(&daemon, &path).status, 200);
    }
}

#[test]
fn sessions_are_restored_by_their_node_alone() {
    let start = |directory: &Directory, name: &str| {
        let flags: &[&str] = if name.is_empty() {
            &[]
        } else {
            &["--node", name]
        };
        directory.start(flags)
    };
    for (writer, reader, why) in [
        ("a", "b", "was written by node a"),
        ("a", "", "was written by node a"),
        ("", "a", "was written by a server without --node"),
        ("a", "a", ""),
    ] {
        let directory = Directory::new(&format!("node-{writer}-{reader}"));
        let daemon = start(&directory, writer);
        let (path, _) = tagged(&daemon, TEXT);
        stop(daemon);
        let daemon = start(&directory, reader);
        let warnings = warnings(&daemon.start);
        if why.is_empty() {
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(read(&daemon, &path).status, 200);
            continue;
        }
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("restored no sessions: "),
            "{warnings:?}"
        );
        assert!(warnings[0].ends_with(why), "{warnings:?}");
        let random = path.rsplit(['/', '.']).next().unwrap();
        for prefix in ["", "a.", "b."] {
            let path = format!("/rendezvous/{prefix}{random}");
            assert_eq!(read(&daemon, &path).status, 404, "{path}");
        }
        let (path, _) = tagged(&daemon, TEXT);
        stop(daemon);
        // What was refused has been written over.
        let daemon = start(&directory, reader);
        assert_eq!(read(&daemon, &path).status, 200);
    }
}

/// A daemon whose files may take so many blocks of a shell's, 512 bytes or
/// 1024.
fn limited(directory: &Directory, blocks: usize) -> Daemon {
    let mut command = Command::new("sh");
    let line = "ulimit -f \"$1\"; exec \"$0\" --listen 127.0.0.1:0 --state-file \"$2\"";
    let blocks = blocks.to_string();
    command.args(["-c", line, &program(), &blocks]);
    command.arg(directory.file());
    Daemon::spawn(command)
}

/// So many sessions of 1000 bytes; their paths.
fn large(daemon: &Daemon, count: usize) -> Vec<String> {
    let payload = "x".repeat(1_000);
    let made = (0..count).map(|_| daemon.request("POST", "/rendezvous", &[JSON], &payload));
    made.map(|made| made.location().to_owned()).collect()
}

#[test]
fn the_most_recently_used_that_fit_into_the_file_are_kept() {
    let directory = Directory::new("small");
    let daemon = limited(&directory, 8);
    let mut paths = large(&daemon, 20);
    assert_eq!(read(&daemon, &paths[0]).status, 200);
    paths.rotate_left(1);
    let lines = stop(daemon);
    let said = |text: &str| {
        let line = lines.iter().find_map(|line| line.split_once(text));
        let (before, after) = line.unwrap_or_else(|| panic!("{lines:?}"));
        let count = before.split_whitespace().last().unwrap();
        (count.parse::<usize>().unwrap(), after)
    };
    let (kept, _) = said(" sessions in ");
    assert!((2..10).contains(&kept), "{lines:?}");
    let (lost, why) = said(" sessions are lost, they do not fit in ");
    assert_eq!(kept + lost, 20);
    assert!(why.ends_with("File too large (os error 27)"), "{why}");
    assert_eq!(directory.names(), ["state"]);

    let daemon = directory.start(&[]);
    assert!(warnings(&daemon.start).is_empty(), "{:?}", daemon.start);
    for (place, path) in paths.iter().enumerate() {
        let expected = if place < lost { 404 } else { 200 };
        assert_eq!(read(&daemon, path).status, expected, "{place}");
    }
}

#[test]
fn where_not_one_session_fits_the_file_stays_as_it_was() {
    let directory = Directory::new("none");
    fs::write(directory.file(), "rdvstate, but damaged").unwrap();
    let daemon = limited(&directory, 1);
    large(&daemon, 3);
    let lines = stop(daemon);
    let said = "ERROR 3 sessions are lost, none can be kept in ";
    let warnings = warnings(&lines);
    assert!(warnings.iter().any(|line| line.contains(said)), "{lines:?}");
    assert_eq!(directory.names(), ["state"]);
    let there = fs::read_to_string(directory.file()).unwrap();
    assert_eq!(there, "rdvstate, but damaged");
}

#[test]
fn a_file_of_somebody_elses_is_left_alone() {
    let directory = Directory::new("foreign");
    fs::write(directory.file(), "precious notes").unwrap();
    let daemon = directory.start(&[]);
    let warnings = warnings(&daemon.start);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let said = "none will be kept";
    assert!(warnings[0].contains(said) && warnings[0].ends_with("is no state file"));
    tagged(&daemon, TEXT);
    stop(daemon);
    assert_eq!(fs::read(directory.file()).unwrap(), b"precious notes");
}

#[test]
fn a_place_where_nothing_can_be_written_is_told_at_the_start() {
    let directory = Directory::new("nowhere");
    let path = directory.0.join("missing").join("state");
    let daemon = Daemon::start(&["--state-file", path.to_str().unwrap()]);
    let warnings = warnings(&daemon.start);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot be written: No such file"));
    let (path, _) = tagged(&daemon, TEXT);
    assert_eq!(read(&daemon, &path).status, 200);
    stop(daemon);
}
