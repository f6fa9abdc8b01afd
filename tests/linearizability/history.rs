//! What threads were told about one session, and whether an order of single
//! steps that agrees with real time explains it.

use std::collections::BTreeMap;

/// What an operation was told about a session. Revisions are counted from the
/// session's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It made a revision of the one it expected, or repeats the write that
    /// did; a create of none.
    Wrote {
        from: Option<u64>,
        to: u64,
        payload: u64,
    },
    /// This was there.
    Saw { revision: u64, payload: u64 },
    /// This was there, and a watch on it began or went on.
    Watched { revision: u64 },
    /// Another revision than this was there.
    Conflict { expected: u64 },
    /// It ended the session.
    Deleted,
    /// The session had ended.
    Gone,
}

/// An operation: when it began and returned, by a counter that all threads
/// share, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) invoked: u64,
    pub(crate) responded: u64,
    pub(crate) transaction: Option<u64>,
    pub(crate) outcome: Outcome,
}

/// A revision's making. Several operations may be one transaction, or one
/// write that was repeated; which of them was first is not known, but it was
/// before any of them returned.
#[derive(Clone, Debug)]
struct Making {
    invoked: u64,
    responded: u64,
    from: Vec<Option<u64>>,
    payloads: Vec<u64>,
}

impl Making {
    fn of(events: &[&Event]) -> Self {
        let mut making = Self {
            invoked: u64::MAX,
            responded: u64::MAX,
            from: Vec::new(),
            payloads: Vec::new(),
        };
        for event in events {
            making.invoked = making.invoked.min(event.invoked);
            making.responded = making.responded.min(event.responded);
            if let Outcome::Wrote { from, payload, .. } = event.outcome {
                making.from.push(from);
                making.payloads.push(payload);
            }
        }
        making
    }
}

/// Checks the history of one session.
pub(crate) fn check(history: &[Event]) -> Result<(), &'static str> {
    let makings = makings(history)?;
    let mut payloads: Vec<Vec<u64>> = makings.iter().map(|m| m.payloads.clone()).collect();
    for event in history {
        if let Outcome::Saw { revision, payload } = event.outcome {
            let index = usize::try_from(revision).unwrap();
            let written = payloads.get_mut(index).ok_or("a revision nobody made")?;
            if !written.contains(&payload) {
                return Err("a payload that was not written");
            }
            // From now on it is known whose it was.
            *written = vec![payload];
        }
        if let Outcome::Watched { revision } = event.outcome {
            let index = usize::try_from(revision).unwrap();
            makings.get(index).ok_or("a revision nobody made")?;
        }
    }
    conflicts(history, &makings)?;
    in_order(history, &makings)
}

/// The revisions' makings, from the first on: a chain.
fn makings(history: &[Event]) -> Result<Vec<Making>, &'static str> {
    let mut transactions: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    let mut plain: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    let mut writes: BTreeMap<u64, Making> = BTreeMap::new();
    let mut add = |to, making| match writes.insert(to, making) {
        Some(_) => Err("two writes of one revision"),
        None => Ok(()),
    };
    for event in history {
        match (event.transaction, event.outcome) {
            (Some(name), Outcome::Wrote { .. } | Outcome::Conflict { .. }) => {
                transactions.entry(name).or_default().push(event);
            }
            (None, Outcome::Wrote { to, .. }) => plain.entry(to).or_default().push(event),
            _ => {}
        }
    }
    for (to, events) in plain {
        if events
            .iter()
            .any(|event| event.outcome != events[0].outcome)
        {
            return Err("two writes of one revision");
        }
        add(to, Making::of(&events))?;
    }
    for events in transactions.values() {
        let made = |event: &&Event| match event.outcome {
            Outcome::Wrote { to, .. } => Some(to),
            _ => None,
        };
        let first = made(&events[0]);
        if events.iter().any(|event| made(event) != first) {
            return Err("a transaction's outcome changed");
        }
        if let Some(to) = first {
            add(to, Making::of(events))?;
        }
    }
    for (number, (to, making)) in (0..).zip(&writes) {
        let before = u64::checked_sub(number, 1);
        if *to != number || !making.from.contains(&before) {
            return Err("a gap between revisions");
        }
    }
    Ok(writes.into_values().collect())
}

