//! The process's limit of open file descriptors.

use std::fs::File;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors apart from those of listeners, workers and connections:
/// standard streams, signals, random numbers, and some to spare. The admin port
/// has as many again for its sockets and connections.
const OTHERS: u64 = 32;

/// What the file descriptor limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdBudget {
    /// Connections that fit, at most as many as were asked for.
    pub connections: usize,
    /// The limit it would take for all that were asked for.
    pub needed: u64,
    /// The limit in force, raised as far as was allowed and needed.
    pub limit: u64,
}

/// Raises the soft limit, as far as the hard one allows, to hold so many
/// connections over so many listeners shared by so many workers, and an admin
/// port if there is one. To be called before there are threads.
#[must_use]
pub fn reserve_fds(connections: usize, listeners: usize, workers: usize, admin: bool) -> FdBudget {
    let others = if admin { 2 * OTHERS } else { OTHERS };
    // A worker has a poll, a waker, a spare and a handle to each listener, and
    // is probed by systemd and through the admin port at once.
    let probes = if admin { 4 } else { 2 };
    let fixed = others + (listeners + workers * (listeners + 3 + probes)) as u64;
    let needed = connections as u64 + fixed;
    let limit = raise(needed);
    presize_fd_table(needed.min(limit));
    let fitting = usize::try_from(limit.saturating_sub(fixed)).unwrap_or(usize::MAX);
    FdBudget {
        connections: connections.min(fitting).max(1),
        needed,
        limit,
    }
}

fn raise(needed: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    let before = current.unwrap_or(u64::MAX);
    let wanted = needed.min(maximum.unwrap_or(u64::MAX));
    if before >= wanted {
        return before;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => before,
    }
}

/// Grows the kernel's table of file descriptors to so many. Once there are
/// threads, the one that outgrows it waits until all processors have taken
/// note: 10 to 30 ms at every doubling, in which a worker responds to nothing.
fn presize_fd_table(count: u64) {
    let last = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    if let Some(file) = reserve_fd() {
        // Closed at once. Without it things are slower, not worse.
        let _ = fcntl_dupfd_cloexec(file, last);
    }
}

/// A spare file descriptor.
pub(super) fn reserve_fd() -> Option<File> {
    File::open("/dev/null").ok()
}
