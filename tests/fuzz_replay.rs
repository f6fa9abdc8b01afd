//! What fuzzing has found, again: every kept input of `fuzz/corpus` and
//! `fuzz/regressions`, through the properties that the fuzzers check.

// A library for the fuzzers.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod properties;

mod malformed;

use std::fs;
use std::path::{Path, PathBuf};

fn replay(target: &str, check: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut inputs: Vec<PathBuf> = ["corpus", "regressions"]
        .iter()
        .filter_map(|kind| fs::read_dir(fuzz.join(kind).join(target)).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(inputs.len() > 10, "the corpus of {target} is missing");
    for input in inputs {
        // Shown if the check fails.
        println!("{}", input.display());
        check(&fs::read(&input).unwrap());
    }
}

#[test]
fn requests() {
    replay("request", properties::request::check);
}

#[test]
fn json() {
    replay("json", properties::json::check);
}

#[test]
fn forwarded() {
    replay("forwarded", properties::forwarded::check);
}

#[test]
fn flags() {
    replay("flags", properties::flags::check);
}

#[test]
fn connections() {
    replay("connection", properties::connection::check);
}

/// Without a plan, so that all bytes come at once, and with one that splits
/// them.
#[test]
fn malformed_requests() {
    for (bytes, status) in malformed::malformed() {
        println!("{status} {}", bytes.escape_ascii());
        for plan in [&[0][..], &[3, 0, 9, 0x7f]] {
            let input = [plan, &bytes].concat();
            properties::request::check(&input);
            properties::connection::check(&input);
        }
    }
}
