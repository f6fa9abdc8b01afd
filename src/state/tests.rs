use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;
use std::{env, process};

use proptest::prelude::*;

use super::format::{self, Limits, Origin};
use super::stream::Summed;
use crate::clock::Timestamp;
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Revision, Session, SessionId};
use crate::state::{LoadError, load, save};
use crate::store::{Owner, Record, Sequenced, Snapshot, Store, TxnHasher};

pub(super) const ORIGIN: Origin = Origin {
    boot: *b"01234567-89ab-cdef-0123-456789abcdef",
    node: None,
};

pub(super) fn at(monotonic_ms: u64) -> Timestamp {
    Timestamp {
        monotonic_ms,
        unix_ms: 0,
    }
}

pub(super) fn limits(sessions: usize) -> Limits {
    Limits {
        sessions: NonZeroUsize::new(sessions).unwrap(),
        payload: 4_096,
    }
}

/// Who creates the sessions of [`sample`].
const OWNERS: [Owner; 2] = [Owner([1, 2, 3]), Owner([u64::MAX, 0, 1 << 63])];

/// Two sessions of each protocol, one of them written to, at 5000.
pub(super) fn sample() -> Store {
    let store = Store::new(NonZeroUsize::new(10).unwrap());
    let lifetime = Duration::from_secs(60);
    for protocol in Protocol::ALL {
        let media_type = match protocol.concurrency() {
            Concurrency::ETag => "text/plain",
            Concurrency::SequenceToken => "",
        };
        let content = |text: &str| Content::new(text.as_bytes(), media_type).unwrap();
        let (id, session) = store
            .create(content("a"), protocol, lifetime, OWNERS[0], at(1_000))
            .unwrap();
        let revision = Some(session.revision);
        store.read(id, protocol.concurrency(), at(2_000)).unwrap();
        store.note_fetch(id);
        // Of the other family is just not found.
        let _ = store.write(id, revision, content("bé"), at(3_000));
        for transaction in [None, Some("conflict")] {
            let write = Sequenced {
                expected: revision,
                transaction,
            };
            let _ = store.write_in_sequence(id, write, content("ç"), at(4_000));
        }
        store
            .create(content("x"), protocol, lifetime, OWNERS[1], at(4_000))
            .unwrap();
    }
    store
}

fn written(store: &Store, now: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = format::write(&mut bytes, u64::MAX, store, &ORIGIN, now).unwrap();
    assert_eq!(written.sessions, store.snapshots(now).len());
    assert_eq!(written.left_out, 0);
    bytes
}

fn read(bytes: &[u8], limits: Limits, now: Timestamp) -> Result<Store, LoadError> {
    format::read(bytes, bytes.len() as u64, &ORIGIN, limits, now)
}

#[test]
fn what_is_written_is_read_back() {
    let store = sample();
    let now = at(5_000);
    let again = read(&written(&store, now), limits(10), at(5_000)).unwrap();
    assert_eq!(again.snapshots(now), store.snapshots(now));
    assert_eq!(again.txn_hasher(), store.txn_hasher());
    let later = at(61_500);
    let again = read(&written(&store, now), limits(10), later).unwrap();
    assert_eq!(again.snapshots(later), store.snapshots(later));
    assert_eq!(again.counts().live, store.snapshots(later).len() as u64);
    let later = at(100_000);
    let again = read(&written(&store, now), limits(10), later).unwrap();
    assert_eq!(again.counts().live, 0);
}

#[test]
fn the_most_recently_used_that_fit_are_kept() {
    let store = sample();
    let now = at(5_000);
    let bytes = written(&store, now);
    for sessions in 1..=6 {
        let again = read(&bytes, limits(sessions), now).unwrap();
        let expected = &store.snapshots(now)[..sessions];
        assert_eq!(again.snapshots(now), expected);
    }
    let short = Limits {
        payload: 1,
        ..limits(10)
    };
    let again = read(&bytes, short, now).unwrap();
    let mut expected = store.snapshots(now);
    expected.retain(|saved| saved.session.content.payload().len() <= 1);
    assert!(!expected.is_empty());
    assert_eq!(again.snapshots(now), expected);
}

