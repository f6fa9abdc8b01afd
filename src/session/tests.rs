use std::time::Duration;

use crate::clock::{Timestamp, millis};
use crate::protocol::Protocol;
use crate::session::{Content, NodeName, PublicId, Revision, Session, SessionId};

fn at(monotonic_ms: u64) -> Timestamp {
    Timestamp {
        monotonic_ms,
        unix_ms: 0,
    }
}

fn content(text: &str) -> Content {
    Content::new(text.as_bytes(), "text/plain").unwrap()
}

/// A session of content `a`.
fn session(first: u64, protocol: Protocol, lifetime: u64, created: u64) -> Session {
    let first = Revision::new(first);
    let lifetime = Duration::from_secs(lifetime);
    Session::new(content("a"), first, protocol, lifetime, at(created))
}

#[test]
fn ids_are_22_characters_of_base64url_and_read_back() {
    let id = SessionId::new([0xfb; 16]);
    let text = id.to_string();
    assert_eq!(text, "-_v7-_v7-_v7-_v7-_v7-w");
    assert_eq!(SessionId::parse(&text), Some(id));
}

#[test]
fn what_display_does_not_write_is_no_id() {
    for text in [
        "",
        "-_v7-_v7-_v7-_v7-_v7-",
        "-_v7-_v7-_v7-_v7-_v7-wA",
        "-_v7-_v7-_v7-_v7-_v7-x", // bits beyond the 128th
        "-_v7-_v7-_v7-_v7-_v7+w",
        "-_v7-_v7-_v7-_v7-_v7==",
        "-_v7-_v7-_v7-_v7-_v7é",
    ] {
        assert_eq!(SessionId::parse(text), None, "{text:?}");
    }
}

#[test]
fn the_id_that_clients_see_begins_with_the_name_of_the_node() {
    let id = SessionId::new([0xfb; 16]);
    for (name, text) in [
        (None, "-_v7-_v7-_v7-_v7-_v7-w"),
        (Some("a"), "a.-_v7-_v7-_v7-_v7-_v7-w"),
        (Some("node1234"), "node1234.-_v7-_v7-_v7-_v7-_v7-w"),
    ] {
        let node = name.map(|name| name.parse().unwrap());
        let public = PublicId { node, id };
        assert_eq!(public.to_string(), text);
        assert_eq!(PublicId::parse(text), Some(public));
    }
    for text in [
        "",
        ".",
        "a.",
        ".-_v7-_v7-_v7-_v7-_v7-w",
        "A.-_v7-_v7-_v7-_v7-_v7-w",
        "a.b.-_v7-_v7-_v7-_v7-_v7-w",
        "123456789.-_v7-_v7-_v7-_v7-_v7-w",
        "a.-_v7-_v7-_v7-_v7-_v7-",
        "a.-_v7-_v7-_v7-_v7-_v7-x",
        "a-_v7-_v7-_v7-_v7-_v7-w",
    ] {
        assert_eq!(PublicId::parse(text), None, "{text:?}");
    }
}

#[test]
fn names_of_nodes_are_small_letters_and_digits_and_read_back() {
    for text in ["a", "0", "node1234", "zzzzzzzz"] {
        let name: NodeName = text.parse().unwrap();
        assert_eq!(name.to_string(), text);
        assert_eq!(NodeName::from_padded(name.padded()), Some(name));
    }
    for text in ["", "A", "a.b", "a-b", "a b", "ä", "123456789", "a\0", "\0a"] {
        assert!(text.parse::<NodeName>().is_err(), "{text:?}");
    }
    for padded in [
        b"\0\0\0\0\0\0\0\0",
        b"a\0b\0\0\0\0\0",
        b"\xff\0\0\0\0\0\0\0",
    ] {
        assert_eq!(NodeName::from_padded(*padded), None, "{padded:?}");
    }
}

#[test]
fn revisions_are_16_hex_digits_and_read_back() {
    let revision = Revision::new(0x0123_4567_89ab_cdef);
    assert_eq!(revision.to_string(), "0123456789abcdef");
    assert_eq!(Revision::parse("0123456789abcdef"), Some(revision));
    for text in ["", "123", "0123456789ABCDEF", "+123456789abcdef"] {
        assert_eq!(Revision::parse(text), None, "{text:?}");
    }
    assert_eq!(Revision::new(u64::MAX).next(), Revision::new(0));
}

