//! What fuzzing has found, again: every kept input of `fuzz/corpus` and
//! `fuzz/regressions`, through the properties that the fuzzers check.

// A library for the fuzzers.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod properties;

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
