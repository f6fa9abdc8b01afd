//! The background thread that removes expired sessions.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::Clock;
use crate::store::{Removed, Store};

/// Time between two sweeps: polls that are held for a session are answered soon
/// after it has expired.
const PERIOD: Duration = Duration::from_millis(200);

/// Sessions removed under one hold of the lock. A removal costs about a
/// microsecond, ten on an old Raspberry Pi with a cold cache, and requests
/// wait meanwhile.
pub const BATCH: usize = 64;

/// A running reaper.
#[derive(Debug)]
pub struct Reaper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Reaper {
    /// Starts sweeping the store.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(store: Arc<Store>, clock: Clock) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                let mut gone = Vec::with_capacity(BATCH);
                repeat(&stopped, || {
                    while store.sweep(clock.now(), BATCH, &mut gone) {
                        announce(&mut gone);
                        thread::yield_now();
                    }
                    announce(&mut gone);
                });
            })?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) {
        drop(self.stop);
        // Its panics are caught on its own thread.
        let _ = self.thread.join();
    }
}

/// Sweeps every [`PERIOD`] until it is told to stop. A panic, which the hook
/// has logged, must not be the end of all sweeping.
fn repeat(stopped: &Receiver<()>, mut sweep: impl FnMut()) {
    while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        let _ = catch_unwind(AssertUnwindSafe(&mut sweep));
    }
}

fn announce(gone: &mut Vec<Removed>) {
    gone.drain(..).for_each(Removed::announce);
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Instant;

    use super::*;
    use crate::outcome::Outcome;
    use crate::protocol::Protocol;
    use crate::session::Content;
    use crate::store::Owner;

    #[test]
    fn a_payload_is_freed_within_seconds_of_its_end() {
        let store = Arc::new(Store::new(NonZeroUsize::MIN));
        let clock = Clock;
        let reaper = Reaper::start(Arc::clone(&store), clock).unwrap();
        let content = Content::new(b"x", "text/plain").unwrap();
        let payload = Arc::downgrade(&content.shared());
        let lifetime = Duration::from_millis(1);
        let made = store.create(
            content,
            Protocol::Msc3886,
            lifetime,
            Owner::UNKNOWN,
            clock.now(),
        );
        drop(made.unwrap());
        assert!(payload.upgrade().is_some());
        // A second is promised; a busy machine may be late.
        let patience = Instant::now() + Duration::from_secs(5);
        while payload.upgrade().is_some() {
            assert!(Instant::now() < patience, "still there");
            thread::sleep(Duration::from_millis(10));
        }
        reaper.stop();
    }

    #[test]
    fn a_panic_is_not_the_last_sweep() {
        let (stop, stopped) = mpsc::channel();
        let (mut stop, mut sweeps) = (Some(stop), 0);
        repeat(&stopped, || {
            sweeps += 1;
            if sweeps == 2 {
                drop(stop.take());
            }
            panic!("as told");
        });
        assert_eq!(sweeps, 2);
    }

    #[test]
    fn expired_sessions_go_without_being_asked_for() {
        let store = Arc::new(Store::new(NonZeroUsize::new(1_000).unwrap()));
        let clock = Clock;
        let reaper = Reaper::start(Arc::clone(&store), clock).unwrap();
        let content = Content::new(b"x", "text/plain").unwrap();
        let lifetime = Duration::from_millis(1);
        for _ in 0..200 {
            store
                .create(
                    content.clone(),
                    Protocol::Msc3886,
                    lifetime,
                    Owner::UNKNOWN,
                    clock.now(),
                )
                .unwrap();
        }
        let patience = Instant::now() + Duration::from_secs(20);
        while store.counts().live > 0 && Instant::now() < patience {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(store.counts().live, 0);
        let ended = store.counts().ended;
        assert_eq!(ended.total(Outcome::NeverJoined), 200);
        reaper.stop();
    }
}
