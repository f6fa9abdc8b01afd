//! People who sign in while others fill the store, in virtual time: the real
//! store and the real rate limit, without sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use rendezvousd::client::{Client, Network};
use rendezvousd::clock::Timestamp;
use rendezvousd::protocol::{Concurrency, Protocol};
use rendezvousd::rate_limit::{RateLimit, RateLimiter};
use rendezvousd::session::{Content, SessionId};
use rendezvousd::store::{Owner, Store};

/// The default of `--max-entries`.
const SESSIONS: usize = 10_000;

/// The default of `--sign-in-ttl`.
const LIFETIME: Duration = Duration::from_secs(300);

/// Steps of the clock, in milliseconds.
const STEP: u64 = 100;

/// Creations that the attackers try in a step, together: while they fill the
/// store; then, a hundred a second; and four hundred if they do not poll.
const FIRST_ATTEMPTS: usize = 500;
const ATTEMPTS: usize = 10;
const ATTEMPTS_WITHOUT_POLLS: usize = 40;

/// How long the attackers fill the store.
const FILLING: u64 = 3_000;

/// How often attackers poll each session that they keep in use.
const ATTACKERS_POLL: u64 = 14_500;

/// When bystanders come: two a second, some before the store is full.
const ARRIVALS: Range<u64> = 0..40_000;
const ARRIVAL: u64 = 500;

/// When a bystander's phone begins to sleep, and how long a sign-in goes on
/// after that, polled once a second.
const SLEEPS_AFTER: u64 = 10_000;
const FINISHES_AFTER: u64 = 5_000;

/// For how many seconds bystanders' phones sleep, in turns.
pub(crate) const SLEEPS: [u64; 3] = [5, 25, 60];

/// One bystander of so many is in an office whose people share an address.
const OFFICE: u64 = 20;

/// By which rule the store evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The least recently used of all that were not used within 15 seconds:
    /// all are one owner.
    Idle,
    /// By fair shares.
    Shares,
}

/// Who attacks, and who signs in meanwhile.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// `None`: by way of a proxy that does not name its clients.
    pub(crate) attackers: Vec<Option<Client>>,
    /// Whether the attackers keep their sessions in use.
    pub(crate) polls: bool,
    /// The bystander of this number.
    pub(crate) bystander: fn(u64) -> Option<Client>,
}

/// What became of the sign-ins of some bystanders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) refused: u32,
    pub(crate) lost: u32,
    pub(crate) finished: u32,
}

/// What came of a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// By how long the phones sleep, as in [`SLEEPS`].
    pub(crate) by_sleep: [Tally; 3],
    pub(crate) office: Tally,
    /// The most sessions that the attackers held.
    pub(crate) attackers: usize,
}

/// One bystander's sign-in.
struct SignIn {
    session: SessionId,
    began: u64,
    sleep: usize,
    office: bool,
}

impl SignIn {
    /// Its age when the phone wakes up.
    fn wakes_after(&self) -> u64 {
        SLEEPS_AFTER + SLEEPS[self.sleep] * 1_000
    }
}

struct Simulation<'s> {
    scenario: &'s Scenario,
    rule: Rule,
    store: Store,
    rate_limiter: RateLimiter,
    now: u64,
    next_attacker: usize,
    /// The attackers' sessions and when they were last polled, that first.
    held: VecDeque<(SessionId, u64)>,
    sign_ins: Vec<SignIn>,
    outcome: Outcome,
}

/// Lets bystanders sign in while the attackers create what they can.
pub(crate) fn simulate(scenario: &Scenario, rule: Rule, rate_limit: RateLimit) -> Outcome {
    let mut simulation = Simulation {
        scenario,
        rule,
        store: Store::new(NonZeroUsize::new(SESSIONS).unwrap()),
        rate_limiter: RateLimiter::new(rate_limit),
        now: 0,
        next_attacker: 0,
        held: VecDeque::new(),
        sign_ins: Vec::new(),
        outcome: Outcome::default(),
    };
    while simulation.now < ARRIVALS.end || !simulation.sign_ins.is_empty() {
        simulation.step();
        simulation.now += STEP;
    }
    simulation.outcome
}

