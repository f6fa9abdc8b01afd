//! What a session costs beside its payload, a connection beside its buffers, and
//! a held poll beside its connection.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rendezvousd::api::{self, Api, HELD_POLL_SIZE};
use rendezvousd::block_pool::{self, SLAB};
use rendezvousd::client::TrustedProxies;
use rendezvousd::clock::{Clock, Timestamp};
use rendezvousd::metrics::Phase;
use rendezvousd::protocol::Protocol;
use rendezvousd::rate_limit::RateLimit;
use rendezvousd::server::{self, Listener, Server};
use rendezvousd::session::{Content, Session};
use rendezvousd::store::{
    MAX_TRANSACTIONS, MAX_WATCHES, Owner, SequenceError, Sequenced, Snapshot, Store,
    TRANSACTIONS_SIZE,
};
use rustix::net::{AddressFamily, SocketType};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most that glibc adds to an allocation: a header of 8 bytes, and up to 8
/// more to a multiple of 16. Its least of 32 is no more than that, for none of
/// the store's is under 16. musl's size classes are coarser, and it gives back
/// what glibc keeps.
const PER_ALLOCATION: usize = 16;

/// Connections with polls: with both ends here, as many as there are file
/// descriptors for.
const POLLS: usize = 400;

/// Longer than anything takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The allocator and the pool count for the whole process, so the tests run one
/// after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A full store of this size, each of whose sessions has an owner that shares
/// no group with another. Sessions are created `step` milliseconds apart: in
/// order, the index fills its nodes less than in any other way.
fn full(sessions: usize, payload: usize, step: u64) -> Store {
    let bytes = vec![b'x'; payload];
    let store = Store::new(NonZeroUsize::new(sessions).unwrap());
    for number in 0..sessions {
        let content = Content::new(&bytes, "text/plain").unwrap();
        let (protocol, lifetime) = (Protocol::Msc3886, Session::MAX_LIFETIME);
        let created = now(number as u64 * step);
        let owner = Owner([number as u64, 1, 2]);
        store
            .create(content, protocol, lifetime, owner, created)
            .unwrap();
    }
    store
}

/// What was allocated since, beside the block pool, a session or a poll.
fn allocated(region: &Region<'_, System>, number: usize) -> usize {
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let count = change.allocations - change.deallocations;
    (held + count * PER_ALLOCATION) / number
}

/// What a full store takes a session, the empty store's table included, and
/// not in the block pool.
fn overhead(region: &Region<'_, System>, store: &Store) -> usize {
    let sessions = store.capacity().get();
    assert_eq!(store.counts().live, sessions as u64);
    allocated(region, sessions)
}

/// A store that holds what another does, as it is read back after a restart.
fn copied(store: &Store, now: Timestamp) -> Store {
    let mut copy = Store::with_hasher(store.capacity(), store.txn_hasher());
    let add = |saved: &Snapshot| {
        let mut saved = saved.clone();
        let content = saved.session.content;
        let content = Content::new(&content.payload(), &content.media_type());
        saved.session.content = content.unwrap();
        copy.restore(saved)
    };
    store.for_each_live(now, add).unwrap();
    copy
}

/// What the printed ceiling counts a session that is not in the block pool.
fn ceiling_beside_blocks(capacity: NonZeroUsize, payload: usize) -> usize {
    let all = usize::try_from(Store::ceiling(capacity, payload, 1)).unwrap();
    all / capacity - Content::ceiling(payload) - TRANSACTIONS_SIZE
}

fn now(monotonic_ms: u64) -> Timestamp {
    Timestamp {
        monotonic_ms,
        unix_ms: 0,
    }
}

