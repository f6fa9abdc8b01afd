//! The loops of the clients in use, as their source has them: what they send,
//! what they read, what they do on 304, 404, 409 and 412. Two devices meet
//! through the real binary, directly, behind a homeserver's redirect and
//! behind a proxy that changes entity tags, with held polls and without.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rendezvousd::api::{self, Api};
use rendezvousd::client::TrustedProxies;
use rendezvousd::clock::Clock;
use rendezvousd::rate_limit::RateLimit;
use rendezvousd::reaper::Reaper;
use rendezvousd::server::{self, Listener, Server};
use rendezvousd::store::Store;

use common::{Answer, Client, Daemon, PATIENCE};
use serde_json::{Value, json};

const MSC4108: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const MSC4388: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

/// The clients poll once a second; nothing here depends on it.
const POLL: Duration = Duration::from_millis(2);

/// Why a device gave up.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// 404 with the errcode.
    NotFound,
    /// Any other status from 400 on.
    Refused(u16),
    /// 412 or 409.
    Conflict,
}

/// One request as a browser makes it from a page of another origin: with a
/// preflight when it is not simple. The origin is `null` after a redirect.
fn fetch(url: &str, method: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let rest = url.strip_prefix("http://").expect("an absolute URL");
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let connect = || Client::new(TcpStream::connect(host).unwrap());
    let origin = ("Origin", "null");
    let requested = [
        origin,
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "content-type,if-match"),
    ];
    let preflight = connect().request("OPTIONS", path, &requested, "");
    assert!((200..300).contains(&preflight.status), "{preflight:?}");
    let allowed = preflight.field("Access-Control-Allow-Methods").unwrap();
    assert!(allowed.split(", ").any(|allowed| allowed == method));
    let allowed = preflight.field("Access-Control-Allow-Headers").unwrap();
    for (name, _) in fields {
        let allows = |allowed: &str| allowed.eq_ignore_ascii_case(name);
        assert!(allowed.split(", ").any(allows), "{name} is not allowed");
    }
    let fields: Vec<_> = [origin].iter().chain(fields).copied().collect();
    let answer = connect().request(method, path, &fields, body);
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
    if answer.status == 307 {
        return fetch(answer.location(), method, &fields[1..], body);
    }
    answer
}

/// What both SDKs with entity tags do, apart from how they read answers.
#[derive(Clone, Copy, Debug)]
enum Sdk {
    /// matrix-js-sdk: takes the tag of whatever is not 404, reads payloads of
    /// exactly `text/plain`.
    Js,
    /// matrix-rust-sdk: wants the three fields on whatever is below 400, and
    /// ends at any other status.
    Rust,
}

struct Device {
    sdk: Sdk,
    url: String,
    etag: Option<String>,
}

impl Device {
    /// Creates a session as both do: empty, as `text/plain`.
    fn create(sdk: Sdk, endpoint: &str) -> Self {
        let answer = fetch(endpoint, "POST", &[("Content-Type", "text/plain")], "");
        assert_eq!(answer.status, 201);
        for name in ["ETag", "Expires", "Last-Modified"] {
            assert!(answer.field(name).is_some());
        }
        let made: Value = serde_json::from_slice(&answer.body).unwrap();
        Self {
            sdk,
            url: made["url"].as_str().unwrap().to_owned(),
            etag: Some(answer.etag().to_owned()),
        }
    }

    /// Knows the session from a QR code.
    fn scan(sdk: Sdk, url: &str) -> Self {
        Self {
            sdk,
            url: url.to_owned(),
            etag: None,
        }
    }

    fn take_state(&mut self, answer: &Answer) -> Result<(), End> {
        match (self.sdk, answer.status) {
            (_, 404) => {
                answer.assert_error(404, "M_NOT_FOUND");
                return Err(End::NotFound);
            }
            (Sdk::Rust, 412) => return Err(End::Conflict),
            (Sdk::Rust, status) if status >= 400 => return Err(End::Refused(status)),
            (Sdk::Rust, _) => {
                for name in ["Expires", "Last-Modified"] {
                    let date = answer.field(name).expect(name);
                    httpdate::parse_http_date(date).unwrap();
                }
                self.etag = Some(answer.field("ETag").expect("an ETag").to_owned());
            }
            (Sdk::Js, _) => self.etag = answer.field("ETag").map(str::to_owned),
        }
        Ok(())
    }

