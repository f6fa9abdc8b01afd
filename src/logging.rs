//! Log lines on standard error: with journald's priority in front when it
//! listens, with the time otherwise.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::panic;
use std::sync::Once;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock;

/// The longest line, in bytes. What is cut away was not ours.
const LINE_LIMIT: usize = 1000;

struct Logger {
    journal: bool,
}

/// Starts logging, once a process, and sees to it that panics log one line.
pub fn start(level: LevelFilter) {
    let journal = is_journal();
    if log::set_boxed_logger(Box::new(Logger { journal })).is_ok() {
        log::set_max_level(level);
        log_first_panic();
    }
}

/// Says why the program does not run: as a program does in a terminal, and to
/// the journal as an error.
pub fn fatal(line: &str) {
    let priority = if is_journal() {
        format!("<{}>", priority(Level::Error))
    } else {
        String::new()
    };
    let line = sanitize(&format!("{priority}rendezvousd: {line}"));
    let _ = io::stderr().write_all(line.as_bytes());
}

fn is_journal() -> bool {
    env::var("JOURNAL_STREAM").is_ok_and(|stream| is_standard_error(&stream))
}

/// Whether `JOURNAL_STREAM`, device and inode, names our standard error and
/// not that of a program that started us (systemd.exec(5)).
fn is_standard_error(stream: &str) -> bool {
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
}

/// Where one request can make us panic a million can; the first says where,
/// the rest are counted by those who catch them.
fn log_first_panic() {
    static FIRST: Once = Once::new();
    panic::set_hook(Box::new(|panic| {
        FIRST.call_once(|| log::error!("defect, please report: {panic}"));
    }));
}

impl Log for Logger {
    /// Whether a record is our own: libraries may log a line a connection.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("rendezvousd")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = if self.journal {
            format!("<{}>", priority(record.level()))
        } else {
            let now = humantime::format_rfc3339_seconds(clock::system_time());
            format!("{now} {:5} ", record.level())
        };
        let _ = write!(line, "{}", record.args());
        // A log that cannot be written is no reason to stop.
        let _ = io::stderr().write_all(sanitize(&line).as_bytes());
    }

    fn flush(&self) {}
}

/// Syslog's number for a level (sd-daemon(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// One line of bounded length, whatever went into it.
fn sanitize(line: &str) -> String {
    let mut sanitize: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if sanitize.len() > LINE_LIMIT {
        let end = (0..=LINE_LIMIT).rfind(|end| sanitize.is_char_boundary(*end));
        sanitize.truncate(end.unwrap_or_default());
        sanitize.push('…');
    }
    sanitize.push('\n');
    sanitize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_those_of_syslog() {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug];
        assert_eq!(levels.map(priority), [3, 4, 6, 7]);
    }

    #[test]
    fn a_line_is_one_line_of_bounded_length() {
        assert_eq!(sanitize("a\nb\x1b[31m"), "a b [31m\n");
        let long = sanitize(&"é".repeat(LINE_LIMIT));
        assert!(long.len() <= LINE_LIMIT + "…\n".len());
        assert!(long.ends_with("é…\n"));
    }
}