/// Bytes that full records of transactions add to a session, not in the block
/// pool and in it.
fn transactions(sessions: usize) -> (usize, usize) {
    let capacity = NonZeroUsize::new(sessions).unwrap();
    let store = Store::new(capacity);
    let lifetime = Session::MAX_LIFETIME;
    let content = || Content::new(b"", "").unwrap();
    let create = |_| {
        store.create(
            content(),
            Protocol::Msc4388,
            lifetime,
            Owner::UNKNOWN,
            now(0),
        )
    };
    let made: Vec<_> = (0..sessions).map(|n| create(n).unwrap().0).collect();
    let region = Region::new(ALLOCATOR);
    let mapped = block_pool::mapped();
    for number in 0..MAX_TRANSACTIONS {
        let name = number.to_string();
        for id in &made {
            let write = Sequenced {
                expected: None,
                transaction: Some(&name),
            };
            let conflict = store.write_in_sequence(*id, write, content(), now(1));
            assert_eq!(conflict.err(), Some(SequenceError::Conflict));
        }
    }
    let records = block_pool::mapped() - mapped;
    (allocated(&region, sessions), records / sessions)
}

/// A server's settings for these connections, all of which may be held.
fn server_settings() -> server::Settings {
    server::Settings {
        workers: 1,
        max_connections: 2 * POLLS,
        trusted_proxies: loopback(),
        largest_body: 4096,
        deadlines: server::Deadlines::default(),
    }
}

/// All connections of one proxy.
fn loopback() -> TrustedProxies {
    TrustedProxies {
        loopback: true,
        ..TrustedProxies::default()
    }
}

/// A server of a store's sessions.
fn serve(store: &Arc<Store>, trusted_proxies: TrustedProxies) -> (Server, String) {
    let settings = api::Settings {
        prefix: "/rendezvous".into(),
        public_url: None,
        node: None,
        trusted_proxies: TrustedProxies::default(),
        ttl: Duration::from_secs(60),
        sign_in_ttl: Duration::from_secs(60),
        long_poll: Duration::from_secs(25),
        max_bytes: 4096,
        rate_limit: RateLimit { rate: 1, burst: 1 },
        check_page: false,
    };
    let api = Arc::new(Api::new(Arc::clone(store), Clock, settings));
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address().to_string();
    let settings = server::Settings {
        trusted_proxies,
        ..server_settings()
    };
    let server = Server::start(vec![listener], &settings, api, Arc::default()).unwrap();
    (server, address.trim_start_matches("http://").to_owned())
}

