//! The admin port: what it says, and that it goes on saying it.

mod common;
#[path = "common/metrics.rs"]
mod metrics;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Answer, Client, Daemon, PATIENCE, manual_entries, program};
use metrics::Metrics;
use rendezvousd::api::{MSC3886_PATH, MSC4388_PATH};
use rustix::process::Signal;

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

fn ask(daemon: &Daemon, method: &str, path: &str) -> Answer {
    daemon.ask_admin(method, path)
}

fn scrape(daemon: &Daemon) -> Metrics {
    let answer = ask(daemon, "GET", "/metrics");
    assert_eq!(answer.status, 200);
    let format = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.field("Content-Type"), Some(format));
    Metrics::read(answer.text())
}

#[test]
fn the_manual_explains_every_metric() {
    let daemon = Daemon::start(&ADMIN);
    let page = ask(&daemon, "GET", "/metrics");
    let types = page.text().lines();
    let types = types.filter_map(|line| line.strip_prefix("# TYPE "));
    let mut served: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    assert!(served.len() > 15, "{served:?}");
    let entries = manual_entries("METRICS");
    let heads = entries.iter().map(|entry| entry.lines().next().unwrap());
    let mut explained: Vec<&str> = heads
        .filter(|head| head.starts_with(".I"))
        .flat_map(|head| head.split(' ').skip(1))
        .filter(|word| !word.starts_with(['"', ',']))
        .collect();
    served.sort_unstable();
    explained.sort_unstable();
    assert_eq!(explained, served);
}

