use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::candidate::Candidate;

fn id(number: u64) -> SessionId {
    let mut bits = [0; 16];
    bits[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::new(bits)
}

fn owners(capacity: usize) -> Owners {
    Owners::new(NonZeroUsize::new(capacity).unwrap())
}

/// A tree with these owners' sessions, named by their place among them.
fn tree(sessions: &[[u64; 3]]) -> (Owners, Vec<Number>) {
    let mut owners = owners(sessions.len());
    let sessions = (0..).zip(sessions);
    let numbers = sessions.map(|(number, path)| owners.add(Owner(*path), id(number)));
    let numbers = numbers.collect();
    (owners, numbers)
}

/// Whose session would go for a new one of this owner: its place, and whether
/// also one in use.
fn candidate(owners: &Owners, newcomer: [u64; 3]) -> Option<(u64, bool)> {
    let (session, in_use) = match owners.candidate(Owner(newcomer)) {
        Candidate::Heavier(node) => (owners.least_recent(node), true),
        Candidate::Own(node) => (owners.least_recent(node), false),
        Candidate::Siblings(tier, level) => (owners.first_of_tier(tier, level), false),
        Candidate::Any => return None,
    };
    let bits = session.bits();
    Some((u64::from_le_bytes(bits[..8].try_into().unwrap()), in_use))
}

const A: [u64; 3] = [1, 1, 1];
const B: [u64; 3] = [2, 1, 1];
const C: [u64; 3] = [3, 1, 1];

#[test]
fn who_holds_more_than_the_newcomer_will_gives_up_the_least_recently_used() {
    let (mut owners, numbers) = tree(&[A, A, B]);
    assert_eq!(candidate(&owners, C), Some((0, true)));
    owners.promote(numbers[0]);
    assert_eq!(candidate(&owners, C), Some((1, true)));
    owners.demote(numbers[0]);
    assert_eq!(candidate(&owners, C), Some((0, true)));
    // B would hold as many as A then, and A no fewer than B.
    assert_eq!(candidate(&owners, B), Some((2, false)));
    assert_eq!(candidate(&owners, A), Some((0, false)));
    owners.remove(numbers[1]);
    assert_eq!(candidate(&owners, C), None);
}

#[test]
fn a_group_counts_as_one_however_many_are_in_it() {
    let (owners, _) = tree(&[[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 3, 1], B, B]);
    // Of the heavy group, it is the heaviest that gives way.
    assert_eq!(candidate(&owners, C), Some((1, true)));
    assert_eq!(candidate(&owners, B), Some((1, true)));
    // A newcomer to it has no claim on others.
    assert_eq!(candidate(&owners, [1, 9, 1]), Some((1, true)));
    assert_eq!(candidate(&owners, [1, 2, 1]), Some((2, false)));
    assert_eq!(candidate(&owners, [1, 2, 2]), Some((2, false)));
    assert_eq!(candidate(&owners, [1, 1, 3]), Some((0, false)));
}

#[test]
fn equals_give_way_in_turns_and_the_one_that_grew_last_first() {
    let (mut owners, numbers) = tree(&[A, B, A, B, A, B]);
    assert_eq!(candidate(&owners, C), Some((1, true)));
    owners.remove(numbers[1]);
    assert_eq!(candidate(&owners, C), Some((0, true)));
    owners.remove(numbers[0]);
    assert_eq!(candidate(&owners, C), Some((3, true)));
}

/// The counts of all nodes by their paths.
type Counts = BTreeMap<Vec<u64>, u32>;

/// Checks the links and counts below a node; returns its depth's counts.
fn check(owners: &Owners, node: Number, path: &[u64], counts: &mut Counts) -> u32 {
    let members = owners.nodes[node].members;
    let mut total = 0;
    if path.len() == LEVELS {
        let mut number = members.first;
        while number != NONE {
            assert_eq!(owners.entries[number].owner, node);
            total += 1;
            number = owners.entries.next(number);
        }
        return total;
    }
    let (mut tier, mut count) = (members.first, 0);
    while tier != NONE {
        assert!(owners.tiers[tier].count > count, "not in order");
        count = owners.tiers[tier].count;
        let mut child = owners.tiers[tier].nodes.first;
        assert_ne!(child, NONE, "an empty tier");
        while child != NONE {
            let node = &owners.nodes[child];
            assert_eq!((node.count, node.tier), (count, tier));
            assert_eq!(owners.child(node.parent, node.key), child);
            let path = [path, &[node.key]].concat();
            assert_eq!(check(owners, child, &path, counts), count);
            counts.insert(path, count);
            total += count;
            child = owners.nodes.next(child);
        }
        tier = owners.tiers.next(tier);
    }
    total
}

/// The counts that a list of sessions' owners makes.
fn counted(sessions: &[(Number, [u64; 3], u64)]) -> Counts {
    let mut counts = Counts::new();
    for (_, path, _) in sessions {
        for length in 1..=LEVELS {
            *counts.entry(path[..length].to_vec()).or_default() += 1;
        }
    }
    counts
}

/// Whether the owner at a path may lose a session in use to a newcomer, and
/// whether it may lose one at all, by the rule as it is told.
fn may_lose(counts: &Counts, path: [u64; 3], newcomer: [u64; 3]) -> (bool, bool) {
    let count = |path: &[u64]| counts.get(path).copied().unwrap_or(0);
    let heaviest = |path: &[u64]| {
        let children = counts
            .iter()
            .filter(|(child, _)| child.len() == path.len() + 1 && child.starts_with(path));
        children.map(|(_, count)| *count).max().unwrap_or(0)
    };
    for level in 0..LEVELS {
        let above = &newcomer[..level];
        let will_hold = count(&newcomer[..=level]) + 1;
        let is_new = will_hold == 1;
        if heaviest(above) > will_hold || is_new {
            let descends =
                (level..LEVELS).all(|level| count(&path[..=level]) == heaviest(&path[..level]));
            let chosen = path[..level] == *above && descends;
            return (chosen && heaviest(above) > will_hold, chosen);
        }
    }
    (false, path == newcomer)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Add([u64; 3]),
    Remove(usize),
    Promote(usize),
    Demote(usize),
}

fn path() -> impl Strategy<Value = [u64; 3]> {
    (0..4_u64, 0..3_u64, 0..3_u64).prop_map(|(wide, narrow, own)| [wide, narrow, own])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => path().prop_map(Step::Add),
        4 => any::<usize>().prop_map(Step::Remove),
        2 => any::<usize>().prop_map(Step::Promote),
        1 => any::<usize>().prop_map(Step::Demote),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever comes and goes: links, counts and the order of use are those of
    /// a plain list, whom the rule chooses gives way, and the tree takes no more
    /// than is said.
    #[test]
    fn the_tree_is_what_a_plain_list_says(steps in steps(), newcomers in [path(), path(), path()]) {
        const MOST: usize = 40;
        let mut owners = owners(MOST);
        // The least recently used first.
        let mut sessions: Vec<(Number, [u64; 3], u64)> = Vec::new();
        for (step, name) in steps.into_iter().zip(0..) {
            let place = |index: usize| index % sessions.len().max(1);
            match step {
                Step::Add(path) if sessions.len() < MOST => {
                    sessions.push((owners.add(Owner(path), id(name)), path, name));
                }
                Step::Remove(index) if !sessions.is_empty() => {
                    owners.remove(sessions.remove(place(index)).0);
                }
                Step::Promote(index) if !sessions.is_empty() => {
                    let session = sessions.remove(place(index));
                    owners.promote(session.0);
                    sessions.push(session);
                }
                Step::Demote(index) if !sessions.is_empty() => {
                    let session = sessions.remove(place(index));
                    owners.demote(session.0);
                    sessions.insert(0, session);
                }
                _ => {}
            }
            let mut counts = Counts::new();
            check(&owners, ROOT, &[], &mut counts);
            prop_assert_eq!(&counts, &counted(&sessions));
            for (number, path, _) in &sessions {
                prop_assert_eq!(owners.owner(*number), Owner(*path));
            }
            for newcomer in newcomers.iter().filter(|_| !sessions.is_empty()) {
                let Some((victim, in_use)) = candidate(&owners, *newcomer) else {
                    let mut single = counts.iter().filter(|(path, _)| path.len() == 1);
                    prop_assert!(single.all(|(path, count)| *count == 1 && path[0] != newcomer[0]));
                    continue;
                };
                let owner = sessions.iter().find(|(_, _, name)| *name == victim).unwrap().1;
                let (may_in_use, may) = may_lose(&counts, owner, *newcomer);
                prop_assert!(may && may_in_use == in_use, "{:?} for {:?}", owner, newcomer);
                let oldest = sessions.iter().find(|(_, path, _)| *path == owner).unwrap();
                prop_assert_eq!(oldest.2, victim, "not the least recently used");
            }
        }
        let (nodes, tiers) = most(MOST);
        prop_assert!(owners.nodes.len() <= nodes + 1 && owners.tiers.len() <= tiers + 1);
    }
}

#[test]
fn sessions_without_anything_in_common_take_no_more_than_is_said() {
    for count in [1, 7, 1_000] {
        let paths: Vec<[u64; 3]> = (0..count).map(|number| [number, number, number]).collect();
        let (mut owners, numbers) = tree(&paths);
        let (nodes, tiers) = most(paths.len());
        assert_eq!(owners.nodes.len(), nodes + 1);
        assert!(owners.tiers.len() <= tiers + 1);
        numbers.into_iter().for_each(|number| owners.remove(number));
        assert!(owners.chains.iter().all(|chain| *chain == NONE));
    }
}
