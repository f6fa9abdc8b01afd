//! Several nodes behind a load balancer: `--node`.

mod common;
#[path = "common/metrics.rs"]
mod metrics;

use common::{Answer, CREATIONS, Daemon};
use metrics::Metrics;
use rendezvousd::api::{MSC4388_PATH, STABLE_PATH};
use rustix::process::Signal;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A node, or a server without a name.
fn start(name: &str) -> Daemon {
    let flags = ["--admin", "127.0.0.1:0", "--node", name];
    Daemon::start(&flags[..if name.is_empty() { 2 } else { 4 }])
}

/// Where a session is that was just made, from all that the answer says of it.
fn path_of(create_path: &str, made: &Answer) -> String {
    let mut paths = Vec::new();
    if let Some(location) = made.field("Location") {
        paths.push(location.to_owned());
    }
    if made.text().starts_with('{') {
        let body: serde_json::Value = serde_json::from_slice(&made.body).unwrap();
        let url = body["url"].as_str().map(str::to_owned);
        paths.extend(url.map(|url| url.replacen("http://localhost", "", 1)));
        let id = body["id"].as_str();
        paths.extend(id.map(|id| format!("{create_path}/{id}")));
    }
    paths.dedup();
    assert_eq!(paths.len(), 1, "{made:?}");
    paths.remove(0)
}

fn create(daemon: &Daemon, index: usize) -> String {
    let (path, field, body) = CREATIONS[index];
    let made = daemon.request("POST", path, &[field], body);
    assert!([200, 201].contains(&made.status), "{made:?}");
    path_of(path, &made)
}