/// Scrapes until it is so.
fn wait_until(daemon: &Daemon, so: impl Fn(&Metrics) -> bool) -> Metrics {
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = scrape(daemon);
        if so(&metrics) {
            return metrics;
        }
        assert!(Instant::now() < end, "{metrics:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn assert_healthy(daemon: &Daemon) {
    let answer = ask(daemon, "GET", "/health");
    assert_eq!((answer.status, answer.text()), (200, "ok\n"));
}

/// What one client does with the tagged protocols at the redirect's target.
fn tagged_flows(client: &mut Client) {
    let made = client.request("POST", "/rendezvous", &[TEXT], "a");
    let path = made.location();
    let seen = client.request("GET", path, &[], "");
    client.request("HEAD", path, &[], "");
    let unchanged = ("If-None-Match", seen.etag());
    client.request("GET", path, &[unchanged], "");
    let over = ("If-Match", seen.etag());
    client.request("PUT", path, &[TEXT, over], "b");
    let late = client.request("PUT", path, &[TEXT, over], "c");
    assert_eq!(late.status, 412);
    client.request("DELETE", path, &[], "");
    client.request("GET", path, &[], "");

    let json = ("Content-Type", "application/json");
    let made = client.request("POST", "/rendezvous", &[json], "{}");
    let changed = format!("W/{}", made.etag().replace("\"", "").as_str());
    let over = ("If-Match", changed.as_str());
    let written = client.request("PUT", made.location(), &[json, over], "[]");
    assert_eq!(written.status, 202);
    let shown = ("Sec-Fetch-Dest", "document");
    client.request("GET", made.location(), &[shown], "");

    let made = client.request("POST", MSC3886_PATH, &[TEXT], "a");
    client.request("DELETE", made.location(), &[], "");
}

fn sequenced_flow(client: &mut Client) {
    client.request("GET", MSC4388_PATH, &[], "");
    let made = client.request("POST", MSC4388_PATH, &[], r#"{"data":"a"}"#);
    let made: serde_json::Value = serde_json::from_str(made.text()).unwrap();
    let path = format!("{MSC4388_PATH}/{}", made["id"].as_str().unwrap());
    client.request("GET", &path, &[], "");
    let body = r#"{"sequence_token":"0","data":"b"}"#;
    for status in [200, 409] {
        let body = body.replace('b', &format!("{status}"));
        let written = client.request("PUT", &path, &[], &body);
        assert_eq!(written.status, status, "{written:?}");
    }
    client.request("DELETE", &path, &[], "");
}

fn errors(client: &mut Client) {
    client.request("GET", "/", &[], "");
    client.request("GET", "/client/v1/rendezvous", &[], "");
    client.request("PATCH", "/rendezvous", &[], "");
    client.request("STRANGE", "/rendezvous", &[], "");
    client.request("OPTIONS", "/rendezvous", &[], "");
    client.request("OPTIONS", "*", &[], "");
    client.request("PUT", "/rendezvous/x", &[], "");
    let coded = ("Content-Encoding", "gzip");
    client.request("POST", "/rendezvous", &[TEXT, coded], "a");
}

/// Creations over a quota of two and in a store for four, of which one is
/// held already.
fn refused_creations(client: &mut Client) {
    let named = ("X-Forwarded-For", "192.0.2.1");
    for status in [201, 201, 429] {
        let made = client.request("POST", "/rendezvous", &[TEXT, named], "a");
        assert_eq!(made.status, status);
    }
    for status in [201, 503] {
        let made = client.request("POST", "/rendezvous", &[TEXT], "a");
        assert_eq!(made.status, status);
    }
}

#[test]
fn everything_is_counted_to_the_number() {
    let limits = ["--create-burst", "2", "--max-entries", "4"];
    let daemon = Daemon::start(&[&ADMIN[..], &limits].concat());
    let mut client = daemon.connect();
    tagged_flows(&mut client);
    sequenced_flow(&mut client);
    errors(&mut client);
    refused_creations(&mut client);
    for bad in [
        "BAD\r\n\r\n",
        "POST /rendezvous HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n",
    ] {
        let mut client = daemon.connect();
        client.send(bad.as_bytes());
        client.answer(false).unwrap();
    }
    // The last answers may be on their way before they are counted.
    let metrics = wait_until(&daemon, |metrics| {
        let answered = metrics.get("rendezvousd_request_duration_seconds_count");
        answered == 32.0 && metrics.sum("rendezvousd_connections") == 1.0
    });

    let requests = [
        ("check", "GET", 404, 1),
        ("check", "OPTIONS", 204, 1),
        ("msc3886", "DELETE", 204, 1),
        ("msc3886", "POST", 201, 2),
        ("msc3886", "PUT", 202, 1),
        ("msc4108", "DELETE", 204, 1),
        ("msc4108", "GET", 200, 1),
        ("msc4108", "GET", 304, 1),
        ("msc4108", "HEAD", 200, 1),
        ("msc4108", "POST", 201, 4),
        ("msc4108", "POST", 415, 1),
        ("msc4108", "POST", 429, 1),
        ("msc4108", "POST", 503, 1),
        ("msc4108", "PUT", 202, 1),
        ("msc4108", "PUT", 412, 1),
        ("msc4388", "DELETE", 200, 1),
        ("msc4388", "GET", 200, 2),
        ("msc4388", "POST", 200, 1),
        ("msc4388", "PUT", 200, 1),
        ("msc4388", "PUT", 409, 1),
        ("none", "GET", 403, 1),
        ("none", "GET", 404, 2),
        ("none", "OPTIONS", 204, 1),
        ("none", "PUT", 400, 1),
        ("none", "other", 405, 2),
    ];
    let name = "rendezvousd_requests_total";
    let expected = requests.map(|(protocol, method, status, count)| {
        let labels = format!(r#"protocol="{protocol}",method="{method}",status="{status}""#);
        (format!("{name}{{{labels}}}"), f64::from(count))
    });
    let mut counted = metrics.family(name);
    counted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(counted, expected);

    for (name, value) in [
        (r#"rendezvousd_requests_refused_total{status="400"}"#, 1.0),
        (r#"rendezvousd_requests_refused_total{status="413"}"#, 1.0),
        ("rendezvousd_sessions", 4.0),
        ("rendezvousd_sessions_limit", 4.0),
        ("rendezvousd_connections_limit", 4096.0),
        ("rendezvousd_sessions_payload_bytes", 5.0),
        ("rendezvousd_sessions_created_total", 7.0),
        (
            r#"rendezvousd_creations_refused_total{reason="quota"}"#,
            1.0,
        ),
        (r#"rendezvousd_creations_refused_total{reason="full"}"#, 1.0),
        (
            r#"rendezvousd_creations_refused_total{reason="randomness"}"#,
            0.0,
        ),
        ("rendezvousd_creations_unattributed_total", 6.0),
        ("rendezvousd_write_conflicts_total", 2.0),
        ("rendezvousd_etag_repairs_total", 1.0),
        ("rendezvousd_unknown_paths_total", 1.0),
        ("rendezvousd_navigations_refused_total", 1.0),
        ("rendezvousd_panics_total", 0.0),
        ("rendezvousd_connections_accepted_total", 3.0),
        ("rendezvousd_connections_evicted_total", 0.0),
        (r#"rendezvousd_connections{state="idle"}"#, 1.0),
        (r#"rendezvousd_build_info{version="0.1.0"}"#, 1.0),
    ] {
        assert_eq!(metrics.get(name), value, "{name}");
    }
    let aborted = ["msc4108", "msc4388"].map(|protocol| (protocol, EARLY, 1));
    let unread = [("msc3886", "never_joined", 1)];
    assert_ended(&metrics, &[&aborted[..], &unread].concat());
    assert!(metrics.get("rendezvousd_uptime_seconds") > 0.0);
    assert!(metrics.get("process_resident_memory_bytes") > 1e5);
    assert!(metrics.get("process_open_fds") > 5.0);
    assert!(metrics.get("process_cpu_seconds_total") > 0.0);
    let started = metrics.get("process_start_time_seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let running = now.as_secs_f64() - started;
    assert!((0.0..86_400.0).contains(&running), "{running}");
}

/// The labels of sessions that stopped at this stage, as an outcome.
const EARLY: &str = r#"aborted",stage="before_check_code"#;
const AT_CODE: &str = r#"aborted",stage="check_code"#;
const LATE: &str = r#"aborted",stage="after_check_code"#;

/// Checks that sessions have ended so, and no others.
#[track_caller]
fn assert_ended(metrics: &Metrics, expected: &[(&str, &str, u32)]) {
    let name = "rendezvousd_sessions_ended_total";
    assert_eq!(
        metrics.family(name).len(),
        21,
        "all are there from the start"
    );
    let mut sum = 0;
    for (protocol, outcome, count) in expected {
        let series = format!(r#"{name}{{protocol="{protocol}",outcome="{outcome}"}}"#);
        assert_eq!(metrics.get(&series), f64::from(*count), "{series}");
        sum += count;
    }
    assert_eq!(metrics.sum(name), f64::from(sum));
}

/// A session of the tagged family, and the tag of its present revision.
struct Tagged {
    path: String,
    tag: String,
    json: bool,
}

impl Tagged {
    fn create(client: &mut Client, json: bool) -> Self {
        let made = client.request("POST", "/rendezvous", &[Self::media_type(json)], "");
        let (path, tag) = (made.location().to_owned(), made.etag().to_owned());
        Self { path, tag, json }
    }

    fn media_type(json: bool) -> (&'static str, &'static str) {
        let media_type = if json {
            "application/json"
        } else {
            "text/plain"
        };
        ("Content-Type", media_type)
    }

    /// As the device does that wrote last.
    fn poll(&self, client: &mut Client) {
        let fields = [("If-None-Match", self.tag.as_str())];
        assert_eq!(client.request("GET", &self.path, &fields, "").status, 304);
    }

    fn ask(&self, client: &mut Client, method: &str, fields: &[(&str, &str)], status: u16) {
        let answer = client.request(method, &self.path, fields, "");
        assert_eq!(answer.status, status);
    }

    /// Writes payloads of these sizes, one after the other, each polled for.
    fn write(&mut self, client: &mut Client, sizes: &[usize]) {
        for size in sizes {
            let fields = [Self::media_type(self.json), ("If-Match", self.tag.as_str())];
            let written = client.request("PUT", &self.path, &fields, &"x".repeat(*size));
            assert_eq!(written.status, 202);
            self.tag = written.etag().to_owned();
            self.poll(client);
        }
    }
}

/// What an existing device and a new one that shows the code write.
const SIGN_IN: [usize; 7] = [104, 52, 168, 388, 70, 56, 515];

#[test]
fn outcomes_of_the_tagged_family_are_told_apart() {
    let daemon = Daemon::start(&[&ADMIN[..], &["--ttl", "3s"]].concat());
    let mut client = daemon.connect();
    let client = &mut client;
    assert_ended(&scrape(&daemon), &[]);
    // Those of MSC3886 expire.
    for (json, whole) in [
        (false, &SIGN_IN[..]),
        (true, &[122, 188, 184, 282, 264, 368]),
    ] {
        let end = |session: &Tagged, client: &mut Client| {
            if !json {
                session.ask(client, "DELETE", &[], 204);
            }
        };
        for sizes in [whole, &whole[..5], &whole[..3], &[]] {
            let mut session = Tagged::create(client, json);
            session.poll(client);
            session.ask(client, "GET", &[], 200);
            session.write(client, sizes);
            end(&session, client);
        }
        // What fetches nothing: polls, however a proxy has changed the tag,
        // heads, and a browser that would show it.
        let session = Tagged::create(client, json);
        session.poll(client);
        let bare = session.tag.trim_matches('"');
        for tags in [
            "*",
            &format!("W/\"{bare}-gzip\""),
            &format!("\"a\", \"{bare}\""),
        ] {
            session.ask(client, "GET", &[("If-None-Match", tags)], 304);
        }
        session.ask(client, "HEAD", &[], 200);
        session.ask(client, "GET", &[("Sec-Fetch-Dest", "document")], 403);
        end(&session, client);
        // Other tags than the present one are none.
        for other in ["\"0123456789abcdef\"", "\"a\", \"b\"", "x"] {
            let session = Tagged::create(client, json);
            session.ask(client, "GET", &[("If-None-Match", other)], 200);
            end(&session, client);
        }
    }
    let metrics = wait_until(&daemon, |metrics| {
        metrics.get("rendezvousd_sessions") == 0.0
    });
    assert_eq!(metrics.get("rendezvousd_sessions_payload_bytes"), 0.0);
    let expected = ["msc4108", "msc3886"].map(|protocol| {
        [
            (protocol, "completed", 1),
            (protocol, LATE, 1),
            (protocol, AT_CODE, 1),
            (protocol, EARLY, 1 + 3),
            (protocol, "never_joined", 1),
        ]
    });
    assert_ended(&metrics, expected.as_flattened());
}

#[test]
fn outcomes_of_msc4388_are_told_apart_by_its_writes() {
    let daemon = Daemon::start(&ADMIN);
    let mut client = daemon.connect();
    for sizes in [
        &SIGN_IN[..],
        &SIGN_IN[..6],
        &SIGN_IN[..2],
        &SIGN_IN[..1],
        &[],
    ] {
        let made = client.request("POST", MSC4388_PATH, &[], r#"{"data":""}"#);
        let made: serde_json::Value = serde_json::from_str(made.text()).unwrap();
        let path = format!("{MSC4388_PATH}/{}", made["id"].as_str().unwrap());
        // Which device polls is not to be seen.
        assert_eq!(client.request("GET", &path, &[], "").status, 200);
        for (token, size) in sizes.iter().enumerate() {
            let data = "x".repeat(*size);
            let body = format!(r#"{{"sequence_token":"{token}","data":"{data}"}}"#);
            // A repetition is no second write.
            for _ in 0..2 {
                let path = format!("{path}/{token}");
                assert_eq!(client.request("PUT", &path, &[], &body).status, 200);
            }
        }
        assert_eq!(client.request("DELETE", &path, &[], "").status, 200);
    }
    let expected = [
        ("msc4388", "completed", 1),
        ("msc4388", LATE, 1),
        ("msc4388", AT_CODE, 1),
        ("msc4388", EARLY, 1),
        ("msc4388", "never_joined", 1),
    ];
    assert_ended(&scrape(&daemon), &expected);
}

/// What a monitor asks, and the check page: all that it writes begins so.
#[test]
fn checks_are_no_sign_ins_and_no_requests_of_clients() {
    let message = |word| format!("Message {word} of the check page. ").repeat(30);
    let daemon = Daemon::start(&ADMIN);
    let mut client = daemon.connect();
    for (path, json) in [("/rendezvous", false), ("/rendezvous", true)] {
        let typed = Tagged::media_type(json);
        let made = client.request("POST", path, &[typed], &message("one"));
        client.request("GET", made.location(), &[], "");
        let over = ("If-Match", made.etag());
        let written = client.request("PUT", made.location(), &[typed, over], &message("two"));
        assert_eq!(written.status, 202);
        client.request("DELETE", made.location(), &[], "");
    }
    let body = format!(r#"{{"data":"{}"}}"#, message("one"));
    let made = client.request("POST", MSC4388_PATH, &[], &body);
    let made: serde_json::Value = serde_json::from_str(made.text()).unwrap();
    let path = format!("{MSC4388_PATH}/{}", made["id"].as_str().unwrap());
    client.request("DELETE", &path, &[], "");
    let protocols = ["msc3886", "msc4108", "msc4388"];
    assert_ended(&scrape(&daemon), &protocols.map(|name| (name, "check", 1)));

    // The page and what it asks, monitors, and each worker's probe.
    let before = scrape(&daemon);
    for (method, path) in [
        ("GET", "/rendezvous/check"),
        ("HEAD", "/rendezvous/check/"),
        ("GET", "/rendezvous/check/server"),
        ("OPTIONS", "*"),
        ("OPTIONS", "/"),
        ("GET", "/"),
        ("HEAD", "/"),
    ] {
        client.request(method, path, &[], "");
    }
    assert_healthy(&daemon);
    let checks = |metrics: &Metrics| {
        let all = metrics.family("rendezvousd_requests_total").into_iter();
        let checks = all.filter(|(series, _)| series.contains(r#"{protocol="check""#));
        checks.map(|(_, count)| count).sum::<f64>()
    };
    let after = wait_until(&daemon, |metrics| checks(metrics) >= 7.0 + 1.0);
    let others = |metrics: &Metrics| metrics.sum("rendezvousd_requests_total") - checks(metrics);
    assert_eq!(others(&after), others(&before));
    // A creation is a client's wherever it is.
    let rooted = Daemon::start(&[&ADMIN[..], &["--prefix", "/"]].concat());
    assert_eq!(rooted.request("POST", "/", &[TEXT], "a").status, 201);
    assert_eq!(checks(&scrape(&rooted)), 0.0);
}

#[test]
fn outcomes_are_told_and_neither_ids_nor_addresses() {
    let daemon = Daemon::start(&ADMIN);
    let mut client = daemon.connect();
    let named = ("X-Forwarded-For", "192.0.2.77");
    let made = client.request("POST", "/rendezvous", &[TEXT, named], "secret");
    client.request("GET", made.location(), &[named], "");
    client.request("GET", "/secret/path", &[], "");
    client.request("SECRET", "/rendezvous", &[], "");
    let page = ask(&daemon, "GET", "/metrics");
    let id = made.location().rsplit('/').next().unwrap();
    for told in [id, "192.0.2", "127.0.0", "secret", "SECRET"] {
        assert!(!page.text().contains(told), "{told}");
    }
}

#[test]
fn connections_are_counted_by_what_they_wait_for() {
    let daemon = Daemon::start(&ADMIN);
    let held = |state: &str, count: f64| {
        let name = format!("rendezvousd_connections{{state=\"{state}\"}}");
        wait_until(&daemon, |metrics| metrics.get(&name) == count);
    };
    let idle = daemon.connect();
    held("idle", 1.0);
    let mut receiving = daemon.connect();
    receiving.send(b"GET / HTTP/1.1\r\n");
    held("receiving", 1.0);
    let mut lingering = daemon.connect();
    lingering.send(b"BAD\r\n\r\n");
    held("lingering", 1.0);
    // Whoever reads no answers is sent no more at some time.
    let sending = TcpStream::connect(daemon.address).unwrap();
    let mut writer = sending.try_clone().unwrap();
    let thread = thread::spawn(move || {
        while writer
            .write_all(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100))
            .is_ok()
        {}
    });
    held("sending", 1.0);
    sending.shutdown(std::net::Shutdown::Both).unwrap();
    thread.join().unwrap();
    drop((idle, receiving, lingering));
    for state in ["idle", "receiving", "lingering", "sending"] {
        held(state, 0.0);
    }
}

#[test]
fn there_is_health_and_nothing_else() {
    let daemon = Daemon::start(&ADMIN);
    assert_healthy(&daemon);
    for path in ["/health", "/metrics", "/metrics?collect=all"] {
        let whole = ask(&daemon, "GET", path);
        let head = ask(&daemon, "HEAD", path);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.field("Content-Type"), whole.field("Content-Type"));
        assert_eq!(whole.field("Cache-Control"), Some("no-store"));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "STRANGE"] {
            let refused = ask(&daemon, method, path);
            assert_eq!(refused.status, 405, "{method} {path}");
            assert_eq!(refused.field("Allow"), Some("GET, HEAD"));
        }
    }
    for path in ["/", "/metrics/", "/health/x", "*", "/rendezvous"] {
        assert_eq!(ask(&daemon, "GET", path).status, 404, "{path}");
    }
    // And none of it is to be had at the public port.
    for path in ["/health", "/metrics"] {
        assert_eq!(daemon.request("GET", path, &[], "").status, 404);
    }
}

#[test]
fn a_unix_socket_will_do() {
    let path = std::env::temp_dir().join(format!("rendezvousd-admin-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    let daemon = Daemon::start(&["--admin", &address]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    daemon.signal(Signal::TERM);
    let (lines, status) = daemon.wait();
    assert!(status.success(), "{lines:?}");
    assert!(!path.exists());
}

#[test]
fn metrics_under_load_are_well_formed_and_only_grow() {
    let daemon = Daemon::start(&ADMIN);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = daemon.connect();
                let made = client.request("POST", "/rendezvous", &[TEXT], "a");
                while !done.load(Ordering::Relaxed) {
                    client.request("GET", made.location(), &[], "");
                    daemon.request("GET", "/", &[], "");
                }
            });
        }
        let mut before = scrape(&daemon);
        for _ in 0..100 {
            let now = scrape(&daemon);
            now.assert_grown(&before);
            before = now;
        }
        done.store(true, Ordering::Relaxed);
    });
    let end = wait_until(&daemon, |metrics| {
        let timed = metrics.get("rendezvousd_request_duration_seconds_count");
        timed == metrics.sum("rendezvousd_requests_total")
    });
    assert!(end.sum("rendezvousd_requests_total") > 100.0);
}

#[test]
fn slow_and_strange_peers_delay_no_others() {
    let daemon = Daemon::start(&ADMIN);
    let mut peers = Vec::new();
    for bytes in [
        &b""[..],
        b"GET /metrics HTTP/1.1\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]
    .repeat(8)
    {
        let mut peer = TcpStream::connect(daemon.admin()).unwrap();
        peer.write_all(bytes).unwrap();
        peers.push(peer);
        assert_healthy(&daemon);
    }
    assert_eq!(scrape(&daemon).get("rendezvousd_panics_total"), 0.0);
}

#[test]
fn bodies_are_not_read_and_end_the_connection_unless_they_are_there() {
    let daemon = Daemon::start(&ADMIN);
    let connect = || Client::new(TcpStream::connect(daemon.admin()).unwrap());
    let mut kept = connect();
    for path in ["/metrics", "/health", "/metrics"] {
        assert_eq!(kept.request("GET", path, &[], "").status, 200);
    }
    for body in ["", "some"] {
        assert_eq!(kept.request("POST", "/metrics", &[], body).status, 405);
    }
    for (method, framing, status) in [
        ("GET", "Content-Length: 16777216", 200),
        ("POST", "Content-Length: 16777216", 405),
        ("POST", "Content-Length: 18446744073709551615", 405),
        ("POST", "Transfer-Encoding: chunked", 405),
        (
            "GET",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            400,
        ),
    ] {
        let mut client = connect();
        let head = format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
        client.send(head.as_bytes());
        let refused = client.answer(false).unwrap();
        assert_eq!(refused.status, status, "{method} {framing}");
        assert_eq!(refused.field("Connection"), Some("close"));
        let media_type = refused.field("Content-Type").unwrap_or_default();
        assert!(media_type.starts_with("text/plain; "), "{media_type}");
        assert!(client.is_closed());
    }
    assert_eq!(kept.request("GET", "/health", &[], "").status, 200);
}

#[test]
fn no_other_host_is_served_and_no_web_page() {
    let daemon = Daemon::start(&ADMIN);
    let mut client = Client::new(TcpStream::connect(daemon.admin()).unwrap());
    let mut ask = |fields: &str| {
        client.send(format!("GET /metrics HTTP/1.1\r\n{fields}\r\n").as_bytes());
        client.answer(false).unwrap().status
    };
    let host = format!("Host: {}\r\n", daemon.admin());
    assert_eq!(ask(&host), 200);
    assert_eq!(ask("Host: [::1]:1\r\n"), 200);
    assert_eq!(ask("Host: rebound.example\r\n"), 403);
    assert_eq!(ask(&format!("{host}Sec-Fetch-Site: none\r\n")), 200);
    assert_eq!(ask(&format!("{host}Sec-Fetch-Site: cross-site\r\n")), 403);
    assert_eq!(ask(&format!("{host}Origin: https://page.example\r\n")), 403);
    // Paths are no secret, but neither are they told to such.
    client.send(b"GET /nothing HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().status, 403);
}

/// A daemon with a watchdog at this path, and the number of its pings so far.
fn watched(path: &Path) -> (Daemon, Arc<AtomicUsize>) {
    let _ = std::fs::remove_file(path);
    let manager = UnixDatagram::bind(path).unwrap();
    let mut command = Command::new(program());
    command.args(["--listen", "127.0.0.1:0"]).args(ADMIN);
    command.env("NOTIFY_SOCKET", path);
    command.env("WATCHDOG_USEC", "600000");
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pings);
    thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok(count) = manager.recv(&mut message) {
            let ping = message[..count].starts_with(b"WATCHDOG=1");
            counted.fetch_add(usize::from(ping), Ordering::Relaxed);
        }
    });
    (Daemon::spawn(command), pings)
}

/// A number of the process, from proc_pid_status(5).
fn status(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Checks that an attack on the admin port has cost nothing: while its
/// connections are held, and with `threads` as before, so that no limit of
/// tasks can stop it.
#[track_caller]
fn assert_unharmed(daemon: &Daemon, pings: &AtomicUsize, threads: u64) {
    assert_healthy(daemon);
    let metrics = scrape(daemon);
    assert_eq!(metrics.get("rendezvousd_panics_total"), 0.0);
    assert_eq!(status(daemon, "Threads"), threads);
    let most = status(daemon, "VmHWM");
    assert!(most < 40 * 1024, "{most} KiB");
    let before = pings.load(Ordering::Relaxed);
    let end = Instant::now() + PATIENCE;
    while pings.load(Ordering::Relaxed) < before + 3 {
        assert!(Instant::now() < end, "no pings");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(daemon.request("GET", "/", &[], "").status, 404);
}

#[test]
fn aborted_bodies_and_dead_scrapers_cost_neither_memory_nor_threads_nor_pings() {
    let path = std::env::temp_dir().join(format!("rendezvousd-pings-{}", std::process::id()));
    let (daemon, pings) = watched(&path);
    let threads = status(&daemon, "Threads");
    let connect = || TcpStream::connect(daemon.admin()).unwrap();
    for (count, length) in [(40, 16 << 20), (1_100, 17_000_000)] {
        let mut held = VecDeque::new();
        let head = format!(
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        );
        for _ in 0..count {
            let mut stream = connect();
            // It may have been closed already.
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&[0; 8_192]);
            held.push_back(stream);
            if held.len() > 100 {
                held.pop_front();
            }
        }
        assert_unharmed(&daemon, &pings, threads);
    }
    for path in ["/metrics", "/health"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(500);
        let dead: Vec<TcpStream> = (0..40)
            .map(|_| {
                let mut stream = connect();
                stream.set_nonblocking(true).unwrap();
                // As much as it takes.
                let _ = stream.write(request.as_bytes());
                stream
            })
            .collect();
        assert_unharmed(&daemon, &pings, threads);
        drop(dead);
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_flood_leaves_the_public_side_its_file_descriptors() {
    let program = program();
    let flags = "--listen 127.0.0.1:0 --admin 127.0.0.1:0 --max-connections 20 --workers 2";
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n 102 && exec {program} {flags}")]);
    let daemon = Daemon::spawn(command);
    let held: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(daemon.admin()).unwrap())
        .collect();
    assert_healthy(&daemon);
    let open = scrape(&daemon).get("process_open_fds");
    assert!(open < 82.0, "{open}");
    let clients: Vec<Client> = (0..18).map(|_| daemon.connect()).collect();
    for mut client in clients {
        assert_eq!(client.request("GET", "/", &[], "").status, 404);
    }
    drop(held);
}

#[test]
fn its_memory_is_in_the_printed_sum_and_a_kept_connection_is_no_obstacle_to_a_stop() {
    let daemon = Daemon::start(&ADMIN);
    let start = daemon.start.join("\n");
    assert!(
        start.contains(", admin port 4.9 MiB, the program"),
        "{start}"
    );
    let mut kept = Client::new(TcpStream::connect(daemon.admin()).unwrap());
    assert_eq!(kept.request("GET", "/metrics", &[], "").status, 200);
    daemon.signal(Signal::TERM);
    let (lines, status) = daemon.wait();
    assert!(status.success(), "{lines:?}");
    assert!(kept.is_closed());
}
