//! The signals that stop the program.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// A wait for SIGTERM, SIGINT, SIGQUIT or SIGHUP.
#[derive(Debug)]
pub struct StopSignals(UnixStream);

impl StopSignals {
    /// Catches the signals from now on. SIGHUP stays ignored if it was ignored
    /// at the start, as by nohup(1).
    ///
    /// # Errors
    /// When a socket or a handler cannot be had.
    pub fn catch() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT, SIGQUIT] {
            pipe::register(signal, sender.try_clone()?)?;
        }
        if !is_ignored(SIGHUP) {
            pipe::register(SIGHUP, sender)?;
        }
        // Caught, it lets a write over the limit of file sizes fail instead of
        // ending the process (setrlimit(2)).
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Self(receiver))
    }

    /// Waits for a signal; false if none came in time.
    ///
    /// # Errors
    /// When the time limit cannot be set.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        self.0.set_read_timeout(Some(limit))?;
        loop {
            match (&self.0).read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(error.kind() != ErrorKind::WouldBlock),
                Ok(_) => return Ok(true),
            }
        }
    }
}

/// Whether this process was started with a signal ignored (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