#[test]
fn whatever_byte_is_changed_or_missing_it_is_refused() {
    let now = at(5_000);
    let good = written(&sample(), now);
    for place in 0..good.len() {
        for change in [1, 0x80, 0xff, good[place]] {
            let mut bytes = good.clone();
            bytes[place] ^= change;
            if change > 0 {
                assert!(read(&bytes, limits(10), now).is_err(), "{place} {change}");
            }
        }
        let short = read(&good[..place], limits(10), now);
        assert!(matches!(short, Err(LoadError::Damaged)), "{place}");
        let mut missing = good.clone();
        missing.remove(place);
        assert!(read(&missing, limits(10), now).is_err(), "{place}");
        let length = good.len() as u64;
        let cut = format::read(&good[..place], length, &ORIGIN, limits(10), now);
        assert!(matches!(cut, Err(LoadError::Damaged)), "{place}");
    }
    let longer = [&good[..], b"x"].concat();
    assert!(read(&longer, limits(10), now).is_err());
}

#[test]
fn what_is_not_this_boots_or_this_versions_is_told_apart() {
    let now = at(5_000);
    let good = written(&sample(), now);
    let refused = |bytes: &[u8], now| read(bytes, limits(10), now).err().unwrap().to_string();
    let mut other = good.clone();
    other[0] ^= 1;
    assert_eq!(refused(&other, now), "is no state file");
    let mut newer = good.clone();
    for version in [2, 5, 0xff] {
        newer[8] = version;
        let line = format!("is of version {version}, and this program knows 3 to 4");
        assert_eq!(refused(&newer, now), line);
    }
    let mut boot = good.clone();
    boot[12] ^= 1;
    let line = "was written before the machine was started last";
    assert_eq!(refused(&boot, now), line);
    assert_eq!(refused(&good, at(4_999)), line);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&damaged, now), "is damaged");
}

/// The bytes of a file that is sound but for its session of these parts.
fn file_of(session: Session, transactions: Vec<Record>, times: usize) -> Vec<u8> {
    let mut out = Summed::new(Vec::new());
    format::write_header(&mut out, TxnHasher([1, 2]), &ORIGIN, at(5_000)).unwrap();
    let saved = Snapshot {
        id: SessionId::new([7; 16]),
        session,
        owner: OWNERS[1],
        transactions,
    };
    for _ in 0..times {
        format::write_session(&mut out, &saved).unwrap();
    }
    format::write_trailer(&mut out, times as u64).unwrap();
    out.stream
}

fn session(protocol: Protocol, payload: &[u8], media_type: &str) -> Session {
    Session {
        content: Content::new(payload, media_type).unwrap(),
        revision: Revision::new(7),
        protocol,
        modified_at: 5_000,
        expires_at: 65_000,
        last_used: 5_000,
        first_fetched: true,
        writes: 3,
    }
}

#[test]
fn what_no_server_can_have_written_is_refused() {
    let is_damaged = |session, transactions, times| {
        let bytes = file_of(session, transactions, times);
        match read(&bytes, limits(10), at(5_000)) {
            Ok(_) => false,
            Err(LoadError::Damaged) => true,
            Err(error) => panic!("{error}"),
        }
    };
    let sound = || session(Protocol::Msc3886, b"\xff", "text/plain");
    let record = Record {
        name: 1,
        made: None,
    };
    assert!(!is_damaged(sound(), vec![], 1));
    assert!(is_damaged(sound(), vec![], 2), "the same name");
    assert!(is_damaged(sound(), vec![record], 1), "tagged");
    let sequenced = || session(Protocol::Msc4388, "é".as_bytes(), "");
    assert!(!is_damaged(sequenced(), vec![record; 64], 1));
    assert!(is_damaged(sequenced(), vec![record; 65], 1));
    let octets = session(Protocol::Msc4388, b"\xff", "");
    assert!(is_damaged(octets, vec![], 1));
    for media_type in ["a\r\nb: c", "a\tb", "text/é", "\x7f"] {
        let session = session(Protocol::Msc3886, b"", media_type);
        assert!(is_damaged(session, vec![], 1), "{media_type:?}");
    }
    let long = vec![b'x'; Content::MAX_PAYLOAD + 1];
    assert!(is_damaged(session(Protocol::Msc3886, &long, ""), vec![], 1));
    for (modified_at, expires_at, last_used) in [
        (5_001, 65_000, 5_000),
        (5_000, 65_000, 5_001),
        (5_000, 86_405_001, 5_000),
        (5_000, u64::MAX, 5_000),
        (u64::MAX, u64::MAX, 5_000),
        (5_000, 65_000, u64::MAX),
    ] {
        let session = Session {
            modified_at,
            expires_at,
            last_used,
            ..sound()
        };
        assert!(is_damaged(session, vec![], 1), "{modified_at} {expires_at}");
    }
}

