use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::outcome::Outcome;
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Revision, Session, SessionId};
use crate::store::{
    CreateError, InvalidSnapshot, MAX_TRANSACTIONS, Owner, Reason, SWEEP_BYTES, SequenceError,
    Sequenced, Store, WriteError,
};

const TTL: Duration = Duration::from_secs(60);

fn at(monotonic_ms: u64) -> Timestamp {
    Timestamp {
        monotonic_ms,
        unix_ms: 0,
    }
}

fn text(text: &str) -> Content {
    Content::new(text.as_bytes(), "text/plain").unwrap()
}

fn store(capacity: usize) -> Store {
    Store::new(NonZeroUsize::new(capacity).unwrap())
}

fn create(store: &Store, payload: &str, life: Duration, now: Timestamp) -> (SessionId, Session) {
    store
        .create(text(payload), Protocol::Msc3886, life, Owner::UNKNOWN, now)
        .unwrap()
}

/// How many sessions have ended, however.
fn ended(store: &Store) -> u64 {
    let counts = store.counts();
    Outcome::ALL
        .map(|outcome| counts.ended.total(outcome))
        .iter()
        .sum()
}

fn evicted(store: &Store) -> u64 {
    store.counts().ended.total(Outcome::Evicted)
}

/// Sweeps once and says how many went.
fn sweep(store: &Store, now: Timestamp, limit: usize) -> usize {
    let mut gone = Vec::new();
    store.sweep(now, limit, &mut gone);
    gone.len()
}

#[test]
fn a_session_lives_through_create_read_write_delete() {
    let store = store(10);
    let (id, first) = create(&store, "a", TTL, at(0));
    assert_eq!(
        store.read(id, Concurrency::ETag, at(1)).unwrap().content,
        text("a")
    );
    let second = store.write(id, Some(first.revision), text("b"), at(2));
    assert_ne!(second.unwrap().revision, first.revision);
    assert_eq!(
        store.read(id, Concurrency::ETag, at(3)).unwrap().content,
        text("b")
    );
    assert!(store.delete(id, Concurrency::ETag, at(4)).is_some());
    assert!(store.delete(id, Concurrency::ETag, at(4)).is_none());
    assert!(store.read(id, Concurrency::ETag, at(5)).is_none());
    let counts = store.counts();
    assert_eq!((counts.created, ended(&store), counts.live), (1, 1, 0));
}

