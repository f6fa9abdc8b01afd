use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::Protocol;
use crate::session::Content;
use crate::store::{MAX_WATCHES, Owner, Removed};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

const LIFETIME: Duration = Duration::from_secs(60);

fn store(capacity: usize) -> Arc<Store> {
    Arc::new(Store::new(NonZeroUsize::new(capacity).unwrap()))
}

fn at(monotonic_ms: u64) -> Timestamp {
    Timestamp {
        monotonic_ms,
        unix_ms: 0,
    }
}

fn content() -> Content {
    Content::new(b"x", "text/plain").unwrap()
}

fn create(store: &Store, now: u64) -> (SessionId, Revision) {
    let protocol = Protocol::Msc3886;
    let created = store.create(content(), protocol, LIFETIME, Owner::UNKNOWN, at(now));
    let (id, session) = created.unwrap();
    (id, session.revision)
}

/// A watch that must be had, and what counts its wake-ups.
fn watch(store: &Arc<Store>, id: SessionId, revision: Revision, now: u64) -> (Watch, Arc<Count>) {
    let count = Arc::<Count>::default();
    let waker = Arc::clone(&count).into();
    match store.watch(id, revision, waker, at(now)) {
        Ok(watch) => (watch, count),
        Err(session) => panic!("{session:?}"),
    }
}

/// Whether nothing is left of watches that are over.
fn forgotten(store: &Store) -> bool {
    store.lock().watches.is_empty()
}

#[test]
fn a_write_or_an_end_wakes_once() {
    type Act = fn(&Store, SessionId, Revision);
    let acts: [Act; 4] = [
        |store, id, revision| {
            store.write(id, Some(revision), content(), at(1)).unwrap();
        },
        |store, id, _| assert!(store.delete(id, Concurrency::ETag, at(1)).is_some()),
        |store, _, _| assert!(!store.sweep(at(60_000), 9, &mut Vec::new())),
        |store, _, _| {
            let mut gone = Vec::new();
            store.sweep(at(60_000), 9, &mut gone);
            gone.into_iter().for_each(Removed::announce);
        },
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let store = store(2);
        let (id, revision) = create(&store, 0);
        let (other, known) = create(&store, 30_000);
        let (first, woken) = watch(&store, id, revision, 30_000);
        let (_second, again) = watch(&store, id, revision, 30_000);
        let (bystander, still) = watch(&store, other, known, 30_000);
        assert!(first.is_pending());
        act(&store, id, revision);
        // A sweep wakes when it is announced, outside the lock.
        let expected = usize::from(number != 2);
        assert_eq!([woken.get(), again.get()], [expected; 2], "{number}");
        assert!(!first.is_pending());
        assert!(bystander.is_pending() && still.get() == 0);
        drop((first, bystander));
        assert!(forgotten(&store));
    }
}

#[test]
fn what_changes_nothing_wakes_nobody() {
    let store = store(1);
    let (id, revision) = create(&store, 0);
    let (watch, woken) = watch(&store, id, revision, 0);
    let stale = Revision::new(revision.number().wrapping_sub(1));
    assert!(store.write(id, Some(stale), content(), at(1)).is_err());
    assert!(store.read(id, Concurrency::ETag, at(1)).is_some());
    assert!(
        store
            .delete(id, Concurrency::SequenceToken, at(1))
            .is_none()
    );
    assert!(watch.is_pending() && woken.get() == 0);
}

#[test]
fn a_session_that_has_changed_is_not_watched() {
    let store = store(1);
    let (id, revision) = create(&store, 0);
    let changed = |now| store.watch(id, revision, Waker::noop().clone(), at(now));
    let written = store.write(id, Some(revision), content(), at(1)).unwrap();
    assert!(matches!(changed(1), Err(Some(session)) if session.revision == written.revision));
    assert!(matches!(changed(60_001), Err(None)));
    assert!(forgotten(&store));
}

#[test]
fn a_newer_watch_ends_the_oldest_of_too_many() {
    let store = store(1);
    let (id, revision) = create(&store, 0);
    let mut watches: Vec<_> = (0..=MAX_WATCHES)
        .map(|_| watch(&store, id, revision, 0))
        .collect();
    let woken: Vec<usize> = watches.iter().map(|(_, woken)| woken.get()).collect();
    assert_eq!((woken[0], woken[1..].iter().sum()), (1, 0));
    assert!(!watches[0].0.is_pending() && watches[1].0.is_pending());
    // One that was given up makes room.
    watches.remove(3);
    watches.push(watch(&store, id, revision, 0));
    assert!(watches[1].0.is_pending());
}

