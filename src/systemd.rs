//! What systemd passes to a service and expects from it: inherited sockets,
//! readiness, a status line, watchdog pings. Without systemd nothing of it has
//! an effect.

use std::env;
use std::io;
use std::sync::Once;
use std::time::Duration;

use listenfd::ListenFd;
use log::warn;
use sd_notify::NotifyState;

use crate::server::{Listener, Socket};

/// The name of the admin port's socket (`FileDescriptorName=` in its unit).
const ADMIN: &str = "admin";

/// Sockets that were bound for us.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For clients.
    pub public: Vec<Listener>,
    /// For the admin port.
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

/// Sends READY=1.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Sends a status line, STATUS=.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Says why the program ends. `systemctl status` shows this line for as long as
/// the service is down, and log lines only of its last start.
pub fn failed(line: &str) {
    // The protocol has one assignment a line.
    status(&line.replace(char::is_control, " "));
}

/// Sends STOPPING=1.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Asks for more time to stop: so long from now, if the unit allows less
/// (EXTEND_TIMEOUT_USEC=).
pub fn extend_timeout(time: Duration) {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// Sends a watchdog ping, WATCHDOG=1.
pub fn ping_watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// How often to ping the watchdog, with time to spare; `None` if it is off.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 3)
}

fn tell(state: &[NotifyState<'_>]) {
    static WARNED: Once = Once::new();
    if let Err(error) = sd_notify::notify(state) {
        WARNED.call_once(|| warn!("cannot tell systemd how it goes: {error}"));
    }
}