/// Waits until so many connections are in a phase.
fn wait(server: &Server, phase: Phase, number: usize) {
    let end = Instant::now() + PATIENCE;
    let counters = &server.counters().connections;
    while counters.in_phase(phase) != number as u64 {
        assert!(Instant::now() < end, "{counters:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What the server allocates for a poll that it holds, so many of each session,
/// over a connection that has been answered before.
fn held_poll(per_session: usize) -> usize {
    let store = Arc::new(Store::new(NonZeroUsize::new(POLLS).unwrap()));
    let (server, address) = serve(&store, loopback());
    let mut polls = Vec::new();
    for _ in 0..POLLS / per_session {
        let content = Content::new(b"x", "text/plain").unwrap();
        let lifetime = Session::MAX_LIFETIME;
        let protocol = Protocol::Msc4108;
        let made = store.create(content, protocol, lifetime, Owner::UNKNOWN, Clock.now());
        let (id, session) = made.unwrap();
        let revision = session.revision;
        let poll = format!(
            "GET /rendezvous/{id} HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"{revision}\"\r\n"
        );
        polls.extend((0..per_session).map(|_| poll.clone()));
    }
    let mut connections = Vec::new();
    for poll in &polls {
        let mut stream = TcpStream::connect(&address).unwrap();
        let at_once = format!("{poll}Prefer: wait=0\r\n\r\n");
        stream.write_all(at_once.as_bytes()).unwrap();
        let mut answer = [0; 1024];
        let count = stream.read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 304 "));
        connections.push(stream);
    }
    wait(&server, Phase::Idle, polls.len());
    let region = Region::new(ALLOCATOR);
    for (stream, poll) in connections.iter_mut().zip(&polls) {
        stream.write_all(poll.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    wait(&server, Phase::Held, polls.len());
    let held = allocated(&region, polls.len());
    drop(connections);
    server.stop();
    held
}

/// What the printed memory counts for one connection apart from its buffers.
fn connection() -> usize {
    let settings = server_settings();
    let mut larger = settings.clone();
    larger.max_connections += 1;
    usize::try_from(larger.ceiling(1) - settings.ceiling(1)).unwrap()
}

/// A connection from an address of its own.
fn connect_from(number: usize, address: &str) -> TcpStream {
    let source =
        Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + u32::try_from(number).unwrap());
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((source, 0))).unwrap();
    rustix::net::connect(&socket, &address.parse::<SocketAddr>().unwrap()).unwrap();
    socket.into()
}

/// What the server allocates for a connection that waits for its next request,
/// of so many clients with one each.
fn idle_connection() -> usize {
    let store = Arc::new(Store::new(NonZeroUsize::MIN));
    let (server, address) = serve(&store, TrustedProxies::default());
    let region = Region::new(ALLOCATOR);
    let connections: Vec<TcpStream> = (0..POLLS)
        .map(|number| {
            let mut stream = connect_from(number, &address);
            stream
                .write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            let mut answer = [0; 1024];
            let count = stream.read(&mut answer).unwrap();
            assert!(answer[..count].starts_with(b"HTTP/1.1 404 "));
            stream
        })
        .collect();
    wait(&server, Phase::Idle, POLLS);
    let idle = allocated(&region, POLLS);
    drop(connections);
    server.stop();
    idle
}

#[test]
fn an_idle_connection_costs_what_the_ceiling_says() {
    let _alone = alone();
    let (idle, connection) = (idle_connection(), connection());
    println!("an idle connection: {idle} bytes of {connection}");
    assert!(idle <= connection, "{idle} of {connection} bytes");
}

#[test]
fn a_held_poll_costs_what_the_ceiling_says() {
    let _alone = alone();
    let connection = connection();
    for per_session in [1, MAX_WATCHES] {
        let held = held_poll(per_session);
        let sum = held + connection;
        println!("{per_session} polls a session: {held} bytes each, with the connection {sum}");
        assert!(held <= HELD_POLL_SIZE, "{held} bytes");
        assert!(sum < 3 * 1024, "{sum} bytes");
    }
}

#[test]
fn a_session_costs_what_the_ceiling_says() {
    let _alone = alone();
    println!("sessions  payload  overhead a session");
    let (indices, records) = transactions(10_000);
    println!("{MAX_TRANSACTIONS} transactions a session: {records} bytes and {indices}");
    assert!(
        records <= TRANSACTIONS_SIZE + SLAB / 10_000,
        "{records} bytes"
    );
    for (sessions, payload) in [
        (1_000, 0),
        (10_000, 0),
        (10_000, 4_096),
        (100_000, 100),
        // Just over a power of two of map slots: the emptiest table.
        (14_337, 100),
    ] {
        for step in [0, 300] {
            let pool = sessions * Content::ceiling(payload) + SLAB;
            let region = Region::new(ALLOCATOR);
            let store = full(sessions, payload, step);
            let created = overhead(&region, &store);
            assert!(block_pool::mapped() <= pool);
            let region = Region::new(ALLOCATOR);
            let copy = copied(&store, now(0));
            let restored = overhead(&region, &copy);
            assert!(block_pool::mapped() <= 2 * pool);
            println!("{sessions:>8}  {payload:>7}  {created:>4} bytes, restored {restored:>4}");
            let most = created.max(restored) + indices;
            let said = ceiling_beside_blocks(store.capacity(), payload);
            assert!(most <= said, "{most} bytes, said at most {said}");
            drop((store, copy));
            assert!(block_pool::mapped() <= SLAB);
        }
    }
}
