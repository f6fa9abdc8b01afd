//! The command line: whatever the words, a refusal is one readable line, and
//! what is accepted is within the documented ranges.

use std::ffi::OsString;
use std::str;
use std::time::Duration;

use rendezvousd::cli::{self, Command, Flags};
use rendezvousd::server::Address;

/// Checks the property, one word a line.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let words = ["rendezvousd"].into_iter().chain(text.split('\n'));
    match cli::parse(words.map(OsString::from)) {
        Ok(Command::Serve(flags) | Command::Check(flags)) => serves(&flags),
        Ok(Command::Probe(addresses)) => assert!(!addresses.is_empty()),
        Ok(Command::Print(text)) => assert!(text.ends_with('\n')),
        Err(line) => {
            assert!(!line.trim().is_empty());
            let own = |c: &char| c.is_control() && !text.contains(*c);
            assert_eq!(line.chars().find(own), None, "{line:?}");
        }
    }
}

fn serves(flags: &Flags) {
    let seconds = |range: std::ops::RangeInclusive<u64>, time: Duration| {
        Duration::from_secs(*range.start()) <= time && time <= Duration::from_secs(*range.end())
    };
    assert!(!flags.version);
    assert!(seconds(1..=86_400, flags.ttl.0));
    assert!(seconds(120..=300, flags.sign_in_ttl.0));
    assert!(seconds(0..=300, flags.drain.0));
    assert!((1..=1 << 20).contains(&flags.max_bytes.0));
    assert!((1..=100_000).contains(&flags.max_entries.0));
    assert!((1..=1 << 20).contains(&flags.max_connections.0));
    assert!((1..=256).contains(&flags.workers.0));
    for creations in [flags.create_rate, flags.create_burst] {
        assert!((1..=60_000).contains(&creations.0));
    }
    if let Some(Address::Tcp(admin)) = &flags.admin {
        assert!(admin.ip().is_loopback() || flags.admin_allow_remote);
    }
    is_path(&flags.prefix);
    if let Some(url) = &flags.public_url {
        assert!(url.starts_with("https://") || url.starts_with("http://"));
        assert!(
            url.bytes()
                .all(|b| b.is_ascii_graphic() && !b"\"\\<>?#".contains(&b))
        );
        assert!(!url.ends_with('/'));
    }
    if let Some(node) = flags.node {
        let name = node.to_string();
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        assert!((1..=8).contains(&name.len()) && name.bytes().all(legal));
    }
    let _ = flags.trusted_proxies();
}

/// Requests are compared with the prefix to the letter.
fn is_path(prefix: &str) {
    assert!(prefix.is_empty() || prefix.starts_with('/'));
    assert!(!prefix.ends_with('/'));
    assert!(
        prefix
            .bytes()
            .all(|b| b.is_ascii_graphic() && b"\"\\<>?#%".iter().all(|c| *c != b))
    );
    assert!(!format!("{prefix}/").starts_with("/_matrix/"));
}