#[test]
fn a_stale_or_foreign_revision_changes_nothing() {
    let store = store(10);
    let (id, first) = create(&store, "a", TTL, at(0));
    let second = store
        .write(id, Some(first.revision), text("b"), at(0))
        .unwrap();
    for expected in [Some(first.revision), None] {
        match store.write(id, expected, text("c"), at(0)) {
            Err(WriteError::Conflict(now)) => assert_eq!(now.revision, second.revision),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        store.read(id, Concurrency::ETag, at(0)).unwrap().content,
        text("b")
    );
}

#[test]
fn a_repeated_write_is_told_the_same_and_changes_nothing() {
    let store = store(10);
    let (id, first) = create(&store, "a", TTL, at(0));
    let write = |over: &Session, payload: &str, now| {
        let written = store.write(id, Some(over.revision), text(payload), at(now));
        written.map_err(|error| format!("{error:?}"))
    };
    let second = write(&first, "b", 1_000).unwrap();
    let again = write(&first, "b", 2_000).unwrap();
    assert_eq!(again.revision, second.revision);
    assert_eq!(again.expires_at, 61_000, "it does not prolong the session");
    assert_eq!((again.modified_at, again.writes), (1_000, 1));
    assert_eq!(store.counts().bytes, 1);
    write(&first, "c", 2_000).unwrap_err();
    let third = write(&second, "b", 3_000).unwrap();
    write(&first, "b", 3_000).unwrap_err();
    let again = write(&second, "b", 4_000).unwrap();
    assert_eq!(again.revision, third.revision);
}

#[test]
fn what_a_session_was_created_with_repeats_no_write() {
    let store = store(10);
    let (id, first) = create(&store, "a", TTL, at(0));
    let before = Revision::new(first.revision.number().wrapping_sub(1));
    let write = store.write(id, Some(before), text("a"), at(0));
    assert!(matches!(write, Err(WriteError::Conflict(_))));
}

#[test]
fn an_expired_session_is_gone_at_once_and_swept_later() {
    let store = store(10);
    let (id, first) = create(&store, "a", TTL, at(0));
    assert!(store.read(id, Concurrency::ETag, at(59_999)).is_some());
    let end = at(60_000);
    assert!(store.read(id, Concurrency::ETag, end).is_none());
    assert!(store.delete(id, Concurrency::ETag, end).is_none());
    let write = store.write(id, Some(first.revision), text("b"), end);
    assert!(matches!(write, Err(WriteError::NotFound)));
    assert_eq!(store.counts().live, 1);
    assert_eq!(sweep(&store, at(60_000), 100), 1);
    assert_eq!((store.counts().live, ended(&store)), (0, 1));
}

#[test]
fn an_end_that_was_seen_stays_one_for_who_read_the_clock_before() {
    let store = store(10);
    let (id, first) = create(&store, "a", TTL, at(0));
    assert!(store.read(id, Concurrency::ETag, at(60_000)).is_none());
    let late = store.write(id, Some(first.revision), text("b"), at(59_999));
    assert!(matches!(late, Err(WriteError::NotFound)));
}

#[test]
fn a_write_moves_the_expiry_in_the_index_too() {
    let store = store(10);
    let (id, first) = create(&store, "a", TTL, at(0));
    store
        .write(id, Some(first.revision), text("b"), at(30_000))
        .unwrap();
    assert_eq!(sweep(&store, at(89_999), 100), 0);
    assert_eq!(sweep(&store, at(90_000), 100), 1);
}

#[test]
fn a_sweep_takes_a_session_from_its_end_on() {
    let store = store(10);
    create(&store, "a", TTL, at(0));
    assert_eq!(sweep(&store, at(59_999), 9), 0);
    assert_eq!(sweep(&store, at(60_000), 9), 1);
}

#[test]
fn a_sweep_stops_once_it_has_freed_much() {
    let store = store(10);
    let third = "x".repeat(SWEEP_BYTES / 3);
    for _ in 0..7 {
        create(&store, &third, TTL, at(0));
    }
    for swept in [4, 3, 0] {
        let mut gone = Vec::new();
        let more = store.sweep(at(60_000), 9, &mut gone);
        assert_eq!((gone.len(), more), (swept, swept == 4));
    }
}

#[test]
fn a_sweep_stops_at_its_limit() {
    let store = store(10);
    for _ in 0..7 {
        create(&store, "a", TTL, at(0));
    }
    assert_eq!(sweep(&store, at(60_000), 5), 5);
    assert_eq!(sweep(&store, at(60_000), 5), 2);
}

#[test]
fn a_full_store_evicts_what_was_not_used_for_longest() {
    let store = store(2);
    let (old, _) = create(&store, "a", TTL, at(0));
    let (idle, _) = create(&store, "b", TTL, at(1));
    store.read(old, Concurrency::ETag, at(2));
    let later = 20_000;
    let (new, _) = create(&store, "c", TTL, at(later));
    assert!(store.read(old, Concurrency::ETag, at(later)).is_some());
    assert!(store.read(idle, Concurrency::ETag, at(later)).is_none());
    assert!(store.read(new, Concurrency::ETag, at(later)).is_some());
    assert_eq!(evicted(&store), 1);
}

#[test]
fn a_session_used_within_fifteen_seconds_gives_way_to_none() {
    let store = store(2);
    let (polled, _) = create(&store, "a", TTL, at(0));
    create(&store, "b", TTL, at(0));
    let made = |now| store.create(text("c"), Protocol::Msc3886, TTL, Owner::UNKNOWN, at(now));
    assert_eq!(made(14_999).err(), Some(CreateError::Full(1)));
    store.read(polled, Concurrency::ETag, at(15_000)).unwrap();
    let (newer, _) = made(15_000).unwrap();
    let refused = made(29_000);
    assert!(matches!(refused, Err(CreateError::Full(1_000))));
    for id in [polled, newer] {
        assert!(store.read(id, Concurrency::ETag, at(29_000)).is_some());
    }
    let counts = store.counts();
    assert_eq!((counts.created, evicted(&store), counts.full), (3, 1, 2));
}

fn create_for(store: &Store, owner: [u64; 3], now: Timestamp) -> Result<SessionId, CreateError> {
    let made = store.create(text("a"), Protocol::Msc3886, TTL, Owner(owner), now);
    made.map(|(id, _)| id)
}

#[test]
fn whoever_holds_most_gives_way_also_in_use_and_whoever_holds_a_share_never_does() {
    let store = store(4);
    let is_there = |id, now| store.read(id, Concurrency::ETag, at(now)).is_some();
    let heavy: Vec<_> = (0..3)
        .map(|_| create_for(&store, [1, 1, 1], at(0)).unwrap())
        .collect();
    let sleeping = create_for(&store, [2, 1, 1], at(0)).unwrap();
    assert!(is_there(heavy[0], 1));
    create_for(&store, [3, 1, 1], at(1)).unwrap();
    assert!(!is_there(heavy[1], 1) && is_there(heavy[0], 1));
    // It may have two of four places where there are three owners.
    let again = create_for(&store, [1, 1, 1], at(2));
    assert_eq!(again, Err(CreateError::Full(14_998)));
    // With all of them idle it takes its own.
    create_for(&store, [1, 1, 1], at(20_000)).unwrap();
    assert!(is_there(sleeping, 20_000));
    assert_eq!((evicted(&store), store.counts().full), (2, 1));
}

#[test]
fn where_each_holds_one_an_idle_session_gives_way_if_there_is_one() {
    // Owners who have nothing in common, and the children of one group.
    let paths: [fn(u64) -> [u64; 3]; 3] = [|n| [n, 1, 1], |n| [1, n, 1], |n| [1, 1, n]];
    for path in paths {
        let store = store(3);
        let sessions = [0, 1, 2].map(|n| create_for(&store, path(n), at(n)).unwrap());
        let refused = create_for(&store, path(3), at(9_000));
        assert!(matches!(refused, Err(CreateError::Full(6_000..=6_002))));
        for used in [sessions[0], sessions[2]] {
            store.read(used, Concurrency::ETag, at(9_000)).unwrap();
        }
        create_for(&store, path(3), at(20_000)).unwrap();
        let gone = store.read(sessions[1], Concurrency::ETag, at(20_000));
        assert!(gone.is_none());
        assert_eq!(evicted(&store), 1);
    }
}

#[test]
fn ended_sessions_make_room_before_any_live_one() {
    let store = store(3);
    let (one, _) = create(&store, "a", TTL, at(0));
    let (two, _) = create(&store, "b", TTL, at(0));
    let (three, _) = create(&store, "c", TTL, at(0));
    store.delete(three, Concurrency::ETag, at(1));
    store.delete(two, Concurrency::ETag, at(1));
    // Asking for what has ended does not keep its tombstone.
    assert!(store.read(two, Concurrency::ETag, at(2)).is_none());
    assert!(store.delete(two, Concurrency::ETag, at(2)).is_none());
    create(&store, "d", TTL, at(3));
    create(&store, "e", TTL, at(3));
    assert!(store.read(one, Concurrency::ETag, at(4)).is_some());
    assert_eq!((evicted(&store), store.counts().live), (0, 3));
}

#[test]
fn a_full_store_gives_up_expired_sessions_first() {
    let store = store(2);
    let short = Duration::from_secs(1);
    let (live, _) = create(&store, "a", TTL, at(0));
    let (dead, _) = create(&store, "b", short, at(0));
    store.read(dead, Concurrency::ETag, at(10));
    create(&store, "c", TTL, at(2_000));
    assert!(store.read(live, Concurrency::ETag, at(2_000)).is_some());
    assert_eq!((evicted(&store), ended(&store)), (0, 1));
}

#[test]
fn equal_payloads_have_different_revisions() {
    let store = store(2);
    let (_, one) = create(&store, "a", TTL, at(0));
    let (_, two) = create(&store, "a", TTL, at(0));
    assert_ne!(one.revision, two.revision);
}

#[test]
fn a_payload_is_freed_at_once_when_its_session_lets_go_of_it() {
    let held = |content: &Content| Arc::downgrade(&content.shared());
    let store = store(1);
    let (id, first) = create(&store, "a", TTL, at(0));
    let (a, revision) = (held(&first.content), first.revision);
    drop(first);
    assert!(a.upgrade().is_some());

    let second = store.write(id, Some(revision), text("b"), at(0)).unwrap();
    assert!(a.upgrade().is_none(), "replaced");
    let b = held(&second.content);
    drop(second);

    let (id, third) = create(&store, "c", TTL, at(20_000));
    assert!(b.upgrade().is_none(), "evicted");
    let c = held(&third.content);
    drop(third);
    store.delete(id, Concurrency::ETag, at(20_000));
    assert!(c.upgrade().is_none(), "deleted");

    let (_, last) = create(&store, "d", TTL, at(20_000));
    let d = held(&last.content);
    drop(last);
    let mut gone = Vec::new();
    store.sweep(at(80_000), 1, &mut gone);
    assert!(d.upgrade().is_none(), "expired");
    assert_eq!(gone.len(), 1, "what is logged of it holds no payload");
}

fn sequenced(store: &Store) -> SessionId {
    let life = Duration::from_secs(300);
    let made = store.create(text("a"), Protocol::Msc4388, life, Owner::UNKNOWN, at(0));
    made.unwrap().0
}

fn write(
    store: &Store,
    id: SessionId,
    expected: u64,
    transaction: Option<&str>,
    payload: &str,
) -> Result<u64, SequenceError> {
    let write = Sequenced {
        expected: Some(Revision::new(expected)),
        transaction,
    };
    store
        .write_in_sequence(id, write, text(payload), at(1))
        .map(Revision::number)
}

#[test]
fn msc4388_the_sequence_counts_successful_writes() {
    let store = store(2);
    let id = sequenced(&store);
    assert_eq!(write(&store, id, 0, None, "b"), Ok(1));
    assert_eq!(
        write(&store, id, 0, None, "c"),
        Err(SequenceError::Conflict)
    );
    assert_eq!(write(&store, id, 1, None, "c"), Ok(2));
    let session = store.read(id, Concurrency::SequenceToken, at(1)).unwrap();
    assert_eq!(session.content, text("c"));
}

#[test]
fn msc4388_a_repeated_write_without_a_transaction_is_known_by_its_payload() {
    let store = store(2);
    let id = sequenced(&store);
    assert_eq!(write(&store, id, 0, None, "b"), Ok(1));
    assert_eq!(write(&store, id, 0, None, "b"), Ok(1));
    let future = write(&store, id, 9, None, "b");
    assert_eq!(future, Err(SequenceError::Conflict));
    assert_eq!(
        write(&store, id, 0, Some("t"), "b"),
        Err(SequenceError::Conflict)
    );
}

#[test]
fn msc4388_a_transaction_has_one_outcome_for_the_life_of_the_session() {
    let store = store(2);
    let id = sequenced(&store);
    assert_eq!(write(&store, id, 0, Some("one"), "b"), Ok(1));
    assert_eq!(write(&store, id, 1, Some("two"), "c"), Ok(2));
    let late = Err(SequenceError::Conflict);
    assert_eq!(write(&store, id, 1, Some("late"), "d"), late);
    // Each again, with whatever else.
    assert_eq!(write(&store, id, 2, Some("one"), "x"), Ok(1));
    assert_eq!(write(&store, id, 0, Some("two"), "y"), Ok(2));
    assert_eq!(write(&store, id, 2, Some("late"), "z"), late);
    let session = store.read(id, Concurrency::SequenceToken, at(1)).unwrap();
    assert_eq!(session.content, text("c"));
}

#[test]
fn transactions_are_bounded_and_end_with_their_session() {
    let store = store(2);
    let id = sequenced(&store);
    for number in 0..MAX_TRANSACTIONS as u64 {
        let name = number.to_string();
        assert_eq!(write(&store, id, number, Some(&name), "b"), Ok(number + 1));
    }
    let more = write(&store, id, 64, Some("more"), "b");
    assert_eq!(more, Err(SequenceError::TooMany));
    assert_eq!(write(&store, id, 0, Some("0"), "b"), Ok(1));
    assert_eq!(store.lock().transactions.len(), 1);
    assert!(
        store
            .delete(id, Concurrency::SequenceToken, at(2))
            .is_some()
    );
    assert!(store.lock().transactions.is_empty());
    let gone = write(&store, id, 0, Some("0"), "b");
    assert_eq!(gone, Err(SequenceError::NotFound));
}

#[test]
fn a_session_answers_to_its_own_family_only() {
    let store = store(2);
    let id = sequenced(&store);
    let (tagged, first) = create(&store, "a", TTL, at(0));
    assert!(store.read(id, Concurrency::ETag, at(1)).is_none());
    assert!(store.delete(id, Concurrency::ETag, at(1)).is_none());
    let foreign = store.write(id, Some(Revision::new(0)), text("b"), at(1));
    assert!(matches!(foreign, Err(WriteError::NotFound)));
    assert!(
        store
            .read(tagged, Concurrency::SequenceToken, at(1))
            .is_none()
    );
    let foreign = write(&store, tagged, first.revision.number(), None, "b");
    assert_eq!(foreign, Err(SequenceError::NotFound));
}

#[test]
fn a_store_made_of_what_another_shows_goes_on_where_that_was() {
    let old = store(10);
    let (first, _) = create(&old, "a", TTL, at(0));
    let second = sequenced(&old);
    let (gone, _) = create(&old, "c", TTL, at(0));
    let (deleted, _) = create(&old, "d", TTL, at(0));
    assert_eq!(write(&old, second, 0, Some("one"), "b"), Ok(1));
    let late = Err(SequenceError::Conflict);
    assert_eq!(write(&old, second, 0, Some("late"), "b"), late);
    old.read(first, Concurrency::ETag, at(30_000)).unwrap();
    old.delete(deleted, Concurrency::ETag, at(30_000));
    let session = old.read(first, Concurrency::ETag, at(30_000)).unwrap();
    let session = old.write(first, Some(session.revision), text("x"), at(30_000));
    let session = session.unwrap();

    let now = at(70_000);
    let mut new = Store::with_hasher(NonZeroUsize::MIN.saturating_add(1), old.txn_hasher());
    for saved in old.snapshots(now) {
        new.restore(saved).unwrap();
    }
    assert_eq!(new.snapshots(now), old.snapshots(now));
    assert_eq!(new.counts().live, 2);
    let again = new.read(first, Concurrency::ETag, now).unwrap();
    let touched = |session: &Session| (session.first_fetched, session.writes);
    assert_eq!(touched(&again), touched(&session));
    assert_eq!(again.revision, session.revision);
    assert_eq!(again.expires_at, 90_000);
    assert!(new.read(gone, Concurrency::ETag, now).is_none());
    assert_eq!(write(&new, second, 7, Some("one"), "z"), Ok(1));
    assert_eq!(write(&new, second, 1, Some("late"), "z"), late);
    // The least recently used of them makes room, and the index knows all.
    let (_, third) = create(&new, "e", TTL, at(90_112));
    assert_eq!((ended(&new), evicted(&new)), (1, 0));
    assert_eq!(sweep(&new, at(third.expires_at), 9), 1);
    assert_eq!(sweep(&new, at(300_000), 9), 1);
    assert!(new.lock().transactions.is_empty());
}

#[test]
fn what_a_store_cannot_hold_is_not_added() {
    let old = store(2);
    let id = sequenced(&old);
    assert_eq!(write(&old, id, 0, Some("one"), "b"), Ok(1));
    create(&old, "a", TTL, at(0));
    let all = old.snapshots(at(0));
    let mut new = store(1);
    new.restore(all[0].clone()).unwrap();
    assert_eq!(new.restore(all[1].clone()), Err(InvalidSnapshot), "full");

    let mut new = store(3);
    new.restore(all[1].clone()).unwrap();
    assert_eq!(new.restore(all[1].clone()), Err(InvalidSnapshot), "twice");
    let mut tagged = all[0].clone();
    tagged.transactions = all[1].transactions.clone();
    assert_eq!(
        new.restore(tagged),
        Err(InvalidSnapshot),
        "not of this family"
    );
    let mut many = all[1].clone();
    many.id = all[0].id;
    many.transactions = vec![many.transactions[0]; MAX_TRANSACTIONS + 1];
    assert_eq!(new.restore(many), Err(InvalidSnapshot), "too many");
    let mut long = all[0].clone();
    long.session.expires_at = u64::MAX;
    assert_eq!(new.restore(long), Err(InvalidSnapshot), "out of range");
    assert_eq!(new.counts().live, 1);
}

#[test]
fn an_ended_session_says_why_and_what_was_done_with_it_and_not_its_name() {
    let store = store(1);
    let (id, session) = create(&store, "abc", TTL, at(0));
    for _ in 0..3 {
        store.read(id, Concurrency::ETag, at(1_000));
    }
    let written = store.write(id, Some(session.revision), text("abcd"), at(9_000));
    written.unwrap();
    let conflict = store.write(id, Some(session.revision), text("e"), at(9_000));
    conflict.unwrap_err();
    let mut gone = Vec::new();
    store.sweep(at(70_000), 9, &mut gone);
    assert_eq!(gone[0].ended.reason, Reason::Expired);
    let line = "a session of MSC3886 ended as aborted: \
                expired 61 s after its last write, writes: 1, last payload: 4 bytes";
    assert_eq!(gone[0].ended.to_string(), line);

    create(&store, "", TTL, at(70_000));
    gone.clear();
    store.sweep(at(200_000), 9, &mut gone);
    let line = "a session of MSC3886 ended as never_joined: \
                expired 130 s after its creation, writes: 0, last payload: 0 bytes";
    assert_eq!(gone[0].ended.to_string(), line);
}
