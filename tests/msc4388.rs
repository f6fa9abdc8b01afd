//! MSC4388, clause by clause, against the real binary: the newest text with
//! transactions and the older one without.

mod common;

use common::{Answer, Client, Daemon};
use serde_json::{Value, json};

const STABLE: &str = "/_matrix/client/v1/rendezvous";
const UNSTABLE: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

fn value(answer: &Answer) -> Value {
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// A session's path and what creating it answered.
fn create(client: &mut Client, base: &str, data: &str) -> (String, Value) {
    let answer = client.request("POST", base, &[], &json!({ "data": data }).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    let made = value(&answer);
    let id = made["id"].as_str().unwrap();
    (format!("{base}/{id}"), made)
}

fn write(client: &mut Client, path: &str, token: &str, data: &str) -> Answer {
    let body = json!({ "sequence_token": token, "data": data });
    client.request("PUT", path, &[], &body.to_string())
}

fn written(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    value(answer)
}

#[test]
fn get_of_the_create_path_discovers() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    for base in [STABLE, UNSTABLE] {
        let answer = client.request("GET", base, &[], "");
        assert_eq!(answer.status, 200);
        assert_eq!(value(&answer), json!({ "create_available": true }));
    }
}

#[test]
fn a_session_is_created_read_written_and_deleted() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    for base in [STABLE, UNSTABLE] {
        let data = "\"quotes\" \\ é\u{1f600}\n\u{1}";
        let (path, made) = create(&mut client, base, data);
        assert_eq!(made["id"].as_str().unwrap().len(), 22);
        assert_eq!(made["sequence_token"], "0");
        let left = made["expires_in_ms"].as_u64().unwrap();
        assert!((299_000..=300_000).contains(&left), "{left}");

        let read = value(&client.request("GET", &path, &[], ""));
        assert_eq!(
            (&read["data"], &read["sequence_token"]),
            (&json!(data), &json!("0"))
        );
        assert!(read["expires_in_ms"].as_u64().unwrap() <= left);

        let answer = written(&write(&mut client, &path, "0", "two"));
        assert_eq!(answer, json!({ "sequence_token": "1" }));
        let read = value(&client.request("GET", &path, &[], ""));
        assert_eq!(
            (&read["data"], &read["sequence_token"]),
            (&json!("two"), &json!("1"))
        );

        let gone = client.request("DELETE", &path, &[], "");
        assert_eq!((gone.status, value(&gone)), (200, json!({})));
        for method in ["DELETE", "GET"] {
            let again = client.request(method, &path, &[], "");
            again.assert_error(404, "M_NOT_FOUND");
        }
        write(&mut client, &path, "1", "x").assert_error(404, "M_NOT_FOUND");
    }
}

#[test]
fn a_stale_token_is_409_by_the_name_of_its_path() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let codes = ["M_CONCURRENT_WRITE", "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"];
    for (base, code) in [STABLE, UNSTABLE].into_iter().zip(codes) {
        let (path, _) = create(&mut client, base, "one");
        written(&write(&mut client, &path, "0", "two"));
        for (place, token) in [("", "0"), ("", "7"), ("", "x"), ("/t1", "0"), ("/t2", "00")] {
            let path = format!("{path}{place}");
            write(&mut client, &path, token, "three").assert_error(409, code);
        }
        let read = value(&client.request("GET", &path, &[], ""));
        assert_eq!(read["data"], "two");
    }
}

#[test]
fn the_answer_to_a_transaction_is_replayed_409_included() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, STABLE, "one");
    let transaction = |name: &str| format!("{path}/{name}");
    let first = written(&write(&mut client, &transaction("a"), "0", "two"));
    written(&write(&mut client, &transaction("b"), "1", "three"));
    write(&mut client, &transaction("c"), "1", "four").assert_error(409, "M_CONCURRENT_WRITE");
    for data in ["two", "something else"] {
        let again = written(&write(&mut client, &transaction("a"), "0", data));
        assert_eq!(again, first);
        let late = write(&mut client, &transaction("c"), "2", data);
        late.assert_error(409, "M_CONCURRENT_WRITE");
    }
    // "without evaluating anything again", the body included.
    let again = client.request("PUT", &transaction("a"), &[], "nonsense");
    assert_eq!(written(&again), first);
    let read = value(&client.request("GET", &path, &[], ""));
    assert_eq!(
        (&read["data"], &read["sequence_token"]),
        (&json!("three"), &json!("2"))
    );
}

#[test]
fn the_older_text_knows_a_repeated_write_by_its_data() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, UNSTABLE, "one");
    for _ in 0..3 {
        let answer = written(&write(&mut client, &path, "0", "two"));
        assert_eq!(answer, json!({ "sequence_token": "1" }));
    }
}

