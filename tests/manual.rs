//! The manual page says what the program says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// The manual page as it is read: without its escapes for hyphens.
fn manual() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/rendezvousd.8");
    fs::read_to_string(path).unwrap().replace(r"\-", "-")
}

fn help() -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rendezvousd"));
    let output = command.arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Words with one space between them.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The flags in a text, without what stands around them.
fn flags(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .map(|word| word.trim_end_matches('-'))
        .filter(|word| word.starts_with("--"))
        .collect()
}

/// Flags and what `--help` says of them.
fn options_of_help() -> BTreeMap<String, String> {
    let help = help();
    let (_, options) = help.split_once("Options:\n").unwrap();
    let mut found: Vec<(String, String)> = Vec::new();
    for line in options.lines() {
        if line.starts_with("  -") {
            let line = line.trim();
            // After a long one one space follows, or the text on the next line.
            let text = line.split_once("  ").or_else(|| line.split_once(' '));
            let (flag, text) = text.unwrap_or((line, ""));
            found.push((flag.to_owned(), text.to_owned()));
        } else if let Some((_, text)) = found.last_mut() {
            *text += line;
        }
    }
    let options = found.into_iter();
    options.map(|(flag, text)| (flag, words(&text))).collect()
}

/// Flags and the first paragraph of what the manual says of them.
fn options_of_manual() -> BTreeMap<String, String> {
    let manual = manual();
    let section = manual.split("\n.SH OPTIONS\n").nth(1).unwrap();
    let section = section.split("\n.SH ").next().unwrap();
    let entries = section.split("\n.TP\n").skip(1).map(|entry| {
        let (head, text) = entry.split_once('\n').unwrap();
        let paragraph = text.split("\n.").next().unwrap();
        let flag = head.split_once(' ').unwrap().1.replace('"', "");
        let flag = match flag.split_once(',') {
            Some((long, short)) => format!("{}, {}", long.trim(), short.trim()),
            None => flag.split(' ').next().unwrap().to_owned(),
        };
        (flag, words(paragraph))
    });
    entries.collect()
}

#[test]
fn every_flag_is_explained_as_help_explains_it() {
    let help = options_of_help();
    assert!(help.len() > 10, "{help:?}");
    assert_eq!(options_of_manual(), help);
}

#[test]
fn values_are_named_as_in_help() {
    let (manual, help) = (manual(), words(&help()));
    let named = |flag: &str| help.contains(&format!("[{flag} <"));
    for flag in options_of_manual().keys().filter(|flag| named(flag)) {
        let start = format!("\n.BI {flag} \" ");
        let (_, value) = manual.split_once(&start).expect(flag);
        let value = value.split('"').next().unwrap();
        let whole = [
            format!("[{flag} <{value}>]"),
            format!("[{flag} <{value}...>]"),
        ];
        assert!(whole.iter().any(|w| help.contains(w)), "{flag} {value}");
    }
}

#[test]
fn no_other_flags_are_spoken_of() {
    let (manual, help) = (manual(), help());
    // Before the title are comments about this test.
    let (_, text) = manual.split_once("\n.TH ").unwrap();
    assert_eq!(flags(text), flags(&help));
}

#[test]
fn the_version_is_that_of_the_program() {
    let version = concat!("\"rendezvousd ", env!("CARGO_PKG_VERSION"), "\"");
    let manual = manual();
    let title = manual
        .lines()
        .find(|line| line.starts_with(".TH "))
        .unwrap();
    assert!(title.contains(version), "{title}");
}