/// The bytes of a file of version 3 with these sessions.
fn old_version(sessions: &[Snapshot]) -> Vec<u8> {
    let mut bytes = b"rdvstate\x03\0\0\0".to_vec();
    bytes.extend(ORIGIN.boot);
    for number in [5_000, 1, 2] {
        bytes.extend(u64::to_le_bytes(number));
    }
    for saved in sessions {
        format::write_session(&mut bytes, saved).unwrap();
    }
    bytes.extend((sessions.len() as u64).to_le_bytes());
    bytes.extend(sum(&bytes).to_le_bytes());
    bytes
}

fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[test]
fn a_fetch_is_there_or_not() {
    let good = file_of(session(Protocol::Msc4108, b"", ""), vec![], 1);
    let place = 80 + 74;
    assert_eq!(good[place..place + 2], [1, 3]);
    for (fetched, sound) in [(0, true), (1, true), (2, false), (0xff, false)] {
        let (front, _) = good.split_last_chunk::<8>().unwrap();
        let mut bytes = front.to_vec();
        bytes[place] = fetched;
        bytes.extend(sum(&bytes).to_le_bytes());
        let read = read(&bytes, limits(10), at(5_000));
        assert_eq!(read.is_ok(), sound, "{fetched}");
    }
}

#[test]
fn a_file_of_the_third_version_is_read_and_is_of_no_node() {
    let sessions = sample().snapshots(at(5_000));
    let bytes = old_version(&sessions);
    let store = read(&bytes, limits(10), at(5_000)).unwrap();
    assert_eq!(store.snapshots(at(5_000)), sessions);
    let length = bytes.len() as u64;
    let refused = format::read(&bytes[..], length, &node("a"), limits(10), at(5_000));
    assert!(matches!(refused, Err(LoadError::OtherNode(None))));
}

/// Where a node writes its file.
fn node(name: &str) -> Origin {
    Origin {
        node: (!name.is_empty()).then(|| name.parse().unwrap()),
        ..ORIGIN
    }
}

#[test]
fn a_file_is_read_by_the_node_that_has_written_it_and_by_no_other() {
    let store = sample();
    let now = at(5_000);
    let names = ["", "a", "b", "ab", "node1234"];
    for writer in names {
        let mut bytes = Vec::new();
        format::write(&mut bytes, u64::MAX, &store, &node(writer), now).unwrap();
        for reader in names {
            let length = bytes.len() as u64;
            let read = format::read(&bytes[..], length, &node(reader), limits(10), now);
            if reader == writer {
                assert_eq!(read.unwrap().snapshots(now), store.snapshots(now));
                continue;
            }
            let line = match writer {
                "" => "was written by a server without --node".to_owned(),
                name => format!("was written by node {name}"),
            };
            assert_eq!(read.err().unwrap().to_string(), line, "{reader}");
        }
    }
    // No name that a node can have.
    let mut bytes = Vec::new();
    format::write(&mut bytes, u64::MAX, &store, &node("a"), now).unwrap();
    bytes[48..50].copy_from_slice(b"A\0");
    let refused = read(&bytes, limits(10), now);
    assert!(matches!(refused, Err(LoadError::Damaged)));
}

