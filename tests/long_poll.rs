//! Held polls: a conditional GET that has nothing to tell waits until it has.

mod common;
#[path = "common/metrics.rs"]
mod metrics;

use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{Answer, Client, Daemon, PATIENCE};
use metrics::Metrics;
use rendezvousd::api::{MSC4108_PATH, MSC4388_PATH};
use rendezvousd::store::MAX_WATCHES;
use rustix::process::Signal;

const TEXT: (&str, &str) = ("Content-Type", "text/plain");

/// The longest hold there is, so that none ends by itself meanwhile.
const LONG: [&str; 2] = ["--long-poll", "25s"];

/// Less than that: who has waited so long was not woken, even if they are told
/// of a change when their time is over.
const NOT_WOKEN: Duration = Duration::from_secs(18);

struct Fixture {
    daemon: Daemon,
}

impl Fixture {
    fn start(flags: &[&str]) -> Self {
        let daemon = Daemon::start(&[flags, &["--admin", "127.0.0.1:0"]].concat());
        Self { daemon }
    }

    fn metrics(&self) -> Metrics {
        let answer = self.daemon.ask_admin("GET", "/metrics");
        Metrics::read(answer.text())
    }

    fn count(&self, series: &str) -> usize {
        let count = self.metrics().get(series).to_string();
        count.parse().expect("a whole number")
    }