impl Simulation<'_> {
    fn step(&mut self) {
        while self.store.sweep(self.at(), 64, &mut Vec::new()) {}
        self.attack();
        if ARRIVALS.contains(&self.now) && self.now % ARRIVAL == 0 {
            self.arrive((self.now - ARRIVALS.start) / ARRIVAL);
        }
        self.proceed();
    }

    fn at(&self) -> Timestamp {
        Timestamp {
            monotonic_ms: self.now,
            unix_ms: 0,
        }
    }

    fn create(&self, client: Option<Client>) -> Option<SessionId> {
        if let Some(client) = client {
            self.rate_limiter.try_acquire(client, self.now).ok()?;
        }
        let owner = match (self.rule, client) {
            (Rule::Shares, Some(client)) => Owner(client.networks().map(Network::key)),
            _ => Owner::UNKNOWN,
        };
        let (content, protocol) = (Content::new(b"", "").unwrap(), Protocol::Msc4108);
        let created = self
            .store
            .create(content, protocol, LIFETIME, owner, self.at());
        created.ok().map(|(session, _)| session)
    }

    fn poll(&self, session: SessionId) -> bool {
        self.store
            .read(session, Concurrency::ETag, self.at())
            .is_some()
    }

    fn is_due(&self, (_, polled): &(SessionId, u64)) -> bool {
        polled + ATTACKERS_POLL <= self.now
    }

    /// Polls what is about to be idle, and creates more.
    fn attack(&mut self) {
        while self.scenario.polls && self.held.front().is_some_and(|front| self.is_due(front)) {
            let polled = self
                .held
                .pop_front()
                .filter(|(session, _)| self.poll(*session));
            self.held
                .extend(polled.map(|(session, _)| (session, self.now)));
        }
        let attempts = match self.now {
            ..FILLING => FIRST_ATTEMPTS,
            _ if self.scenario.polls => ATTEMPTS,
            _ => ATTEMPTS_WITHOUT_POLLS,
        };
        for _ in 0..attempts {
            let attackers = &self.scenario.attackers;
            let attacker = attackers[self.next_attacker % attackers.len()];
            self.next_attacker += 1;
            let created = self.create(attacker);
            self.held.extend(created.map(|session| (session, self.now)));
        }
        let live = usize::try_from(self.store.counts().live).unwrap();
        let attackers = live.saturating_sub(self.sign_ins.len());
        self.outcome.attackers = self.outcome.attackers.max(attackers);
    }

    fn arrive(&mut self, number: u64) {
        let office = number % OFFICE == 0;
        let client = (self.scenario.bystander)(if office { 0 } else { number });
        let sleep = usize::try_from(number % 3).unwrap();
        match self.create(client) {
            Some(session) => self.sign_ins.push(SignIn {
                session,
                began: self.now,
                sleep,
                office,
            }),
            None => self.tally(sleep, office).refused += 1,
        }
    }

    /// Has all sign-ins go on that are due: to poll, to end, or to find out
    /// that the session is gone.
    fn proceed(&mut self) {
        for sign_in in std::mem::take(&mut self.sign_ins) {
            let age = self.now - sign_in.began;
            let sleeps = (SLEEPS_AFTER..sign_in.wakes_after()).contains(&age);
            let polls = age % 1_000 == 0 && !sleeps;
            let (sleep, office) = (sign_in.sleep, sign_in.office);
            if polls && !self.poll(sign_in.session) {
                self.tally(sleep, office).lost += 1;
            } else if age >= sign_in.wakes_after() + FINISHES_AFTER {
                self.store
                    .delete(sign_in.session, Concurrency::ETag, self.at());
                self.tally(sleep, office).finished += 1;
            } else {
                self.sign_ins.push(sign_in);
            }
        }
    }

    fn tally(&mut self, sleep: usize, office: bool) -> &mut Tally {
        match office {
            true => &mut self.outcome.office,
            false => &mut self.outcome.by_sleep[sleep],
        }
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// An IPv4 address anywhere.
fn ipv4(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits((scattered(number) >> 32) as u32)
}

/// Somebody at an IPv4 address anywhere.
pub(crate) fn anywhere(number: u64) -> Option<Client> {
    Some(IpAddr::from(ipv4(number)).into())
}

/// Somebody else at an IPv4 address anywhere.
pub(crate) fn elsewhere(number: u64) -> Option<Client> {
    anywhere(number + (1 << 32))
}

/// The networks of 64 bits of this number in 2001:db8:1::/48.
pub(crate) fn in_one_48(number: u64) -> Option<Client> {
    let network = 0x2001_0db8_0001_0000 | (number & 0xffff);
    Some(IpAddr::from(Ipv6Addr::from_bits(u128::from(network) << 64)).into())
}

/// A household in the /48 of [`in_one_48`], but not in the first /56.
pub(crate) fn next_door(number: u64) -> Option<Client> {
    in_one_48((number % 255 + 1) << 8)
}

/// Networks made of a hundred IPv4 addresses, 256 of each (6to4).
pub(crate) fn in_6to4(number: u64) -> Option<Client> {
    let address = u128::from(ipv4(number % 100).to_bits());
    let bits = 0x2002 << 112 | address << 80 | u128::from(number / 100 % 256) << 64;
    Some(IpAddr::from(Ipv6Addr::from_bits(bits)).into())
}

/// Somebody behind a proxy that does not say who.
pub(crate) fn unnamed(_: u64) -> Option<Client> {
    None
}