#[test]
fn a_fetch_outlives_a_restart() {
    let old = sample();
    let now = at(5_000);
    let fetched = |store: &Store| -> Vec<bool> {
        let all = store.snapshots(now).into_iter();
        all.map(|saved| saved.session.first_fetched).collect()
    };
    let new = read(&written(&old, now), limits(10), now).unwrap();
    assert_eq!(fetched(&new), fetched(&old));
    assert!(fetched(&new).contains(&true) && fetched(&new).contains(&false));
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("rendezvousd-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn empty() -> Store {
    Store::new(NonZeroUsize::new(10).unwrap())
}

#[test]
fn a_file_is_its_owners_alone_and_gone_once_it_is_loaded() {
    let directory = Directory::new("once");
    let path = directory.file();
    let now = at(5_000);
    let mut store = empty();
    assert_eq!(load(&path, &mut store, 4_096, None, now).unwrap(), 0);
    fs::write(directory.0.join("state.new"), "left by a crash").unwrap();
    fs::write(&path, "refused").unwrap();
    let old = sample();
    assert_eq!(save(&path, &old, None, now).unwrap().sessions, 6);
    assert_eq!(directory.names(), ["state"]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(load(&path, &mut store, 4_096, None, now).unwrap(), 6);
    assert_eq!(store.snapshots(now), old.snapshots(now));
    assert!(directory.names().is_empty());
    assert_eq!(load(&path, &mut store, 4_096, None, now).unwrap(), 0);
    assert_eq!(
        store.snapshots(now),
        old.snapshots(now),
        "nothing was there"
    );
}

#[test]
fn a_refused_file_stays_and_so_does_the_store() {
    let directory = Directory::new("refused");
    let path = directory.file();
    fs::write(&path, "rdvstat? and what else").unwrap();
    let mut store = sample();
    let refused = load(&path, &mut store, 4_096, None, at(5_000));
    assert!(matches!(refused, Err(LoadError::Foreign)));
    assert_eq!(store.counts().live, 6);
    assert_eq!(directory.names(), ["state"]);
}

#[test]
fn links_and_what_is_no_file_are_neither_followed_nor_waited_for() {
    let directory = Directory::new("links");
    let (path, aside) = (directory.file(), directory.0.join("aside"));
    let now = at(5_000);
    save(&aside, &sample(), None, now).unwrap();
    let before = fs::read(&aside).unwrap();
    let refused = || {
        let refused = load(&path, &mut empty(), 4_096, None, now);
        assert!(matches!(refused, Err(LoadError::NotOurs)), "{refused:?}");
    };
    symlink(&aside, &path).unwrap();
    refused();
    symlink(&aside, directory.0.join("state.new")).unwrap();
    save(&path, &empty(), None, now).unwrap();
    assert_eq!(fs::read(&aside).unwrap(), before);
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(directory.names(), ["aside", "state"]);

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused();
    assert!(save(&path, &sample(), None, now).is_err());
    assert_eq!(directory.names(), ["aside", "state"]);
    fs::remove_dir(&path).unwrap();
    let fifo = process::Command::new("mkfifo").arg(&path).status();
    assert!(fifo.unwrap().success());
    refused();
}

#[test]
fn where_nothing_can_be_written_a_load_says_so() {
    let directory = Directory::new("nowhere");
    let path = directory.0.join("no").join("state");
    let error = load(&path, &mut empty(), 4_096, None, at(0)).unwrap_err();
    assert!(matches!(error, LoadError::NotWritable(_)));
    let line = "cannot be written: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), line);
    assert!(save(&path, &empty(), None, at(0)).is_err());
}

/// A session that a server can have at 100 000.
fn any_session() -> impl Strategy<Value = Snapshot> {
    let records = proptest::collection::vec((any::<u64>(), any::<u64>()), 0..=64);
    (
        any::<([u8; 16], [u64; 3])>(),
        0..3_usize,
        (any::<String>(), "[ -~]{0,127}", records),
        (0..=100_000_u64, 0..=86_400_000_u64, 0..=100_000_u64),
        any::<(u64, bool, u8)>(),
    )
        .prop_map(|((id, owner), protocol, content, times, numbers)| {
            let (modified_at, lifetime, last_used) = times;
            let protocol = Protocol::ALL[protocol];
            let (payload, media_type, records) = content;
            let (revision, first_fetched, writes) = numbers;
            let records = records.into_iter().map(|(name, made)| Record {
                name,
                made: made.try_into().ok(),
            });
            let transactions = match protocol.concurrency() {
                Concurrency::ETag => Vec::new(),
                Concurrency::SequenceToken => records.collect(),
            };
            let session = Session {
                content: Content::new(payload.as_bytes(), &media_type).unwrap(),
                revision: Revision::new(revision),
                protocol,
                modified_at,
                expires_at: modified_at + lifetime,
                last_used,
                first_fetched,
                writes,
            };
            Snapshot {
                id: SessionId::new(id),
                session,
                owner: Owner(owner),
                transactions,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_a_store_holds_is_read_back(
        sessions in proptest::collection::vec(any_session(), 0..12),
        keys in any::<[u64; 2]>(),
        gap in 0..100_000_u64,
        room in 1..12_usize,
    ) {
        let mut store = Store::with_hasher(limits(12).sessions, TxnHasher(keys));
        for saved in sessions {
            prop_assert_eq!(store.restore(saved), Ok(()));
        }
        let bytes = written(&store, at(100_000));
        let later = at(100_000 + gap);
        let again = read(&bytes, limits(room), later).unwrap();
        let mut expected = store.snapshots(later);
        expected.retain(|saved| saved.session.content.payload().len() <= limits(1).payload);
        expected.truncate(room);
        prop_assert_eq!(again.snapshots(later), expected);
        prop_assert_eq!(again.txn_hasher(), TxnHasher(keys));
    }

    #[test]
    fn no_bytes_make_a_read_panic(
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        start in 0..300_usize,
    ) {
        let mut bytes = written(&sample(), at(5_000));
        let end = (start + garbage.len()).min(bytes.len());
        bytes.splice(start..end, garbage);
        let _ = read(&bytes, limits(10), at(5_000));
    }
}