    /// Polls until there is something new.
    fn receive(&mut self) -> Result<String, End> {
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            let etag = self.etag.clone();
            let fields: Vec<_> = etag.iter().map(|e| ("If-None-Match", e.as_str())).collect();
            let answer = fetch(&self.url, "GET", &fields, "");
            self.take_state(&answer)?;
            if answer.status == 200 {
                assert_eq!(answer.field("Content-Type"), Some("text/plain"));
                return Ok(answer.text().to_owned());
            }
            assert_eq!(answer.status, 304);
            thread::sleep(POLL);
        }
        panic!("nothing new");
    }

    fn put(&self, data: &str) -> Answer {
        let etag = self.etag.as_deref().expect("a tag to write over");
        let fields = [("Content-Type", "text/plain"), ("If-Match", etag)];
        fetch(&self.url, "PUT", &fields, data)
    }

    fn send(&mut self, data: &str) -> Result<(), End> {
        if self.etag.is_none() {
            self.receive()?;
        }
        let answer = self.put(data);
        self.take_state(&answer)
    }
}

/// Ten messages each way; the same text both ways, so that equal payloads
/// follow each other. Each device polls while the other one writes.
fn converse(one: &mut Device, two: &mut Device) {
    let message = |number| format!("message {number}");
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..10 {
                assert_eq!(one.receive().unwrap(), message(number));
                one.send(&message(number)).unwrap();
            }
        });
        for number in 0..10 {
            two.send(&message(number)).unwrap();
            assert_eq!(two.receive().unwrap(), message(number));
        }
    });
}

fn endpoint(daemon: &Daemon, path: &str) -> String {
    format!("http://{}{path}", daemon.address)
}

/// A daemon that holds polls, as it does by default, and one that does not.
fn daemons() -> impl Iterator<Item = Daemon> {
    let hold = ["10s", "0s"];
    hold.into_iter()
        .map(|hold| Daemon::start(&["--long-poll", hold]))
}

/// Makes `url` lead to where the test reached the daemon.
fn create(sdk: Sdk, daemon: &Daemon, through: &str) -> Device {
    let mut device = Device::create(sdk, through);
    device.url = device
        .url
        .replacen("http://localhost/", &endpoint(daemon, "/"), 1);
    device
}

#[test]
fn devices_of_all_sdks_converse() {
    for daemon in daemons() {
        for path in [MSC4108, "/rendezvous"] {
            for (shows, scans) in [(Sdk::Js, Sdk::Rust), (Sdk::Rust, Sdk::Js)] {
                let mut shower = create(shows, &daemon, &endpoint(&daemon, path));
                let mut scanner = Device::scan(scans, &shower.url);
                converse(&mut shower, &mut scanner);
            }
        }
    }
}

#[test]
fn a_write_whose_answer_was_lost_leaves_both_devices_in_step() {
    for daemon in daemons() {
        for sdk in [Sdk::Js, Sdk::Rust] {
            let mut shower = create(sdk, &daemon, &endpoint(&daemon, MSC4108));
            let mut scanner = Device::scan(sdk, &shower.url);
            scanner.receive().unwrap();
            // The write arrives, its answer does not, and what is below the SDK
            // writes again: a 412 would end matrix-rust-sdk's sign-in.
            assert_eq!(scanner.put("once").status, 202);
            let again = scanner.put("once");
            assert_eq!(again.status, 202);
            scanner.take_state(&again).unwrap();
            assert_eq!(shower.receive().unwrap(), "once");
            shower.send("thanks").unwrap();
            assert_eq!(scanner.receive().unwrap(), "thanks");
        }
    }
}

#[test]
fn a_stale_write_is_a_conflict_and_changes_nothing() {
    for daemon in daemons() {
        let mut shower = create(Sdk::Rust, &daemon, &endpoint(&daemon, MSC4108));
        let mut scanner = Device::scan(Sdk::Rust, &shower.url);
        scanner.send("first").unwrap();
        assert_eq!(shower.send("over an old tag"), Err(End::Conflict));
        assert_eq!(shower.receive().unwrap(), "first");
        shower.send("second").unwrap();
    }
}

#[test]
fn a_cancel_ends_the_other_device_with_not_found() {
    for daemon in daemons() {
        for sdk in [Sdk::Js, Sdk::Rust] {
            let mut shower = create(sdk, &daemon, &endpoint(&daemon, MSC4108));
            let scanner = Device::scan(sdk, &shower.url);
            assert_eq!(fetch(&scanner.url, "DELETE", &[], "").status, 204);
            assert_eq!(shower.receive(), Err(End::NotFound));
            assert_eq!(shower.send("x"), Err(End::NotFound));
        }
    }
}

