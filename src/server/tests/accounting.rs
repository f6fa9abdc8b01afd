//! The accounting of connections, without any.

use std::net::{IpAddr, Ipv4Addr};

use mio::Token;

use super::*;
use crate::server::admission::{Admission, CLIENT_CONNECTIONS, ConnectionPermit, Evicted};
use crate::server::settings::ACCEPT_BATCH;

/// A peer that may have any number of connections.
const TRUSTED: Peer = Peer::Local;

/// A peer that may not.
const CLIENT: Peer = Peer::Ip(IpAddr::V4(Ipv4Addr::new(127, 1, 0, 1)));

struct Accounting {
    admission: Arc<Admission>,
    now: Instant,
}

impl Accounting {
    fn new(workers: usize, max_connections: usize) -> Self {
        let settings = Settings {
            workers,
            max_connections,
            trusted_proxies: proxies(),
            largest_body: 1_000,
            deadlines: calm(),
        };
        Self {
            admission: Arc::new(Admission::new(&settings, 1)),
            now: Instant::now(),
        }
    }

    /// Admits a connection a millisecond after the last one.
    fn admit(&mut self, worker: usize, peer: Peer) -> (ConnectionPermit, Option<Evicted>) {
        let now = self.tick();
        self.admission.admit(worker, peer, now)
    }

    /// Admits so many, for which none has to go.
    fn admit_all(&mut self, count: usize, worker: usize, peer: Peer) -> Vec<ConnectionPermit> {
        let mut admit = || {
            let (permit, evicted) = self.admit(worker, peer);
            assert_eq!(evicted, None);
            permit
        };
        (0..count).map(|_| admit()).collect()
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }
}

fn evicted(permit: &ConnectionPermit) -> Option<Evicted> {
    Some(Evicted {
        worker: permit.worker(),
        token: permit.token(),
    })
}

#[test]
fn a_client_loses_its_least_recently_used_connection_of_whatever_worker() {
    let mut all = Accounting::new(3, 1_000);
    let trusted = all.admit_all(CLIENT_CONNECTIONS + 1, 0, TRUSTED);
    let first = all.admit_all(1, 1, CLIENT);
    let second = all.admit_all(1, 2, CLIENT);
    let rest = all.admit_all(CLIENT_CONNECTIONS - 2, 1, CLIENT);
    first[0].touch(all.tick());
    let (last, gone) = all.admit(0, CLIENT);
    assert_eq!(gone, evicted(&second[0]));
    let others = Peer::Ip(Ipv4Addr::new(127, 1, 0, 2).into());
    let other = all.admit_all(1, 0, others);
    let expected = trusted.len() + CLIENT_CONNECTIONS;
    assert_eq!(
        all.admission.counts(),
        [expected + 2, expected + 1, CLIENT_CONNECTIONS + 1]
    );
    drop((second, other, last));
    assert_eq!(all.admit(0, CLIENT).1, None);
    drop((trusted, first, rest));
    assert_eq!(all.admission.counts(), [0; 3]);
}

#[test]
fn the_longest_idle_of_the_more_numerous_kind_makes_room() {
    let mut all = Accounting::new(2, 6);
    let keep_alive = all.admit_all(3, 0, TRUSTED);
    for permit in keep_alive.iter().rev() {
        permit.touch(all.tick());
    }
    let unserved = all.admit_all(3, 1, TRUSTED);
    // As many of each: a keep-alive one goes, and then an unserved one.
    let (_one, gone) = all.admit(0, TRUSTED);
    assert_eq!(gone, evicted(&keep_alive[2]));
    let (_two, gone) = all.admit(0, TRUSTED);
    assert_eq!(gone, evicted(&unserved[0]));
}

#[test]
fn without_descriptors_a_worker_gives_up_its_own_longest_idle_connection() {
    let mut all = Accounting::new(2, 100);
    let other = all.admit_all(1, 0, TRUSTED);
    let unserved = all.admit_all(2, 1, CLIENT);
    let keep_alive = all.admit_all(3, 1, TRUSTED);
    for permit in keep_alive.iter().rev() {
        permit.touch(all.tick());
    }
    let evict = |before| all.admission.evict_idle(1, before);
    let last_use = all.now - Duration::from_millis(2);
    assert_eq!(evict(last_use - Duration::from_millis(1)), None);
    assert_eq!(evict(last_use), Some(keep_alive[2].token()));
    // As many of each: the other keep-alive ones were used later.
    assert_eq!(evict(last_use), None);
    assert_eq!(evict(all.now), Some(keep_alive[1].token()));
    assert_eq!(evict(all.now), Some(unserved[0].token()));
    assert_eq!(all.admission.counts(), [6, 3, 1]);
    drop((other, unserved, keep_alive));
    assert_eq!(all.admission.counts(), [0; 3]);
}

#[test]
fn a_slow_worker_is_not_asked_to_close_ever_more() {
    let mut all = Accounting::new(2, 100);
    let mut permits = all.admit_all(50, 1, TRUSTED);
    permits.extend(all.admit_all(50, 0, TRUSTED));
    let mut closing = 0;
    for _ in 0..150 {
        let (permit, gone) = all.admit(0, TRUSTED);
        permits.push(permit);
        let gone = gone.unwrap();
        if gone.worker == 1 {
            closing += 1;
        } else {
            permits.retain(|permit| permit.token() != gone.token);
        }
    }
    assert!(closing <= 2 * ACCEPT_BATCH, "{closing}");
    let [holding, open, _] = all.admission.counts();
    assert_eq!(open, 100);
    assert!(holding <= 100 + 2 * ACCEPT_BATCH, "{holding}");
}

#[test]
fn a_worker_with_far_more_than_its_share_hands_over() {
    let mut all = Accounting::new(3, 1_000);
    let mut permits = all.admit_all(300, 0, TRUSTED);
    let count = |permits: &[ConnectionPermit], worker| {
        let of_worker = permits.iter().filter(|permit| permit.worker() == worker);
        of_worker.count()
    };
    let counts = [0, 1, 2].map(|worker| count(&permits, worker));
    assert!(
        counts
            .iter()
            .all(|count| count.abs_diff(100) <= ACCEPT_BATCH + 1),
        "{counts:?}"
    );
    // Connections that are closed count no more.
    permits.retain(|permit| permit.worker() != 0);
    let more = all.admit_all(50, 0, TRUSTED);
    assert_eq!(count(&more, 0), 50);
}

#[test]
fn tokens_are_not_used_twice() {
    let mut all = Accounting::new(1, 10);
    let mut last = Token(0);
    for _ in 0..100 {
        let token = all.admit(0, CLIENT).0.token();
        assert!(token > last);
        last = all.admission.unused_token();
        assert!(last > token);
    }
}