/// A conflict with what was certainly there all the time is none.
fn conflicts(history: &[Event], makings: &[Making]) -> Result<(), &'static str> {
    let all_the_time = |event: &Event, revision: u64| {
        let index = usize::try_from(revision).unwrap();
        makings[index].responded < event.invoked
            && makings
                .get(index + 1)
                .is_none_or(|next| event.responded < next.invoked)
    };
    for event in history {
        if let (None, Outcome::Conflict { expected }) = (event.transaction, event.outcome) {
            if all_the_time(event, expected) {
                return Err("a conflict without a cause");
            }
        }
    }
    Ok(())
}

/// Nothing that returned before something else began may belong behind it. As
/// every outcome has its place in the chain, this is all there is to it.
fn in_order(history: &[Event], makings: &[Making]) -> Result<(), &'static str> {
    let mut placed: Vec<(u64, u64, u64)> = Vec::new();
    for (place, making) in (0..).zip(makings) {
        placed.push((making.invoked, making.responded, 2 * place));
    }
    let end = 2 * makings.len() as u64;
    let repeated = |to: u64| makings[usize::try_from(to).unwrap()].from.len() > 1;
    let mut deleted = 0;
    for event in history {
        let (first, last) = match event.outcome {
            Outcome::Saw { revision, .. } | Outcome::Watched { revision } => {
                (2 * revision + 1, 2 * revision + 1)
            }
            Outcome::Wrote { to, .. } if event.transaction.is_some() => (2 * to, end),
            // Only while what it wrote is there.
            Outcome::Wrote { to, .. } if repeated(to) => (2 * to, 2 * to + 1),
            Outcome::Wrote { to, .. } => (2 * to, 2 * to),
            Outcome::Conflict { .. } => (0, end),
            Outcome::Deleted => {
                deleted += 1;
                (end + 1, end + 1)
            }
            Outcome::Gone => (end + 2, end + 2),
        };
        // What has a range is late enough at its end, early enough at its
        // beginning: it constrains others by neither.
        placed.push((event.invoked, 0, last));
        placed.push((u64::MAX, event.responded, first));
    }
    if deleted > 1 {
        return Err("deleted twice");
    }
    placed.sort_unstable();
    let mut returned: Vec<(u64, u64)> = placed.iter().map(|p| (p.1, p.2)).collect();
    returned.retain(|(responded, _)| *responded > 0);
    returned.sort_unstable();
    let mut returned = returned.into_iter().peekable();
    let mut least = 0;
    for (invoked, _, place) in placed.into_iter().filter(|p| p.0 < u64::MAX) {
        while let Some((_, before)) = returned.next_if(|(responded, _)| *responded < invoked) {
            least = least.max(before);
        }
        if place < least {
            return Err("back in time");
        }
    }
    Ok(())
}

/// A history: each line the time invoked, the time returned, the transaction
/// or 0, and the outcome.
fn history(lines: &[(u64, u64, u64, Outcome)]) -> Vec<Event> {
    let event = |(invoked, responded, transaction, outcome)| Event {
        invoked,
        responded,
        transaction: (transaction > 0).then_some(transaction),
        outcome,
    };
    lines.iter().copied().map(event).collect()
}