fn id(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn foreign_sessions(daemon: &Daemon) -> f64 {
    let page = daemon.ask_admin("GET", "/metrics");
    Metrics::read(page.text()).get("rendezvousd_foreign_sessions_total")
}

/// Everything that a client does to a session.
fn uses(daemon: &Daemon, path: &str) -> Vec<Answer> {
    let tag = ("If-Match", "\"0123456789abcdef\"");
    let write = r#"{"sequence_token":"0","data":"second"}"#;
    let mut answers = vec![
        daemon.request("GET", path, &[], ""),
        daemon.request("PUT", path, &[JSON, tag], write),
        daemon.request("DELETE", path, &[], ""),
    ];
    if path.starts_with(MSC4388_PATH) || path.starts_with(STABLE_PATH) {
        let transaction = format!("{path}/t1");
        answers.push(daemon.request("PUT", &transaction, &[JSON], write));
    }
    answers
}

/// What is logged until the end.
fn stop(daemon: Daemon) -> Vec<String> {
    daemon.signal(Signal::TERM);
    let (lines, status) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{lines:?}");
    lines
}

#[test]
fn ids_of_every_protocol_begin_with_the_name_of_the_node() {
    for name in ["a", "0", "node1", "z9z9z9z9"] {
        let node = start(name);
        for (index, (create_path, ..)) in CREATIONS.into_iter().enumerate() {
            let path = create(&node, index);
            assert!(path.starts_with(create_path), "{path}");
            let (named, random) = id(&path).split_once('.').unwrap();
            assert_eq!((named, random.len()), (name, 22), "{path}");
            // The opaque identifier grammar of the Matrix specification.
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            assert!(random.bytes().all(legal), "{path}");
            let read = node.request("GET", &path, &[], "");
            assert_eq!(read.status, 200, "{path}");
            assert!(read.text().contains("first"));
        }
        assert_eq!(foreign_sessions(&node), 0.0);
    }
}

#[test]
fn without_a_name_ids_have_none_and_a_dot_is_in_no_id() {
    let server = start("");
    for index in 0..CREATIONS.len() {
        let path = create(&server, index);
        let id = id(&path);
        assert_eq!((id.len(), id.contains('.')), (22, false), "{path}");
        assert_eq!(server.request("GET", &path, &[], "").status, 200);
        let named = path.replace(id, &format!("a.{id}"));
        for answer in uses(&server, &named) {
            answer.assert_error(404, "M_NOT_FOUND");
            assert!(!answer.text().contains("another node"), "{answer:?}");
        }
    }
    assert_eq!(foreign_sessions(&server), 0.0);
    assert!(stop(server).iter().all(|line| !line.contains(" WARN ")));
}

#[test]
fn sessions_of_other_nodes_are_not_found_and_counted() {
    let servers = ["a", "b", ""].map(start);
    let [a, b, unnamed] = &servers;
    let mut asked = 0.0;
    for index in 0..CREATIONS.len() {
        let ours = create(a, index);
        for other in [b, unnamed].map(|server| create(server, index)) {
            for answer in uses(a, &other) {
                answer.assert_error(404, "M_NOT_FOUND");
                // The check page looks for this.
                assert!(answer.text().contains("another node"), "{answer:?}");
                asked += 1.0;
            }
            // Whatever else would be wrong with the request.
            for (method, field) in [
                ("HEAD", ("X", "x")),
                ("POST", ("X", "x")),
                ("PUT", ("Content-Encoding", "gzip")),
                ("GET", ("Sec-Fetch-Mode", "navigate")),
            ] {
                assert_eq!(a.request(method, &other, &[field], "").status, 404);
                asked += 1.0;
            }
            assert_eq!(a.request("OPTIONS", &other, &[], "").status, 204);
        }
        // The same random part under another name, or under none.
        let random = id(&ours).strip_prefix("a.").unwrap();
        for name in ["b.", "aa.", ""] {
            let other = ours.replace(id(&ours), &format!("{name}{random}"));
            a.request("GET", &other, &[], "")
                .assert_error(404, "M_NOT_FOUND");
            asked += 1.0;
        }
        assert_eq!(a.request("GET", &ours, &[], "").status, 200);
    }
    assert_eq!(foreign_sessions(a), asked);
    assert_eq!(foreign_sessions(b), 0.0);
}

#[test]
fn what_is_no_id_of_any_node_is_not_counted() {
    let node = start("a");
    let ours = create(&node, 0);
    let random = id(&ours).strip_prefix("a.").unwrap();
    node.request("DELETE", &ours, &[], "");
    for name in [
        id(&ours),
        "b.",
        "b",
        "favicon.ico",
        "b.x",
        &format!(".{random}"),
        &format!("a..{random}"),
        &format!("a.b.{random}"),
        &format!("B.{random}"),
        &format!("a%2e{random}"),
        &format!("abcdefghi.{random}"),
        &format!("b.{random}x"),
        &format!("b.{}", &random[1..]),
        &format!("b.{}!", &random[1..]),
    ] {
        let path = format!("/rendezvous/{name}");
        let answer = node.request("GET", &path, &[], "");
        answer.assert_error(404, "M_NOT_FOUND");
        assert!(!answer.text().contains("another node"), "{answer:?}");
        assert_eq!(foreign_sessions(&node), 0.0, "{name}");
    }
}

#[test]
fn a_flood_for_other_nodes_is_one_line_without_an_id() {
    let node = start("a");
    let mut client = node.connect();
    let paths = ["b.", "c.", ""].map(|name| format!("/rendezvous/{name}{}", "w".repeat(21)));
    for number in 0..3_000 {
        let path = format!("{}{}", paths[number % 3], ["A", "Q", "g", "w"][number % 4]);
        assert_eq!(client.request("GET", &path, &[], "").status, 404);
    }
    assert_eq!(foreign_sessions(&node), 3_000.0);
    let lines = stop(node);
    let is_said = |line: &&String| line.contains("requests for sessions of other nodes");
    let said: Vec<&String> = lines.iter().filter(is_said).collect();
    assert_eq!(said.len(), 1, "{lines:?}");
    assert!(
        said[0].contains(" WARN  refused in the last minute: 3000 requests for"),
        "{said:?}"
    );
    assert!(!lines.iter().any(|line| line.contains("wwww")), "{lines:?}");
}