#[test]
fn content_keeps_payload_and_type_apart() {
    let content = Content::new(b"a\0b", "application/x-y").unwrap();
    assert_eq!(content.payload(), b"a\0b");
    assert_eq!(content.media_type(), "application/x-y");
    let empty = Content::new(b"", "").unwrap();
    assert!(empty.payload().is_empty() && empty.media_type().is_empty());
    assert!(Content::new(b"", &"x".repeat(128)).is_none());
}

#[test]
fn msc3886_a_write_extends_the_life_of_a_session() {
    let mut session = session(7, Protocol::Msc3886, 60, 1_000);
    assert!(session.is_live(at(60_999)));
    assert!(!session.is_live(at(61_000)));
    assert_eq!(session.replace(content("b"), at(50_000)), content("a"));
    assert_eq!(session.expires_at, 110_000);
    assert_eq!(session.modified_at, 50_000);
    assert_eq!(session.revision, Revision::new(8));
}

#[test]
fn msc4108_and_msc4388_a_write_leaves_the_end_where_it_was() {
    for protocol in [Protocol::Msc4108, Protocol::Msc4388] {
        let mut session = session(7, protocol, 300, 0);
        drop(session.replace(content("b"), at(200_000)));
        assert_eq!(session.expires_at, 300_000);
        assert_eq!(session.modified_at, 200_000);
    }
}

#[test]
fn a_revision_is_new_even_when_the_payload_is_not() {
    let mut session = session(1, Protocol::Msc3886, 60, 0);
    let before = session.revision;
    drop(session.replace(content("a"), at(1)));
    assert_ne!(session.revision, before);
}

#[test]
fn a_write_is_known_by_the_revision_before_and_its_content() {
    let mut session = session(u64::MAX, Protocol::Msc3886, 60, 0);
    let (before, first) = (Revision::new(u64::MAX - 1), session.revision);
    assert!(!session.has_written(before, &content("a")));
    drop(session.replace(content("b"), at(1)));
    assert!(session.has_written(first, &content("b")));
    let typed = Content::new(b"b", "text/html").unwrap();
    // Payload and type stand in one run of bytes.
    let shifted = Content::new(b"bt", "ext/plain").unwrap();
    for other in [content("a"), typed, shifted] {
        assert!(!session.has_written(first, &other), "{other:?}");
    }
    for other in [before, session.revision, session.revision.next()] {
        assert!(!session.has_written(other, &content("b")), "{other}");
    }
    drop(session.replace(content("c"), at(2)));
    assert!(!session.has_written(first, &content("b")));
}

#[test]
fn a_session_has_no_longer_lifetime_than_there_can_be() {
    let day = millis(Session::MAX_LIFETIME);
    let valid = session(1, Protocol::Msc4108, 100 * 86_400, 5_000);
    assert_eq!(valid.expires_at, 5_000 + day);
    assert!(valid.is_valid());
    for (modified_at, expires_at, is_valid) in [
        (0, day, true),
        (7, 7, true),
        (0, day + 1, false),
        (1, 0, false),
        (0, u64::MAX, false),
        (u64::MAX, u64::MAX, true),
        (u64::MAX, 0, false),
    ] {
        let changed = Session {
            modified_at,
            expires_at,
            ..valid.clone()
        };
        assert_eq!(changed.is_valid(), is_valid, "{modified_at} {expires_at}");
    }
}

#[test]
fn a_first_payload_is_untouched_until_it_is_fetched_or_written_over() {
    let mut session = session(7, Protocol::Msc3886, 60, 1_000);
    assert!(session.is_untouched());
    let fetched = Session {
        first_fetched: true,
        ..session.clone()
    };
    assert!(!fetched.is_untouched());
    for _ in 0..300 {
        drop(session.replace(content("b"), at(2_000)));
    }
    assert!(!session.is_untouched());
    assert_eq!((session.first_fetched, session.writes), (false, u8::MAX));
}

#[test]
fn a_session_is_protected_for_fifteen_seconds_after_a_use() {
    let mut session = session(1, Protocol::Msc3886, 86_400, 0);
    for used in [0, 1, 2_047, 1 << 27, u64::MAX - 15_000] {
        session.last_used = used;
        for (later, left) in [(0, 15_000), (1, 14_999), (14_999, 1), (15_000, 0)] {
            assert_eq!(session.protected_for(at(used + later)), left, "{used}");
        }
    }
    session.last_used = 0;
    assert_eq!(session.protected_for(at(86_400_000)), 0);
}
