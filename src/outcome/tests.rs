use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::session::{Content, Revision};

const START: Timestamp = Timestamp {
    monotonic_ms: 0,
    unix_ms: 0,
};

/// What a session ends as that was written to with payloads of these
/// sizes after its creation.
fn outcome(protocol: Protocol, fetched: bool, sizes: &[usize]) -> Outcome {
    let content = |size| Content::new(&vec![b'x'; size], "text/plain").unwrap();
    let lifetime = Duration::from_secs(300);
    let first = Revision::new(0);
    let mut session = Session::new(content(0), first, protocol, lifetime, START);
    if fetched {
        session.first_fetched = true;
    }
    for size in sizes {
        drop(session.replace(content(*size), START));
    }
    Outcome::of_session(&session)
}

const SIGN_IN: [Protocol; 2] = [Protocol::Msc4108, Protocol::Msc4388];

/// New device showing the code, existing device showing it.
const SHOWN_BY: [&[usize]; 2] = [&[104, 52, 168, 388, 70, 56], &[104, 52, 388, 70, 56]];

#[test]
fn msc4108_msc4388_a_sign_in_is_completed_by_its_secrets() {
    for protocol in SIGN_IN {
        for before in SHOWN_BY {
            for secrets in [332, 515] {
                let all = [before, &[secrets]].concat();
                assert_eq!(outcome(protocol, true, &all), Outcome::Completed);
            }
        }
    }
}

/// Checks that a session with these payloads is aborted at the stage to
/// which so many writes lead.
#[track_caller]
fn assert_aborted(protocol: Protocol, sizes: &[usize]) {
    let code_shown = if protocol == Protocol::Msc3886 { 1 } else { 2 };
    let stage = match sizes.len() {
        4.. => Stage::AfterCheckCode,
        writes if writes < code_shown => Stage::BeforeCheckCode,
        _ => Stage::CheckCode,
    };
    assert_eq!(outcome(protocol, true, sizes), Outcome::Aborted(stage));
}

#[test]
fn msc4108_msc4388_a_sign_in_is_aborted_at_every_stage_before() {
    for protocol in SIGN_IN {
        for before in SHOWN_BY {
            for stage in 1..=before.len() {
                let (given_up, _) = before.split_at(stage);
                assert_aborted(protocol, given_up);
                for rejection in [58, 106] {
                    assert_aborted(protocol, &[given_up, &[rejection]].concat());
                }
            }
        }
    }
}

#[test]
fn msc3886_a_sign_in_is_completed_by_the_verification() {
    let before = [122, 188, 184, 282, 264];
    for verified in [290, 368] {
        let all = [&before[..], &[verified]].concat();
        assert_eq!(outcome(Protocol::Msc3886, true, &all), Outcome::Completed);
        assert_aborted(Protocol::Msc3886, &[&all[..], &[166]].concat());
    }
    for stage in 1..=before.len() {
        let (given_up, _) = before.split_at(stage);
        assert_aborted(Protocol::Msc3886, given_up);
        assert_aborted(Protocol::Msc3886, &[given_up, &[151]].concat());
    }
}

#[test]
fn a_session_is_joined_by_a_write_or_by_a_fetch_where_that_tells() {
    for protocol in Protocol::ALL {
        assert_eq!(outcome(protocol, false, &[]), Outcome::NeverJoined);
        let stage = Stage::after(protocol, 1);
        assert_eq!(outcome(protocol, false, &[104]), Outcome::Aborted(stage));
    }
    let scanned = Outcome::Aborted(Stage::BeforeCheckCode);
    for (protocol, fetched) in [
        (Protocol::Msc3886, scanned),
        (Protocol::Msc4108, scanned),
        (Protocol::Msc4388, Outcome::NeverJoined),
    ] {
        assert_eq!(outcome(protocol, true, &[]), fetched);
    }
}

#[test]
fn every_outcome_has_a_place_of_its_own() {
    for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome.index(), place);
    }
}

#[test]
fn a_check_is_told_by_its_message_and_by_the_whole_of_its_beginning() {
    fn ended(protocol: Protocol, payload: &str, media_type: &str) -> Outcome {
        let content = Content::new(payload.as_bytes(), media_type).unwrap();
        let (first, lifetime) = (Revision::new(0), Duration::from_secs(300));
        let session = Session::new(content, first, protocol, lifetime, START);
        Outcome::of_session(&session)
    }
    for protocol in Protocol::ALL {
        for word in ["one", "two"] {
            let message = format!("Message {word} of the check page");
            let long = format!("{message}. ").repeat(30);
            assert_eq!(ended(protocol, &message, "text/plain"), Outcome::Check);
            assert_eq!(ended(protocol, &long, "a/b"), Outcome::Check);
            let (short, rest) = message.split_at(28);
            assert_eq!(ended(protocol, short, rest), Outcome::NeverJoined);
            let other = format!(" {message}");
            assert_eq!(ended(protocol, &other, "a/b"), Outcome::NeverJoined);
        }
    }
    // These are the messages of the page.
    let page = include_str!("../api/check.html");
    assert!(page.contains("['one', 'two'].map((word) => `Message ${word} of the check page. `"));
}

#[test]
fn outcomes_are_counted_by_protocol() {
    let mut counts = Outcomes::default();
    for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
        for _ in 0..times {
            counts.count(Protocol::Msc3886, outcome);
            counts.count(Protocol::Msc4388, outcome);
        }
    }
    for (times, outcome) in (0..).zip(Outcome::ALL) {
        assert_eq!(counts.of(Protocol::Msc3886, outcome), times);
        assert_eq!(counts.of(Protocol::Msc4108, outcome), 0);
        assert_eq!(counts.total(outcome), 2 * times);
    }
}
