//! What systemd gives a service and wants to hear from it: inherited sockets,
//! readiness, a status line, signs of life. Without systemd all of it is
//! nothing.

use std::env;
use std::io;
use std::sync::Once;
use std::time::Duration;

use listenfd::ListenFd;
use log::warn;
use sd_notify::NotifyState;

use crate::server::{Listener, Socket};

/// The name of the operator's socket (`FileDescriptorName=` in its unit).
const ADMIN: &str = "admin";

/// Sockets that were bound for us.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Those for everybody.
    pub public: Vec<Listener>,
    /// The operator's.
    pub admin: Option<Listener>,
}

impl Sockets {
    /// Whether there are any.
    #[must_use]
    pub fn are_inherited(&self) -> bool {
        !self.public.is_empty() || self.admin.is_some()
    }

    /// Takes the sockets that were passed to this process (sd_listen_fds(3)).
    ///
    /// # Errors
    /// When one is no stream socket, or cannot be made ready.
    pub fn inherited() -> io::Result<Self> {
        let mut sockets = Self::default();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        for (index, name) in (0..passed.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
            let tcp = passed.take_tcp_listener(index);
            let socket = match tcp.map(|socket| socket.map(Socket::Tcp)) {
                Err(_) => passed.take_unix_listener(index)?.map(Socket::Unix),
                Ok(socket) => socket,
            };
            let Some(socket) = socket else {
                continue;
            };
            let listener = Listener::inherit(socket)?;
            if name == ADMIN {
                sockets.admin = Some(listener);
            } else {
                sockets.public.push(listener);
            }
        }
        Ok(sockets)
    }
}

/// Says that the service does what it is there for.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says in one line how it goes.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Says why the program ends. `systemctl status` shows this line for as long as
/// the service is down, and log lines only of its last start.
pub fn failed(line: &str) {
    // The protocol has one assignment a line.
    status(&line.replace(char::is_control, " "));
}

/// Says that the service is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Gives a sign of life.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often a sign of life is due, with time to spare; none if nobody waits
/// for one.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 3)
}

fn tell(state: &[NotifyState<'_>]) {
    static WARNED: Once = Once::new();
    if let Err(error) = sd_notify::notify(state) {
        WARNED.call_once(|| warn!("cannot tell systemd how it goes: {error}"));
    }
}