    fn held(&self) -> usize {
        self.count(r#"rendezvousd_connections{state="held"}"#)
    }

    #[track_caller]
    fn wait_held(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.held() != count {
            assert!(Instant::now() < end, "{} are held", self.held());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many held polls ended for a reason.
    fn ended(&self, reason: &str) -> usize {
        let series = format!(r#"rendezvousd_held_polls_total{{reason="{reason}"}}"#);
        self.count(&series)
    }

    fn create(&self) -> Session {
        let made = self.daemon.request("POST", "/rendezvous", &[TEXT], "first");
        assert_eq!(made.status, 201, "{made:?}");
        Session {
            path: made.location().to_owned(),
            etag: made.etag().to_owned(),
        }
    }

    /// A connection that fails if a wake-up is missing.
    fn impatient(&self) -> Client {
        let stream = TcpStream::connect(self.daemon.address).unwrap();
        let client = Client::new(stream.try_clone().unwrap());
        stream.set_read_timeout(Some(NOT_WOKEN)).unwrap();
        client
    }

    /// A connection with a poll that is held.
    #[track_caller]
    fn hold(&self, session: &Session) -> Client {
        let before = self.held();
        let mut client = self.impatient();
        client.send(session.poll("").as_bytes());
        self.wait_held(before + 1);
        client
    }

    /// The answer to a poll with these header lines, which must not be held.
    #[track_caller]
    fn at_once(&self, session: &Session, fields: &[(&str, &str)]) -> Answer {
        let answer = self.daemon.request("GET", &session.path, fields, "");
        let ends = ["changed", "timeout", "gone", "released"];
        let ended: usize = ends.map(|reason| self.ended(reason)).iter().sum();
        assert_eq!((ended, self.held()), (0, 0), "{answer:?}");
        answer
    }
}

struct Session {
    path: String,
    etag: String,
}

impl Session {
    /// A poll, with further header lines.
    fn poll(&self, lines: &str) -> String {
        let Self { path, etag } = self;
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n{lines}\r\n")
    }

    fn write(&self, daemon: &Daemon, payload: &str) -> Answer {
        let fields = [TEXT, ("If-Match", self.etag.as_str())];
        daemon.request("PUT", &self.path, &fields, payload)
    }
}

#[test]
fn a_write_answers_every_poll_of_its_session_and_no_other() {
    let fixture = Fixture::start(&LONG);
    let (session, other) = (fixture.create(), fixture.create());
    let mut polls = [fixture.hold(&session), fixture.hold(&session)];
    let mut bystander = fixture.hold(&other);
    let written = session.write(&fixture.daemon, "news");
    assert_eq!(written.status, 202);
    for poll in &mut polls {
        let answer = poll.answer(false).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "news"));
        assert_eq!(answer.etag(), written.etag());
        for name in ["Expires", "Last-Modified"] {
            assert_eq!(answer.field(name), written.field(name), "{name}");
        }
        assert_eq!(answer.field("Content-Type"), Some("text/plain"));
        assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
        assert_eq!(answer.field("Connection"), None);
    }
    assert_eq!((fixture.held(), fixture.ended("changed")), (1, 2));
    // One that is refused changes nothing.
    assert_eq!(session.write(&fixture.daemon, "late").status, 412);
    assert_eq!(other.write(&fixture.daemon, "news").status, 202);
    assert_eq!(bystander.answer(false).unwrap().text(), "news");
}

#[test]
fn a_delete_answers_404() {
    let fixture = Fixture::start(&LONG);
    let session = fixture.create();
    let mut poll = fixture.hold(&session);
    let deleted = fixture.daemon.request("DELETE", &session.path, &[], "");
    assert_eq!(deleted.status, 204);
    poll.answer(false).unwrap().assert_error(404, "M_NOT_FOUND");
    assert_eq!(fixture.ended("changed"), 1);
}

#[test]
fn an_expiry_answers_404() {
    let fixture = Fixture::start(&[&LONG[..], &["--ttl", "1s"]].concat());
    let json = ("Content-Type", "application/json");
    let made = (fixture.daemon).request("POST", "/rendezvous", &[json], "{}");
    let session = Session {
        path: made.location().to_owned(),
        etag: made.etag().to_owned(),
    };
    let mut poll = fixture.hold(&session);
    poll.answer(false).unwrap().assert_error(404, "M_NOT_FOUND");
    assert_eq!(fixture.ended("changed"), 1);
}

#[test]
fn without_news_the_answer_is_304_when_its_time_is_over() {
    let fixture = Fixture::start(&["--long-poll", "1s"]);
    let session = fixture.create();
    let started = Instant::now();
    let fields = [("If-None-Match", session.etag.as_str())];
    let answer = fixture.daemon.request("GET", &session.path, &fields, "");
    assert_eq!((answer.status, answer.etag()), (304, &*session.etag));
    assert!(answer.field("Expires").is_some() && answer.field("Last-Modified").is_some());
    assert_eq!(answer.field("Preference-Applied"), None);
    assert!(started.elapsed() >= Duration::from_millis(900));
    assert_eq!(fixture.ended("timeout"), 1);
    // The time held is no work of the server's.
    let metrics = fixture.metrics();
    let at_once = r#"rendezvousd_request_duration_seconds_bucket{le="0.5"}"#;
    let all = "rendezvousd_request_duration_seconds_count";
    assert_eq!(metrics.get(at_once), metrics.get(all));
    let polls = r#"rendezvousd_requests_total{protocol="msc4108",method="GET",status="304"}"#;
    assert!((metrics.get(polls) - 1.0).abs() < 0.1);
}

/// RFC 7240, sections 3 and 4.3.
#[test]
fn rfc7240_4_3_a_client_may_ask_for_a_shorter_wait() {
    let fixture = Fixture::start(&LONG);
    let session = fixture.create();
    let poll = |prefer: &str| {
        let fields = [("If-None-Match", &*session.etag), ("Prefer", prefer)];
        fixture.daemon.request("GET", &session.path, &fields, "")
    };
    for (prefer, applied) in [
        ("wait=0", "wait=0"),
        ("respond-async, WAIT = 1; x=y, wait=20", "wait=1"),
        ("wait=\"1\"", "wait=1"),
        ("foo=\"a, wait=0\", wait=1", "wait=1"),
    ] {
        let answer = poll(prefer);
        assert_eq!(answer.status, 304);
        assert_eq!(answer.field("Preference-Applied"), Some(applied));
    }
    assert_eq!(fixture.ended("timeout"), 3);
    // What is longer, or no number, decides nothing.
    for prefer in [
        "wait=25",
        "wait=99999999999999999999",
        "wait=-1",
        "wait=",
        "wait",
        "waiting=0",
    ] {
        let mut client = fixture.daemon.connect();
        client.send(session.poll(&format!("Prefer: {prefer}\r\n")).as_bytes());
        fixture.wait_held(1);
        drop(client);
        fixture.wait_held(0);
    }
}

#[test]
fn what_is_no_poll_is_answered_at_once() {
    let fixture = Fixture::start(&LONG);
    let session = fixture.create();
    let known = ("If-None-Match", session.etag.as_str());
    assert_eq!(fixture.at_once(&session, &[]).status, 200);
    assert_eq!(
        fixture
            .at_once(&session, &[("If-None-Match", "\"other\"")])
            .status,
        200
    );
    assert_eq!(
        fixture.at_once(&session, &[("If-None-Match", "*")]).status,
        304
    );
    let no_tag = format!("*{}", session.etag);
    let no_tag = [("If-None-Match", no_tag.as_str())];
    assert_eq!(fixture.at_once(&session, &no_tag).status, 200);
    let shown = ("Sec-Fetch-Dest", "document");
    assert_eq!(fixture.at_once(&session, &[known, shown]).status, 403);
    let head = fixture.daemon.request("HEAD", &session.path, &[known], "");
    assert_eq!(head.status, 304);
    // MSC4388 has no condition.
    let made = fixture
        .daemon
        .request("POST", MSC4388_PATH, &[], r#"{"data":"a"}"#);
    let made: serde_json::Value = serde_json::from_str(made.text()).unwrap();
    let sequenced = Session {
        path: format!("{MSC4388_PATH}/{}", made["id"].as_str().unwrap()),
        etag: session.etag.clone(),
    };
    assert_eq!(fixture.at_once(&sequenced, &[known]).status, 200);
    let fixture = Fixture::start(&["--long-poll", "0s"]);
    let session = fixture.create();
    let fields = [("If-None-Match", &*session.etag), ("Prefer", "wait=5")];
    let answer = fixture.at_once(&session, &fields);
    assert_eq!(
        (answer.status, answer.field("Preference-Applied")),
        (304, None)
    );
}

/// Proxies change ETags, and lists have several.
#[test]
fn an_etag_that_a_proxy_changed_names_its_revision_still() {
    let fixture = Fixture::start(&LONG);
    for change in ["W/TAG", "\"other\", TAG", "TAG, *"] {
        let mut session = fixture.create();
        let etag = session.etag.clone();
        let changed = change.replace("TAG", &etag);
        session.etag = changed;
        let mut poll = fixture.hold(&session);
        session.etag = etag;
        session.write(&fixture.daemon, "news");
        assert_eq!(poll.answer(false).unwrap().text(), "news");
    }
}

#[test]
fn a_session_has_eight_held_polls_and_the_oldest_gives_way() {
    let fixture = Fixture::start(&LONG);
    let session = fixture.create();
    let mut polls: Vec<_> = (0..MAX_WATCHES).map(|_| fixture.hold(&session)).collect();
    for number in 0..2 {
        let mut newer = fixture.daemon.connect();
        newer.send(session.poll("").as_bytes());
        let answer = polls[number].answer(false).unwrap();
        assert_eq!((answer.status, answer.etag()), (304, &*session.etag));
        polls.push(newer);
        fixture.wait_held(MAX_WATCHES);
    }
    assert_eq!(fixture.ended("released"), 2);
    session.write(&fixture.daemon, "news");
    for poll in &mut polls[2..] {
        assert_eq!(poll.answer(false).unwrap().text(), "news");
    }
}

#[test]
fn a_client_that_leaves_is_let_go() {
    let fixture = Fixture::start(&LONG);
    let session = fixture.create();
    for _ in 0..20 {
        let stream = TcpStream::connect(fixture.daemon.address).unwrap();
        let mut client = Client::new(stream.try_clone().unwrap());
        client.send(session.poll("").as_bytes());
        fixture.wait_held(1);
        stream.shutdown(Shutdown::Write).unwrap();
        // It may still want the answer.
        assert_eq!(client.answer(false).unwrap().status, 304);
        assert!(client.is_closed());
    }
    assert_eq!((fixture.held(), fixture.ended("gone")), (0, 20));
}

#[test]
fn a_stop_answers_304_and_closes() {
    let fixture = Fixture::start(&LONG);
    let session = fixture.create();
    let mut polls: Vec<_> = (0..4).map(|_| fixture.hold(&session)).collect();
    fixture.daemon.signal(Signal::TERM);
    for poll in &mut polls {
        let answer = poll.answer(false).unwrap();
        assert_eq!((answer.status, answer.etag()), (304, &*session.etag));
        assert_eq!(answer.field("Connection"), Some("close"));
        assert!(poll.is_closed());
    }
    let (_, status) = fixture.daemon.wait();
    assert!(status.success());
}

/// Many devices at once, over two workers: every poll is answered, with a
/// revision that is not older than the one that it names, and a chain of writes
/// passes from one device to the other by held polls alone.
#[test]
fn messages_pass_between_many_pairs_of_devices() {
    const PAIRS: usize = 24;
    const MESSAGES: usize = 40;
    let flags = ["--create-burst", "100", "--workers", "2"];
    let fixture = Fixture::start(&[&LONG[..], &flags].concat());
    thread::scope(|scope| {
        for _ in 0..PAIRS {
            let session = fixture.create();
            for turn in 0..2 {
                let (path, mut etag) = (session.path.clone(), session.etag.clone());
                let mut client = fixture.impatient();
                scope.spawn(move || {
                    for number in 0..MESSAGES {
                        if number % 2 == turn {
                            let fields = [TEXT, ("If-Match", &*etag)];
                            let text = number.to_string();
                            let written = client.request("PUT", &path, &fields, &text);
                            assert_eq!(written.status, 202);
                            etag = written.etag().to_owned();
                        } else {
                            let fields = [("If-None-Match", &*etag)];
                            let read = client.request("GET", &path, &fields, "");
                            assert_eq!((read.status, read.text()), (200, &*number.to_string()));
                            assert_ne!(read.etag(), etag);
                            etag = read.etag().to_owned();
                        }
                    }
                });
            }
        }
    });
    // Not one waited for the end of its time.
    assert_eq!((fixture.ended("timeout"), fixture.held()), (0, 0));
    assert!(fixture.ended("changed") > 0);
}

#[test]
fn both_paths_of_a_session_are_held() {
    let fixture = Fixture::start(&LONG);
    let made = (fixture.daemon).request("POST", MSC4108_PATH, &[TEXT], "first");
    let id = made.location().rsplit('/').next().unwrap();
    for path in [format!("{MSC4108_PATH}/{id}"), format!("/rendezvous/{id}")] {
        let read = fixture.daemon.request("GET", &path, &[], "");
        let session = Session {
            path,
            etag: read.etag().to_owned(),
        };
        let mut poll = fixture.hold(&session);
        session.write(&fixture.daemon, "news");
        assert_eq!(poll.answer(false).unwrap().text(), "news");
    }
}