/// `--sign-in-ttl` allows no less than two minutes, so this server runs inside
/// the test, with the same parts and a shorter life of sessions.
#[test]
fn an_expiry_ends_both_devices_with_not_found() {
    let store = Arc::new(Store::new(NonZeroUsize::new(10).unwrap()));
    let nobody = TrustedProxies::default();
    let settings = api::Settings {
        prefix: "/rendezvous".into(),
        public_url: None,
        node: None,
        trusted_proxies: nobody.clone(),
        ttl: Duration::from_secs(60),
        sign_in_ttl: Duration::from_millis(500),
        long_poll: Duration::from_secs(10),
        max_bytes: 4096,
        rate_limit: RateLimit { rate: 1, burst: 10 },
        check_page: false,
    };
    let reaper = Reaper::start(Arc::clone(&store), Clock).unwrap();
    let api = Arc::new(Api::new(store, Clock, settings));
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("{}{MSC4108}", listener.address());
    let settings = server::Settings {
        workers: 1,
        max_connections: 10,
        trusted_proxies: nobody,
        largest_body: 4096,
        deadlines: server::Deadlines::default(),
    };
    let server = Server::start(vec![listener], &settings, api, Arc::default()).unwrap();
    let started = Instant::now();
    let mut shower = Device::create(Sdk::Rust, &url);
    shower.url = url.replace(MSC4108, "") + shower.url.trim_start_matches("http://localhost");
    let mut scanner = Device::scan(Sdk::Js, &shower.url);
    scanner.send("a write does not prolong it").unwrap();
    shower.receive().unwrap();
    assert_eq!(shower.receive(), Err(End::NotFound));
    // Ends are counted in whole milliseconds.
    assert!(started.elapsed() >= Duration::from_millis(499));
    assert_eq!(scanner.receive(), Err(End::NotFound));
    assert_eq!(scanner.send("x"), Err(End::NotFound));
    server.stop();
    reaper.stop();
}

/// Serves `answer` for each connection until the test ends.
fn serve(answer: impl Fn(&str, &str, String) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve_once(stream, &*answer));
        }
    });
    address
}

fn serve_once(stream: TcpStream, answer: &impl Fn(&str, &str, String) -> Vec<u8>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap_or(0) > 0 {}
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("Content-Length"))
        .map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let method = head.split(' ').next().unwrap();
    let body = String::from_utf8(body).unwrap();
    let _ = stream.get_mut().write_all(&answer(method, &head, body));
}

#[test]
fn devices_converse_after_a_homeservers_redirect() {
    for daemon in daemons() {
        let target = endpoint(&daemon, "/rendezvous");
        // As Synapse has it: only the create is redirected.
        let homeserver = serve(move |method, _, _| {
            let cors = "Access-Control-Allow-Origin: *\r\n\
                    Access-Control-Allow-Methods: GET, POST, PUT, DELETE\r\n\
                    Access-Control-Allow-Headers: Content-Type, Authorization\r\n\
                    Connection: close\r\nContent-Length: 0\r\n";
            let answer = match method {
                "OPTIONS" => format!("HTTP/1.1 200 OK\r\n{cors}\r\n"),
                _ => format!("HTTP/1.1 307 Temporary Redirect\r\n{cors}Location: {target}\r\n\r\n"),
            };
            answer.into_bytes()
        });
        for (shows, scans) in [(Sdk::Js, Sdk::Rust), (Sdk::Rust, Sdk::Js)] {
            let mut shower = create(shows, &daemon, &format!("http://{homeserver}{MSC4108}"));
            assert!(shower.url.starts_with(&endpoint(&daemon, "/rendezvous/")));
            let mut scanner = Device::scan(scans, &shower.url);
            converse(&mut shower, &mut scanner);
        }
    }
}

