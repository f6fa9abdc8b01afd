//! What the workers know of each other: how many connections there are, who
//! has how many of them, and which worker's has been idle for longest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::error;
use mio::{Token, Waker};

use super::Settings;
use super::listener::Stream;
use crate::client::Client;
use crate::client::{Peer, TrustedProxies};

/// Connections that one client may have, unless it is a trusted proxy.
/// Browsers open six a host, and a household is behind one address.
pub(super) const CLIENT_CONNECTIONS: usize = 64;

/// Errands that a worker may have before it and still be asked to close more
/// for others' newcomers; one that is so far behind is not waited for.
const ERRANDS: usize = 16;

/// Time between two warnings about the same thing.
const WARNING_PERIOD: Duration = Duration::from_secs(60);

/// All workers and all connections.
#[derive(Debug)]
pub(super) struct Crowd {
    max_connections: usize,
    trusted: TrustedProxies,
    started: Instant,
    stopping: AtomicBool,
    /// Connections held by all.
    open: AtomicUsize,
    /// Those of them that are soon closed for others: one an [`Eviction`].
    doomed: Arc<AtomicUsize>,
    desks: Vec<Desk>,
    clients: Mutex<HashMap<Client, Vec<Arc<Seat>>>>,
    warned: Mutex<Option<Instant>>,
}

/// One worker, as the others see it.
#[derive(Debug)]
struct Desk {
    waker: Waker,
    /// Since when the one it would close has waited, in milliseconds;
    /// `NOBODY` if it has none.
    waiting_since: AtomicU64,
    /// Iterations of its loop, see [`Heartbeat`](super::Heartbeat).
    beats: AtomicU64,
    errands: Mutex<Vec<Errand>>,
}

const NOBODY: u64 = u64::MAX;

/// What a worker is asked to do by another.
#[derive(Debug)]
pub(super) enum Errand {
    /// To close the connection that has been idle for longest.
    CloseLongest(Eviction),
    /// To close this one.
    Close(Token),
    /// To serve this one.
    Serve(Stream),
}

/// An eviction that a worker was asked for, counted as long as this exists:
/// until it is done, or the worker has failed at it.
#[derive(Debug)]
pub(super) struct Eviction(Arc<AtomicUsize>);

impl Eviction {
    fn new(doomed: &Arc<AtomicUsize>) -> Self {
        doomed.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(doomed))
    }
}

impl Drop for Eviction {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of a client that may not have any number of them.
#[derive(Debug)]
struct Seat {
    worker: usize,
    token: Token,
    /// When it was last answered, in milliseconds.
    used: AtomicU64,
}

/// A place among the connections of all workers, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    seat: Option<(Client, Arc<Seat>)>,
}

