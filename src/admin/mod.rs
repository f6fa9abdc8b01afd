//! The operator's port: health and metrics, for programs that are trusted.
//!
//! It is a stock [`tiny_http::Server`], with threads of its own: it answers
//! when the public side is under siege. It has no timeouts and no limits, so
//! who reaches it can use up the descriptors of both sides; some of what is
//! known to befall it is dealt with here.

mod answer;
mod metrics;

use std::io::{self, Write};
use std::mem::{self, ManuallyDrop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use httpdate::HttpDate;
use log::debug;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tiny_http::{Method, Request, Server};

use crate::api::Api;
use crate::clock;
use crate::http::Persistence;
use crate::server::{Counters, Listener, Probe, Socket};
use crate::store::Store;

/// The longest body that a request may bring, for no purpose. What has not
/// arrived of it `tiny_http` reads when the request is dropped, into one
/// allocation, and one of absurd size would abort the process. What is larger
/// is never dropped, and keeps its thread and its descriptors.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// How often it is looked whether connections are still accepted.
const PERIOD: Duration = Duration::from_secs(2);

/// How long a connection waits at most to be accepted, if it ever is.
const GLANCE: Duration = Duration::from_millis(100);

/// Where the answers come from.
#[derive(Debug)]
pub struct Sources {
    /// The sessions.
    pub store: Arc<Store>,
    /// The protocols.
    pub api: Arc<Api>,
    /// What the server counts.
    pub counters: Arc<Counters>,
    /// Whether its workers work.
    pub probe: Probe,
    /// When the service started.
    pub started: Instant,
}

/// A running operator's port.
#[derive(Debug)]
pub struct Admin {
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
    /// Kept for its file.
    _listener: Listener,
}

impl Admin {
    /// Starts answering.
    ///
    /// # Errors
    /// When a descriptor or a thread cannot be had.
    pub fn start(listener: Listener, sources: Sources) -> io::Result<Self> {
        let desk = Arc::new(Desk::new(listener.socket()?)?);
        let sources = Arc::new(sources);
        let ours = Arc::clone(&desk);
        let thread = thread::Builder::new()
            .name("admin".into())
            .spawn(move || ours.work(&sources))?;
        Ok(Self {
            desk,
            thread,
            _listener: listener,
        })
    }

    /// Takes no more requests.
    pub fn stop(self) {
        self.desk.close();
        // The thread's only failure is a panic, which the hook has logged.
        let _ = self.thread.join();
    }
}

/// A socket and the server that accepts from it at present.
struct Desk {
    socket: Socket,
    /// Never dropped: that would remove the file of a socket that is not
    /// ours, and it panics over a socket without one.
    server: Mutex<Arc<ManuallyDrop<Server>>>,
    closed: AtomicBool,
}

impl Desk {
    fn new(socket: Socket) -> io::Result<Self> {
        Ok(Self {
            server: Mutex::new(serve(&socket)?),
            socket,
            closed: AtomicBool::new(false),
        })
    }

    fn server(&self) -> Arc<ManuallyDrop<Server>> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&server)
    }

    fn work(&self, sources: &Arc<Sources>) {
        loop {
            let server = self.server();
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            match server.recv_timeout(PERIOD) {
                Ok(Some(request)) => receive(request, sources),
                Ok(None) if self.is_deaf() => self.reopen(),
                // An accept that failed has been logged.
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.server().unblock();
    }

    /// Whether nobody accepts any more: without a descriptor to be had, the
    /// thread of `tiny_http` that does it ends.
    fn is_deaf(&self) -> bool {
        self.is_called() && {
            thread::sleep(GLANCE);
            self.is_called()
        }
    }

    /// Whether a connection waits to be accepted.
    fn is_called(&self) -> bool {
        let event = match &self.socket {
            Socket::Tcp(socket) => PollFd::new(socket, PollFlags::IN),
            Socket::Unix(socket) => PollFd::new(socket, PollFlags::IN),
        };
        poll(&mut [event], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    fn reopen(&self) {
        match serve(&self.socket) {
            Ok(server) => {
                *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
            }
            Err(error) => debug!("the operator's port stays closed: {error}"),
        }
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

fn serve(socket: &Socket) -> io::Result<Arc<ManuallyDrop<Server>>> {
    let socket = socket.try_clone()?;
    socket.set_nonblocking(false)?;
    let server = match socket {
        Socket::Tcp(socket) => Server::from_listener(socket, None),
        Socket::Unix(socket) => Server::from_listener(socket, None),
    };
    let server = server.map_err(io::Error::other)?;
    Ok(Arc::new(ManuallyDrop::new(server)))
}

/// Has a request answered by a thread of its own: a peer that is slow with a
/// body, or a worker that does not answer, keeps nobody else waiting.
fn receive(request: Request, sources: &Arc<Sources>) {
    if request.body_length().unwrap_or_default() > BODY_LIMIT {
        mem::forget(request);
        return;
    }
    let sources = Arc::clone(sources);
    let answer = move || {
        // Who has gone does not want an answer.
        let _ = respond(request, &sources);
    };
    let builder = thread::Builder::new().name("admin-answer".into());
    if let Err(error) = builder.spawn(answer) {
        debug!("the operator is not answered: {error}");
    }
}

/// Writes the answer past `tiny_http::Response`, which cannot announce that
/// the connection closes: a scraper that keeps it for its next visit would
/// keep a thread, and now and then one that another connection is queued for.
fn respond(request: Request, sources: &Sources) -> io::Result<()> {
    let path = request.url().split('?').next().unwrap_or_default();
    let response = sources.answer(request.method(), path);
    let head = *request.method() == Method::Head;
    let date = HttpDate::from(clock::system_time()).to_string();
    let mut answer = Vec::new();
    response.write(head, Persistence::Close, &date, &mut answer);
    let mut writer = request.into_writer();
    writer.write_all(&answer)?;
    writer.flush()
}