#[test]
fn the_checker_finds_every_kind_of_fault() {
    use Outcome::{Conflict, Deleted, Gone};
    let made = |from, to, payload| Outcome::Wrote { from, to, payload };
    let wrote = |to: u64, payload| made(to.checked_sub(1), to, payload);
    let saw = |revision, payload| Outcome::Saw { revision, payload };
    let watched = |revision| Outcome::Watched { revision };
    let created = (1, 2, 0, wrote(0, 7));
    let conflict = |expected| Conflict { expected };
    let outcome = |rest: &[_]| check(&history(&[&[created], rest].concat()));

    let sound: [&[_]; 7] = [
        &[
            (3, 4, 0, watched(0)),
            (5, 8, 0, wrote(1, 8)),
            (6, 7, 0, watched(0)),
            (9, 10, 0, saw(1, 8)),
        ],
        &[
            (3, 6, 0, wrote(1, 8)),
            (4, 5, 0, wrote(1, 8)),
            (7, 8, 0, saw(1, 8)),
            (9, 14, 0, wrote(1, 8)),
            (10, 13, 0, wrote(2, 9)),
            (11, 12, 0, saw(2, 9)),
        ],
        &[
            (3, 6, 0, wrote(1, 8)),
            (4, 5, 0, saw(1, 8)),
            (4, 7, 0, saw(0, 7)),
        ],
        &[
            (3, 6, 0, wrote(1, 8)),
            (4, 5, 0, conflict(0)),
            (7, 8, 0, Deleted),
            (9, 10, 0, Gone),
        ],
        &[
            (3, 6, 1, wrote(1, 8)),
            (4, 7, 1, wrote(1, 9)),
            (8, 9, 0, saw(1, 9)),
        ],
        &[
            (3, 4, 0, wrote(1, 8)),
            (5, 6, 1, conflict(0)),
            (7, 8, 1, conflict(1)),
        ],
        &[
            (3, 4, 1, wrote(1, 8)),
            (5, 6, 0, wrote(2, 9)),
            (7, 8, 1, wrote(1, 5)),
            (9, 10, 0, saw(2, 9)),
        ],
    ];
    for rest in sound {
        assert_eq!(outcome(rest), Ok(()), "{rest:?}");
    }
    let faults: [(&str, &[_]); 23] = [
        (
            "back in time",
            &[(3, 4, 0, wrote(1, 8)), (5, 6, 0, watched(0))],
        ),
        (
            "back in time",
            &[(3, 4, 0, watched(1)), (5, 6, 0, wrote(1, 8))],
        ),
        ("back in time", &[(3, 4, 0, Gone), (5, 6, 0, watched(0))]),
        ("a revision nobody made", &[(3, 4, 0, watched(1))]),
        (
            "two writes of one revision",
            &[(3, 6, 0, wrote(1, 8)), (4, 5, 0, wrote(1, 9))],
        ),
        (
            "two writes of one revision",
            &[(3, 6, 1, wrote(1, 8)), (4, 5, 2, wrote(1, 9))],
        ),
        (
            "two writes of one revision",
            &[(3, 6, 0, wrote(1, 8)), (4, 5, 2, wrote(1, 8))],
        ),
        (
            "back in time",
            &[
                (3, 4, 0, wrote(1, 8)),
                (5, 6, 0, wrote(2, 9)),
                (7, 8, 0, wrote(1, 8)),
            ],
        ),
        (
            "back in time",
            &[
                (3, 8, 0, wrote(1, 8)),
                (4, 5, 0, wrote(1, 8)),
                (6, 7, 0, saw(0, 7)),
            ],
        ),
        ("a gap between revisions", &[(3, 4, 0, made(Some(0), 2, 8))]),
        (
            "a gap between revisions",
            &[(3, 4, 0, wrote(1, 8)), (5, 6, 0, made(Some(0), 2, 9))],
        ),
        ("a revision nobody made", &[(3, 4, 0, saw(1, 7))]),
        ("a payload that was not written", &[(3, 4, 0, saw(0, 8))]),
        (
            "a payload that was not written",
            &[
                (3, 6, 1, wrote(1, 8)),
                (4, 7, 1, wrote(1, 9)),
                (8, 9, 0, saw(1, 9)),
                (8, 9, 0, saw(1, 8)),
            ],
        ),
        (
            "a transaction's outcome changed",
            &[(3, 4, 1, wrote(1, 8)), (5, 6, 1, wrote(2, 9))],
        ),
        (
            "a transaction's outcome changed",
            &[(3, 4, 1, conflict(0)), (5, 6, 1, wrote(1, 8))],
        ),
        ("a conflict without a cause", &[(3, 4, 0, conflict(0))]),
        (
            "a conflict without a cause",
            &[
                (3, 4, 0, wrote(1, 8)),
                (5, 6, 0, conflict(1)),
                (7, 8, 0, wrote(2, 9)),
            ],
        ),
        (
            "back in time",
            &[(3, 4, 0, wrote(1, 8)), (5, 6, 0, saw(0, 7))],
        ),
        (
            "back in time",
            &[
                (3, 9, 0, wrote(1, 8)),
                (4, 5, 0, saw(1, 8)),
                (6, 7, 0, saw(0, 7)),
            ],
        ),
        (
            "back in time",
            &[(3, 4, 0, saw(1, 8)), (5, 6, 0, wrote(1, 8))],
        ),
        ("back in time", &[(3, 4, 0, Gone), (5, 6, 0, saw(0, 7))]),
        ("deleted twice", &[(3, 6, 0, Deleted), (4, 5, 0, Deleted)]),
    ];
    for (fault, rest) in faults {
        assert_eq!(outcome(rest), Err(fault), "{rest:?}");
    }
}