#[test]
fn a_watched_session_is_in_use() {
    let store = store(3);
    let (first, revision) = create(&store, 0);
    let (idle, _) = create(&store, 1);
    let (_last, _) = create(&store, 2);
    let (watch, _) = watch(&store, first, revision, 0);
    // All have been idle for longer than protects them.
    create(&store, 20_000);
    let is_there = |id| store.read(id, Concurrency::ETag, at(20_000)).is_some();
    assert!(is_there(first) && !is_there(idle));
    drop(watch);
    create(&store, 20_001);
    create(&store, 40_000);
    create(&store, 40_000);
    assert!(!is_there(first));
}

#[test]
fn a_watched_session_gives_way_to_a_smaller_owner_only_after_the_others() {
    let store = store(3);
    let first = create(&store, 0);
    let second = create(&store, 1);
    let third = create(&store, 2);
    let _watches = [first, second].map(|(id, revision)| watch(&store, id, revision, 2));
    let create_for = |owner: u64| {
        let owner = Owner([owner, 1, 1]);
        let made = store.create(content(), Protocol::Msc3886, LIFETIME, owner, at(3));
        made.is_ok()
    };
    let is_there = |(id, _)| store.read(id, Concurrency::ETag, at(3)).is_some();
    assert!(create_for(1));
    assert!(is_there(first) && is_there(second) && !is_there(third));
    // None holds two more than another now.
    assert!(!create_for(1));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Watch(usize),
    GiveUp(usize),
    Write(usize),
    Delete(usize),
    Create,
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_usize).prop_map(Step::Watch),
        3 => (0..64_usize).prop_map(Step::GiveUp),
        3 => (0..4_usize).prop_map(Step::Write),
        1 => (0..4_usize).prop_map(Step::Delete),
        2 => Just(Step::Create),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever happens in whatever order: a watch is pending exactly as long
    /// as its session is at the revision that it names, unless newer ones took
    /// its place, and is woken exactly once when that ends.
    #[test]
    fn every_watch_is_woken_once_and_in_time(steps in steps()) {
        let store = store(4);
        let mut now = 0;
        let mut sessions: Vec<(SessionId, Revision)> = Vec::new();
        let mut watches = Vec::new();
        for step in steps {
            now += 1_000;
            match step {
                Step::Watch(index) if index < sessions.len() => {
                    let (id, revision) = sessions[index];
                    let count = Arc::<Count>::default();
                    let watching = store.watch(id, revision, Arc::clone(&count).into(), at(now));
                    if let Ok(watch) = watching {
                        watches.push((watch, count, id, revision));
                    }
                }
                Step::GiveUp(index) if index < watches.len() => {
                    let (watch, count, ..) = watches.remove(index);
                    let (pending, woken) = (watch.is_pending(), count.get());
                    drop(watch);
                    prop_assert_eq!(usize::from(!pending), woken);
                    prop_assert_eq!(Arc::strong_count(&count), 1);
                }
                Step::Write(index) if index < sessions.len() => {
                    let (id, revision) = sessions[index];
                    if let Ok(session) = store.write(id, Some(revision), content(), at(now)) {
                        sessions[index].1 = session.revision;
                    }
                }
                Step::Delete(index) if index < sessions.len() => {
                    store.delete(sessions[index].0, Concurrency::ETag, at(now));
                    sessions.remove(index);
                }
                Step::Create => {
                    let created = store.create(content(), Protocol::Msc3886, LIFETIME, Owner::UNKNOWN, at(now));
                    sessions.extend(created.map(|(id, session)| (id, session.revision)));
                }
                Step::Sweep => {
                    let mut gone = Vec::new();
                    while store.sweep(at(now), 2, &mut gone) {}
                    gone.into_iter().for_each(Removed::announce);
                }
                _ => {}
            }
            for (watch, count, id, revision) in &watches {
                prop_assert_eq!(usize::from(!watch.is_pending()), count.get());
                if watch.is_pending() {
                    let inner = store.lock();
                    let entry = inner.sessions.peek(id).and_then(Option::as_ref);
                    prop_assert_eq!(entry.map(|entry| entry.session.revision), Some(*revision));
                }
            }
        }
        drop(watches);
        prop_assert!(forgotten(&store));
    }
}
