//! How long one operation can keep others from the store, at up to 100 000
//! sessions, and how much threads get done at once.
//!
//! `cargo bench --bench store [-- SESSIONS…]`
//!
//! Each operation is timed whole, random numbers and allocation included, so
//! the figures are upper bounds of how long the lock is held. CPU time leaves
//! out what other programs do meanwhile but not what a hypervisor does, so
//! everything is done five times: what the store itself needs comes back in
//! every run and is in the least of the five longest times. The others show
//! how quiet the machine was.

use std::env;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use rendezvousd::clock::Timestamp;
use rendezvousd::protocol::{Concurrency, Protocol};
use rendezvousd::reaper::BATCH;
use rendezvousd::session::{Content, Revision, SessionId};
use rendezvousd::store::{Owner, Store};
use rustix::time::{ClockId, clock_gettime};

const TTL: Duration = Duration::from_secs(60);

fn main() {
    println!(
        "{:>9}  {:<18} {:>9}   longest: {:>10} {:>10} {:>10}",
        "sessions", "operation", "mean", "least run", "median", "worst run"
    );
    // Cargo adds `--bench`.
    let words = env::args().skip(1).filter(|word| word != "--bench");
    let mut numbers: Vec<usize> = words
        .map(|word| word.parse().expect("a number of sessions"))
        .collect();
    if numbers.is_empty() {
        numbers = vec![1_000, 10_000, 100_000];
    }
    for &sessions in &numbers {
        let runs: Vec<Vec<Row>> = (0..RUNS).map(|_| measure(sessions)).collect();
        for place in 0..runs[0].len() {
            let rows: Vec<&Row> = runs.iter().map(|rows| &rows[place]).collect();
            print(sessions, &rows);
        }
    }
    println!(
        "\n{:>9}  {:>7}  {:>24}",
        "sessions", "threads", "operations a second"
    );
    for &sessions in &numbers {
        for threads in [1, 2, 4] {
            let mut rates: Vec<f64> = (0..RUNS).map(|_| rate(sessions, threads)).collect();
            rates.sort_unstable_by(f64::total_cmp);
            println!("{sessions:>9}  {threads:>7}  {:>24.0}", rates[RUNS / 2]);
        }
    }
}

/// Operations a second that threads do at once, as many as there are workers,
/// ten reads to a write as in a sign-in: where one mutex for all would begin
/// to matter.
fn rate(sessions: usize, threads: usize) -> f64 {
    const OPERATIONS: usize = 500_000;
    let store = Store::new(NonZeroUsize::new(sessions).expect("not zero"));
    let content = Content::new(&[b'x'; 200], "text/plain").expect("a short type");
    let known: Vec<(SessionId, Revision)> = (0..sessions)
        .map(|number| {
            let owner = owner(number);
            let created = store.create(content.clone(), Protocol::Msc3886, TTL, owner, at(0));
            let (id, session) = created.expect("random numbers");
            (id, session.revision)
        })
        .collect();
    let start = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let (store, content, known) = (&store, &content, &known);
            scope.spawn(move || {
                for step in 0..OPERATIONS / threads {
                    let place = (step * threads + thread) * 7_919 % sessions;
                    let (id, revision) = known[place];
                    if step % 11 == 10 {
                        // A conflict, where it was written before, costs the same.
                        let _ = store.write(id, Some(revision), content.clone(), at(1_000));
                    } else {
                        store.read(id, Concurrency::ETag, at(1_000));
                    }
                }
            });
        }
    });
    OPERATIONS as f64 / start.elapsed().as_secs_f64()
}

const RUNS: usize = 5;

/// How often each session is deleted and another created, on average.
const CHURN: usize = 10;

/// One line for the same operation of all runs.
fn print(sessions: usize, rows: &[&Row]) {
    let sorted = |of: fn(&Row) -> Duration| {
        let mut values: Vec<Duration> = rows.iter().map(|row| of(row)).collect();
        values.sort_unstable();
        values
    };
    let longest = sorted(|row| row.longest);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{sessions:>9}  {:<18} {:>6} ns            {:>7.1} µs {:>7.1} µs {:>7.1} µs",
        rows[0].name,
        sorted(|row| row.total / row.times)[RUNS / 2].as_nanos(),
        micros(longest[0]),
        micros(longest[RUNS / 2]),
        micros(longest[RUNS - 1]),
    );
}

fn measure(sessions: usize) -> Vec<Row> {
    let store = Store::new(NonZeroUsize::new(sessions).expect("not zero"));
    let content = Content::new(&[b'x'; 200], "text/plain").expect("a short type");
    let mut known: Vec<(SessionId, Revision)> = Vec::with_capacity(sessions);
    let mut number = 0;
    let mut create = |now| {
        number += 1;
        store
            .create(content.clone(), Protocol::Msc3886, TTL, owner(number), now)
            .expect("random numbers")
    };

    let mut fill = Row::new("create, filling");
    for _ in 0..sessions {
        let (id, session) = fill.time(|| create(at(0)));
        known.push((id, session.revision));
    }

    let mut read = Row::new("read");
    let mut write = Row::new("write");
    for step in 0..sessions {
        // A stride that meets every session, far from the last one.
        let place = step * 7_919 % sessions;
        let (id, revision) = known[place];
        read.time(|| {
            store
                .read(id, Concurrency::ETag, at(1_000))
                .expect("a live session")
        });
        let written = write.time(|| {
            let content = content.clone();
            store.write(id, Some(revision), content, at(1_000))
        });
        known[place].1 = written.expect("a live session").revision;
    }

    let mut evict = Row::new("create, evicting");
    for one in &mut known {
        let (id, session) = evict.time(|| create(at(20_000)));
        *one = (id, session.revision);
    }

    // Deletions in no order, as many as leave their marks in the map's table.
    let mut delete = Row::new("delete");
    let mut create_again = Row::new("create, after it");
    let mut held: Vec<SessionId> = known.iter().map(|(id, _)| *id).collect();
    for step in 0..CHURN * sessions {
        let place = step * 7_919 % sessions;
        delete.time(|| store.delete(held[place], Concurrency::ETag, at(20_000)));
        held[place] = create_again.time(|| create(at(20_000))).0;
    }

    let mut sweep = Row::new("sweep of a batch");
    let mut gone = Vec::with_capacity(BATCH);
    while sweep.time(|| store.sweep(at(1_000_000), BATCH, &mut gone)) {
        gone.clear();
    }
    assert_eq!(store.counts().live, 0);
    vec![fill, read, write, evict, delete, create_again, sweep]
}

/// The owner of the session of this number: a hundred groups with ten groups
/// each, and a tenth of the owners have two sessions.
fn owner(number: usize) -> Owner {
    let [wide, narrow, own] = [number % 100, number / 100 % 10, number - number % 10 / 9];
    Owner([wide, narrow, own].map(|key| key as u64))
}

fn at(monotonic_ms: u64) -> Timestamp {
    Timestamp {
        monotonic_ms,
        unix_ms: 0,
    }
}

/// The times of one operation.
struct Row {
    name: &'static str,
    times: u32,
    total: Duration,
    longest: Duration,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            times: 0,
            total: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }

    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = cpu();
        let result = operation();
        let spent = cpu().saturating_sub(start);
        self.times += 1;
        self.total += spent;
        self.longest = self.longest.max(spent);
        result
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
