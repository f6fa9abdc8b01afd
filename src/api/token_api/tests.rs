use super::*;
use crate::api::BODY_LIMIT;
use crate::http::Persistence;

/// What becomes of a write's body: its token and data, or the errcode.
fn read(body: &[u8]) -> Result<(String, String), String> {
    parse_object::<WriteBody<'_>>(body)
        .and_then(|write| {
            content(&write.data)?;
            Ok((write.sequence_token.into(), write.data.into()))
        })
        .map_err(|response| {
            let mut out = Vec::new();
            response.write(false, Persistence::KeepAlive, "", &mut out);
            let text = String::from_utf8(out).unwrap();
            let code = text.split(r#""errcode":""#).nth(1).unwrap();
            code.split('"').next().unwrap().to_owned()
        })
}

#[test]
fn bodies_are_objects_with_the_keys_and_maybe_more() {
    let body = br#" {"x": [1, {"data": 2}], "data": "a\u00e9\n", "sequence_token": "0"} "#;
    assert_eq!(read(body), Ok(("0".into(), "aé\n".into())));
}

#[test]
fn what_is_json_and_not_the_object_is_bad_json() {
    for body in [
        r#"{}"#,
        r#"[]"#,
        r#"["0", "a"]"#,
        r#""a""#,
        r#"null"#,
        r#"{"data": "a"}"#,
        r#"{"sequence_token": "0"}"#,
        r#"{"sequence_token": "0", "data": null}"#,
        r#"{"sequence_token": 0, "data": "a"}"#,
        r#"{"sequence_token": "0", "data": ["a"]}"#,
        r#"{"sequence_token": "0", "data": "a", "data": "b"}"#,
        r#"{"sequence_token": "0", "data": "a", "x": [], "data": "a"}"#,
        r#" ["0", "a"] "#,
        // An escape without its other half is JSON, but no text.
        r#"{"sequence_token": "0", "data": "\ud800"}"#,
        r#"{"sequence_token": "0", "data": "\udc00\ud800"}"#,
    ] {
        assert_eq!(read(body.as_bytes()), Err("M_BAD_JSON".into()), "{body}");
    }
}

#[test]
fn u_0000_is_text_like_any_other() {
    let body = r#"{"sequence_token": "0", "data": "a\u0000b"}"#;
    assert_eq!(read(body.as_bytes()), Ok(("0".into(), "a\0b".into())));
}

#[test]
fn skipped_values_are_of_any_size_depth_and_text() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for value in ["-0", "1e999", "18446744073709551616", "null", r#""\ud800""#]
        .map(String::from)
        .into_iter()
        .chain([deep(128), deep(10_000), r#"{"a":{"b":[{}]},"a":1}"#.into()])
    {
        let body = format!(r#"{{"x": {value}, "sequence_token": "0", "data": "a"}}"#);
        let expected = Ok(("0".into(), "a".into()));
        assert_eq!(read(body.as_bytes()), expected, "{value:.40}");
    }
}

#[test]
fn skipped_values_are_checked() {
    for value in [
        "01",
        "-",
        "1.",
        ".5",
        "+1",
        "NaN",
        "truth",
        "nul",
        r#""\u12""#,
        r#""\q""#,
        "\"\t\"",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[]]",
        "[[]",
        r#"{"a"}"#,
        r#"{"a":1,}"#,
        "{1:2}",
        "",
    ] {
        let body = format!(r#"{{"x": {value}, "sequence_token": "0", "data": "a"}}"#);
        assert_eq!(read(body.as_bytes()), Err("M_NOT_JSON".into()), "{value}");
    }
}

#[test]
fn what_is_not_json_is_not_json() {
    let brackets = "[".repeat(BODY_LIMIT);
    let nested = format!(r#"{{"x": {}"#, "[".repeat(20_000));
    let objects = r#"{"x":"#.repeat(5_000);
    for body in [
        "",
        " ",
        "{",
        "}",
        "data=a",
        "'a'",
        &brackets,
        &nested,
        &objects,
        r#"{"sequence_token": "0", "data": "a"} x"#,
        r#"{"sequence_token": "0", "data": null"#,
        r#"{"data": 1,,,,"#,
        r#"{"sequence_token": "0", "data": "\q"}"#,
        "{\"sequence_token\": \"0\", \"data\": \"\0\"}",
        "{\"sequence_token\": \"0\", \"data\": \"\n\"}",
    ] {
        let shown = &body[..body.len().min(60)];
        assert_eq!(read(body.as_bytes()), Err("M_NOT_JSON".into()), "{shown}");
    }
    for invalid in [
        &b"{\"sequence_token\": \"0\", \"data\": \"\xff\"}"[..],
        b"{\"sequence_token\": \"0\", \"data\": \"a\", \"x\": \"\xff\"}",
    ] {
        assert_eq!(read(invalid), Err("M_NOT_JSON".into()));
    }
}

#[test]
fn the_limit_is_of_bytes_after_unescaping() {
    let body = |data: &str| format!(r#"{{"sequence_token": "0", "data": "{data}"}}"#);
    let escaped = body(&r"\u0061".repeat(4096));
    assert!(escaped.len() <= BODY_LIMIT);
    assert_eq!(read(escaped.as_bytes()).unwrap().1, "a".repeat(4096));
    assert!(read(body(&"é".repeat(2048)).as_bytes()).is_ok());
    for large in [body(&"a".repeat(4097)), body(&"é".repeat(2049))] {
        assert_eq!(read(large.as_bytes()), Err("M_TOO_LARGE".into()));
    }
}

#[test]
fn tokens_are_those_we_write() {
    assert_eq!(expected_revision("0"), Some(Revision::new(0)));
    assert_eq!(expected_revision("17"), Some(Revision::new(17)));
    for text in [
        "",
        "01",
        "+1",
        "-1",
        " 1",
        "1.0",
        "x",
        "18446744073709551616",
    ] {
        assert_eq!(expected_revision(text), None, "{text:?}");
    }
}

#[test]
fn transaction_ids_follow_the_grammar() {
    for good in ["a", "m1700000000.1", "A-Z_a~z.0", &"x".repeat(255)] {
        assert!(is_opaque(good), "{good}");
    }
    for bad in ["", "a b", "a%20b", "é", "a/b", "a+b", &"x".repeat(256)] {
        assert!(!is_opaque(bad), "{bad}");
    }
}