impl Crowd {
    pub(super) fn new(settings: &Settings, wakers: Vec<Waker>) -> Self {
        let desk = |waker| Desk {
            waker,
            waiting_since: AtomicU64::new(NOBODY),
            beats: AtomicU64::new(0),
            errands: Mutex::default(),
        };
        Self {
            max_connections: settings.max_connections,
            trusted: settings.trusted_proxies.clone(),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            doomed: Arc::default(),
            desks: wakers.into_iter().map(desk).collect(),
            clients: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// Tells all workers to stop.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Counts an iteration of a worker's loop.
    pub(super) fn beat(&self, worker: usize) {
        self.desks[worker].beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How many iterations each worker's loop has made.
    pub(super) fn beats(&self) -> Vec<u64> {
        let beats = |desk: &Desk| desk.beats.load(Ordering::Relaxed);
        self.desks.iter().map(beats).collect()
    }

    /// Has every worker's loop make an iteration.
    pub(super) fn wake_all(&self) {
        (0..self.desks.len()).for_each(|worker| self.wake(worker));
    }

    fn wake(&self, worker: usize) {
        if let Err(error) = self.desks[worker].waker.wake() {
            error!("cannot wake a worker: {error}");
        }
    }

    /// Takes a place for a connection. A client that has too many loses the
    /// one it has not used for longest.
    pub(super) fn take_place(
        self: &Arc<Self>,
        worker: usize,
        token: Token,
        peer: Peer,
        now: Instant,
    ) -> Place {
        // What gives all back comes first: whatever follows may panic.
        let mut place = Place::new(self);
        if !self.trusted.include(peer) {
            let seat = Arc::new(Seat {
                worker,
                token,
                used: AtomicU64::new(self.millis(now)),
            });
            place.seat = Some((peer.client(), Arc::clone(&seat)));
            self.seat(peer.client(), &seat);
        }
        place
    }

    fn seat(&self, client: Client, seat: &Arc<Seat>) {
        let mut clients = lock(&self.clients);
        let seats = clients.entry(client).or_default();
        let mut surplus = None;
        if seats.len() >= CLIENT_CONNECTIONS {
            let used = |seat: &Seat| seat.used.load(Ordering::Relaxed);
            surplus = (0..seats.len())
                .min_by_key(|place| used(&seats[*place]))
                .map(|place| seats.swap_remove(place));
        }
        seats.push(Arc::clone(seat));
        drop(clients);
        if let Some(surplus) = surplus {
            let errand = Errand::Close(surplus.token);
            self.send(surplus.worker, errand, Some(seat.worker));
        }
    }

    /// Whether a connection has to go for those that came.
    pub(super) fn is_too_large(&self) -> bool {
        let doomed = self.doomed.load(Ordering::Relaxed);
        self.open.load(Ordering::Relaxed) > self.max_connections + doomed
    }

    /// Whether a worker with so many connections should leave newcomers to
    /// the others.
    pub(super) fn is_share_exceeded(&self, held: usize, slack: usize) -> bool {
        held > self.open.load(Ordering::Relaxed) / self.desks.len() + slack
    }

    /// Publishes since when a worker's longest idle connection has waited.
    pub(super) fn publish(&self, worker: usize, since: Option<Instant>) {
        let since = since.map_or(NOBODY, |since| self.millis(since));
        self.desks[worker]
            .waiting_since
            .store(since, Ordering::Relaxed);
    }

    /// Asks the worker whose connection has been idle for longest to close
    /// it, unless that is the one who asks, with a connection idle `since`;
    /// false if it is.
    pub(super) fn close_longest(&self, asking: usize, since: Option<Instant>) -> bool {
        let own = since.map_or(NOBODY, |since| self.millis(since));
        let others = self.desks.iter().enumerate();
        let longest = others
            .filter(|(worker, _)| *worker != asking)
            .map(|(worker, desk)| (desk.waiting_since.load(Ordering::Relaxed), worker))
            .min();
        let Some((since, worker)) = longest.filter(|(since, _)| *since < own) else {
            return false;
        };
        if since == NOBODY || self.is_behind(worker) {
            return false;
        }
        let errand = Errand::CloseLongest(Eviction::new(&self.doomed));
        self.send(worker, errand, Some(asking));
        true
    }

    /// Whether a worker is not to be asked to close more for others.
    fn is_behind(&self, worker: usize) -> bool {
        lock(&self.desks[worker].errands).len() >= ERRANDS
    }

    /// Whether a worker has been asked to serve a connection and has not yet.
    pub(super) fn is_asked(&self, worker: usize) -> bool {
        let errands = lock(&self.desks[worker].errands);
        errands
            .iter()
            .any(|errand| matches!(errand, Errand::Serve(_)))
    }

    /// Asks a worker to do something; `sender` is the one who asks, if it is
    /// a worker.
    pub(super) fn send(&self, worker: usize, errand: Errand, sender: Option<usize>) {
        lock(&self.desks[worker].errands).push(errand);
        if sender != Some(worker) {
            self.wake(worker);
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.desks.len()
    }

    /// The next thing that a worker was asked to do.
    pub(super) fn take_errand(&self, worker: usize) -> Option<Errand> {
        lock(&self.desks[worker].errands).pop()
    }

    /// Whether it is time for another warning about descriptors.
    pub(super) fn may_warn(&self, now: Instant) -> bool {
        let mut warned = lock(&self.warned);
        let due = warned.is_none_or(|at| now.duration_since(at) > WARNING_PERIOD);
        if due {
            *warned = Some(now);
        }
        due
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(NOBODY)
    }
}

impl Place {
    fn new(crowd: &Arc<Crowd>) -> Self {
        crowd.open.fetch_add(1, Ordering::Relaxed);
        Self {
            crowd: Arc::clone(crowd),
            seat: None,
        }
    }

    /// Takes note that the connection was used.
    pub(super) fn touch(&self, now: Instant) {
        if let Some((_, seat)) = &self.seat {
            seat.used.store(self.crowd.millis(now), Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.open.fetch_sub(1, Ordering::Relaxed);
        let Some((client, seat)) = &self.seat else {
            return;
        };
        let mut clients = lock(&self.crowd.clients);
        if let Some(seats) = clients.get_mut(client) {
            seats.retain(|other| !Arc::ptr_eq(other, seat));
            if seats.is_empty() {
                clients.remove(client);
            }
        }
    }
}

#[cfg(test)]
impl Crowd {
    /// Connections held, those soon closed for others, and those of clients
    /// that may not have any number of them.
    pub(super) fn counts(&self) -> [usize; 3] {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let clients = lock(&self.clients);
        let seats = clients.values().map(Vec::len).sum();
        assert!(clients.values().all(|seats| !seats.is_empty()));
        [load(&self.open), load(&self.doomed), seats]
    }
}

/// What these locks guard is whole at every instant.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