#[test]
fn devices_converse_through_proxies_that_change_entity_tags() {
    for change in [
        "W/\"TAG\"",
        "\"TAG-gzip\"",
        "W/\"TAG-br\"",
        "\"TAG;gzip\"",
        "\"TAG--gzip\"",
    ] {
        for daemon in daemons() {
            let backend = daemon.address;
            let proxy = serve(move |method, head, body| {
                let mut client = Client::new(TcpStream::connect(backend).unwrap());
                client.send(format!("{head}{body}").as_bytes());
                let answer = client.answer(method == "HEAD").unwrap();
                let mut bytes = format!("HTTP/1.1 {} X\r\n", answer.status);
                for (name, value) in &answer.fields {
                    let changed = change.replace("TAG", value.trim_matches('"'));
                    let value = if name == "ETag" { &changed } else { value };
                    bytes.push_str(&format!("{name}: {value}\r\n"));
                }
                bytes.push_str("\r\n");
                [bytes.as_bytes(), &answer.body].concat()
            });
            let mut shower = Device::create(Sdk::Js, &format!("http://{proxy}{MSC4108}"));
            shower.url = shower.url.replacen("localhost", &proxy.to_string(), 1);
            assert!(
                shower.etag.as_deref().unwrap().len() > 18,
                "the proxy works"
            );
            let mut scanner = Device::scan(Sdk::Rust, &shower.url);
            converse(&mut shower, &mut scanner);
        }
    }
}

/// A device of MSC4388: sequence token and data, a transaction a write.
struct Sequenced {
    url: String,
    token: String,
    writes: usize,
    name: &'static str,
}

impl Sequenced {
    fn put(&self, data: &str) -> Answer {
        let url = format!("{}/{}.{}", self.url, self.name, self.writes);
        let body = json!({ "sequence_token": self.token, "data": data });
        fetch(
            &url,
            "PUT",
            &[("Content-Type", "application/json")],
            &body.to_string(),
        )
    }

    /// Writes; when `lost`, the first answer never comes and the same request
    /// is made again.
    fn send(&mut self, data: &str, lost: bool) -> Result<(), End> {
        self.writes += 1;
        if lost {
            self.put(data);
        }
        let answer = self.put(data);
        match answer.status {
            200 => {
                let value: Value = serde_json::from_slice(&answer.body).unwrap();
                self.token = value["sequence_token"].as_str().unwrap().to_owned();
                Ok(())
            }
            409 => {
                answer.assert_error(409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE");
                Err(End::Conflict)
            }
            404 => {
                answer.assert_error(404, "M_NOT_FOUND");
                Err(End::NotFound)
            }
            status => Err(End::Refused(status)),
        }
    }

    fn receive(&mut self) -> Result<String, End> {
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            let answer = fetch(&self.url, "GET", &[], "");
            if answer.status == 404 {
                answer.assert_error(404, "M_NOT_FOUND");
                return Err(End::NotFound);
            }
            let value: Value = serde_json::from_slice(&answer.body).unwrap();
            if value["sequence_token"] != self.token.as_str() {
                self.token = value["sequence_token"].as_str().unwrap().to_owned();
                return Ok(value["data"].as_str().unwrap().to_owned());
            }
            thread::sleep(POLL);
        }
        panic!("nothing new");
    }
}

#[test]
fn msc4388_devices_converse_retry_conflict_and_cancel() {
    let daemon = Daemon::start(&[]);
    let discovered = fetch(&endpoint(&daemon, MSC4388), "GET", &[], "");
    assert!(discovered.text().contains("\"create_available\":true"));
    let fields = [("Content-Type", "application/json")];
    let answer = fetch(
        &endpoint(&daemon, MSC4388),
        "POST",
        &fields,
        r#"{"data":""}"#,
    );
    let made: Value = serde_json::from_slice(&answer.body).unwrap();
    let id = made["id"].as_str().unwrap();
    let device = |name| Sequenced {
        url: endpoint(&daemon, &format!("{MSC4388}/{id}")),
        token: made["sequence_token"].as_str().unwrap().to_owned(),
        writes: 0,
        name,
    };
    let (mut one, mut two) = (device("one"), device("two"));
    for number in 0..10 {
        let message = format!("message {number}");
        two.send(&message, number % 2 == 0).unwrap();
        assert_eq!(one.receive().unwrap(), message);
        one.send(&message, number % 3 == 0).unwrap();
        assert_eq!(two.receive().unwrap(), message);
    }
    two.send("first", false).unwrap();
    assert_eq!(one.send("over an old token", true), Err(End::Conflict));
    assert_eq!(one.receive().unwrap(), "first");
    assert_eq!(fetch(&two.url, "DELETE", &[], "").status, 200);
    assert_eq!(one.receive(), Err(End::NotFound));
    assert_eq!(one.send("x", false), Err(End::NotFound));
}