#[test]
fn sixty_four_transactions_a_session_and_then_429() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, STABLE, "");
    for number in 0..64 {
        let token = number.to_string();
        written(&write(
            &mut client,
            &format!("{path}/t{number}"),
            &token,
            "x",
        ));
    }
    let more = write(&mut client, &format!("{path}/more"), "64", "y");
    more.assert_error(429, "M_LIMIT_EXCEEDED");
    written(&write(&mut client, &format!("{path}/t0"), "0", "x"));
    written(&write(&mut client, &path, "64", "y"));
}

#[test]
fn transaction_ids_are_opaque_identifiers() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, STABLE, "");
    for bad in ["", "a%20b", "a+b", &"x".repeat(256)] {
        let answer = write(&mut client, &format!("{path}/{bad}"), "0", "x");
        answer.assert_error(400, "M_INVALID_PARAM");
    }
    let longest = format!("{path}/{}", "x".repeat(255));
    written(&write(&mut client, &longest, "0", "x"));
    for method in ["GET", "DELETE", "POST"] {
        let answer = client.request(method, &longest, &[], "");
        answer.assert_error(405, "M_UNRECOGNIZED");
    }
}

#[test]
fn bad_bodies_are_400_and_the_connection_stays_in_step() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, STABLE, "one");
    let brackets = "[".repeat(26 * 1024);
    for (body, code) in [
        ("", "M_NOT_JSON"),
        (&brackets[..], "M_NOT_JSON"),
        (r#"{"data":"\ud800"}"#, "M_BAD_JSON"),
        ("{\"data\":\"\0\"}", "M_NOT_JSON"),
        (r#"["data"]"#, "M_BAD_JSON"),
        (
            r#"{"data":"a","data":"b","sequence_token":"0"}"#,
            "M_BAD_JSON",
        ),
        (r#"{"data":null,"sequence_token":"0"}"#, "M_BAD_JSON"),
        (r#"{"sequence_token":"0"}"#, "M_BAD_JSON"),
    ] {
        for (method, path) in [("POST", STABLE), ("PUT", path.as_str())] {
            let answer = client.request(method, path, &[], body);
            answer.assert_error(400, code);
        }
    }
}

#[test]
fn data_is_any_json_string_u_0000_included() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let data = "a\0\u{1f}\"b\u{1f600}";
    let (path, _) = create(&mut client, STABLE, data);
    let read = client.request("GET", &path, &[], "");
    assert!(read.text().contains(r"a\u0000\u001f"), "{}", read.text());
    assert_eq!(value(&read)["data"], data);
}

#[test]
fn a_write_to_no_session_is_404_whatever_its_body() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, STABLE, "one");
    assert_eq!(client.request("DELETE", &path, &[], "").status, 200);
    for path in [
        path.as_str(),
        &format!("{STABLE}/x"),
        &format!("{STABLE}/x/t"),
    ] {
        for body in ["", "[", "{}", r#"{"data":"a","sequence_token":"0"}"#] {
            let answer = client.request("PUT", path, &[], body);
            answer.assert_error(404, "M_NOT_FOUND");
        }
    }
}

#[test]
fn the_limit_is_4096_bytes_of_utf_8_however_they_are_escaped() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let escaped = format!(r#"{{"data":"{}"}}"#, r"\u0061".repeat(4096));
    assert!(escaped.len() > 24_000);
    let answer = client.request("POST", STABLE, &[], &escaped);
    assert_eq!(answer.status, 200);
    for data in ["a".repeat(4097), "é".repeat(2049)] {
        let answer = client.request("POST", STABLE, &[], &json!({ "data": data }).to_string());
        answer.assert_error(413, "M_TOO_LARGE");
        assert_eq!(answer.field("Connection"), None);
    }
    let answer = client.request("POST", STABLE, &[], &"x".repeat(26 * 1024 + 1));
    answer.assert_error(413, "M_TOO_LARGE");
    assert_eq!(answer.field("Connection"), Some("close"));
}

#[test]
fn a_payload_is_not_shown_as_a_page_and_preflights_pass() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, STABLE, "one");
    for (name, value) in [
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-User", "?1"),
        ("Sec-Fetch-Site", "none"),
    ] {
        let answer = client.request("GET", &path, &[(name, value)], "");
        answer.assert_error(403, "M_FORBIDDEN");
    }
    for path in [STABLE, &path, &format!("{path}/t")] {
        let answer = client.request("OPTIONS", path, &[("Origin", "null")], "");
        assert_eq!(answer.status, 204);
        assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
    }
}

#[test]
fn a_sequenced_session_is_not_found_by_the_tagged_family() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    let (path, _) = create(&mut client, STABLE, "one");
    let id = path.rsplit('/').next().unwrap();
    let other = format!("/rendezvous/{id}");
    for method in ["GET", "DELETE"] {
        let answer = client.request(method, &other, &[], "");
        answer.assert_error(404, "M_NOT_FOUND");
    }
    let fields = [("If-Match", "\"0000000000000000\"")];
    let answer = client.request("PUT", &other, &fields, "x");
    answer.assert_error(404, "M_NOT_FOUND");
}
