//! Sessions by owner: who holds how many.
//!
//! An owner is a path in a tree: its own key and those of the ever wider
//! groups that it is in. The children of a group that hold the same number of
//! sessions are a tier, and the tiers are in the order of that number. A session
//! that comes or goes moves its owner, and each group above, to the next tier,
//! so all steps take constant time; and they allocate nothing.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;

use super::lists::{List, Lists, NONE, Number};
use crate::session::SessionId;

#[cfg(test)]
mod tests;

/// Levels of the tree.
pub(super) const LEVELS: usize = 3;

/// Who has created a session: the keys of the groups that they are in, the
/// widest first, and last their own. A key tells apart what is in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub [u64; LEVELS]);

impl Owner {
    /// All whose owner is not known. They count as one.
    pub const UNKNOWN: Self = Self([u64::MAX; LEVELS]);
}

/// An owner, or a group of them.
#[derive(Debug, Default)]
pub(super) struct Node {
    key: u64,
    parent: Number,
    /// Sessions that it holds.
    pub(super) count: u32,
    /// The tier that it is in, of its parent's children with this count.
    pub(super) tier: Number,
    /// The tiers of its children, the heaviest last; of an owner, the sessions,
    /// the least recently used first.
    pub(super) members: List,
    /// The next node with the same hash.
    chained: Number,
}

/// The children of a group that hold the same number of sessions. The last is
/// the one that has grown to it last.
#[derive(Debug, Default)]
pub(super) struct Tier {
    count: u32,
    pub(super) nodes: List,
}

#[derive(Debug)]
struct Entry {
    id: SessionId,
    owner: Number,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            id: SessionId::new([0; 16]),
            owner: NONE,
        }
    }
}

/// The root of the tree. It is in no tier.
pub(super) const ROOT: Number = NONE;

/// The tree of owners.
#[derive(Debug)]
pub(super) struct Owners {
    pub(super) nodes: Lists<Node>,
    pub(super) tiers: Lists<Tier>,
    entries: Lists<Entry>,
    /// The first nodes of the chains by hash: of the parent and the key, which
    /// are up to peers, with random keys.
    chains: Box<[Number]>,
    hasher: RandomState,
}

/// Nodes and tiers that there are at most: each session may have a path of its
/// own. The root's tiers are extra; their counts differ, so they are fewer than
/// the square root of twice the sessions.
const fn most(capacity: usize) -> (usize, usize) {
    let extra = if capacity < 1024 { capacity } else { 1024 };
    (LEVELS * capacity, (LEVELS - 1) * capacity + extra)
}

/// Chains of the hash table: two to four a session.
fn chains(capacity: usize) -> usize {
    (2 * capacity).next_power_of_two()
}

impl Owners {
    /// What a tree for so many sessions takes, in bytes.
    pub(super) fn size(capacity: NonZeroUsize) -> usize {
        let capacity = capacity.get();
        let (nodes, tiers) = most(capacity);
        (nodes + 1) * Lists::<Node>::ITEM
            + (tiers + 1) * Lists::<Tier>::ITEM
            + (capacity + 1) * Lists::<Entry>::ITEM
            + chains(capacity) * size_of::<Number>()
    }

    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        let capacity = capacity.get();
        let (nodes, tiers) = most(capacity);
        Self {
            nodes: Lists::with_capacity(nodes),
            tiers: Lists::with_capacity(tiers),
            entries: Lists::with_capacity(capacity),
            chains: vec![NONE; chains(capacity)].into(),
            hasher: RandomState::new(),
        }
    }

    /// Adds a session, as its owner's most recently used; returns the number
    /// by which it is named here.
    pub(super) fn add(&mut self, owner: Owner, id: SessionId) -> Number {
        let mut node = ROOT;
        for key in owner.0 {
            let parent = node;
            node = self.child(parent, key);
            if node == NONE {
                node = self.add_node(parent, key);
            }
            self.grow(node);
        }
        let number = self.entries.add(Entry { id, owner: node });
        let sessions = &mut self.nodes[node].members;
        self.entries.push_back(sessions, number);
        number
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, number: Number) {
        let mut node = self.entries[number].owner;
        let sessions = &mut self.nodes[node].members;
        self.entries.remove(sessions, number);
        self.entries.free(number);
        while node != ROOT {
            let parent = self.nodes[node].parent;
            self.shrink(node);
            node = parent;
        }
    }

    /// Makes a session its owner's most recently used.
    #[inline]
    pub(super) fn promote(&mut self, number: Number) {
        let sessions = &mut self.nodes[self.entries[number].owner].members;
        if sessions.last != number {
            self.entries.remove(sessions, number);
            self.entries.push_back(sessions, number);
        }
    }

    /// Makes a session its owner's least recently used.
    pub(super) fn demote(&mut self, number: Number) {
        let sessions = &mut self.nodes[self.entries[number].owner].members;
        self.entries.remove(sessions, number);
        self.entries.push_front(sessions, number);
    }

    /// The owner of a session.
    pub(super) fn owner(&self, number: Number) -> Owner {
        let mut node = self.entries[number].owner;
        let mut keys = [0; LEVELS];
        for key in keys.iter_mut().rev() {
            *key = self.nodes[node].key;
            node = self.nodes[node].parent;
        }
        Owner(keys)
    }

    /// The least recently used session of the owner at a node.
    pub(super) fn least_recent(&self, node: Number) -> SessionId {
        self.entries[self.nodes[node].members.first].id
    }

    fn chain(&self, parent: Number, key: u64) -> usize {
        let hash = self.hasher.hash_one((parent, key));
        // Their number is a power of two.
        usize::try_from(hash & (self.chains.len() as u64 - 1)).unwrap_or_default()
    }

    /// The child with this key, or [`NONE`].
    pub(super) fn child(&self, parent: Number, key: u64) -> Number {
        let mut number = self.chains[self.chain(parent, key)];
        while number != NONE {
            let node = &self.nodes[number];
            if node.parent == parent && node.key == key {
                break;
            }
            number = node.chained;
        }
        number
    }

    /// Adds a node that holds nothing and is in no tier yet.
    fn add_node(&mut self, parent: Number, key: u64) -> Number {
        let chain = self.chain(parent, key);
        let number = self.nodes.add(Node {
            key,
            parent,
            chained: self.chains[chain],
            ..Node::default()
        });
        self.chains[chain] = number;
        number
    }

    /// Removes a node that holds nothing and is in no tier any more.
    fn remove_node(&mut self, number: Number) {
        let Node {
            key,
            parent,
            chained,
            ..
        } = self.nodes[number];
        let chain = self.chain(parent, key);
        let mut before = self.chains[chain];
        if before == number {
            self.chains[chain] = chained;
        } else {
            while self.nodes[before].chained != number {
                before = self.nodes[before].chained;
            }
            self.nodes[before].chained = chained;
        }
        self.nodes.free(number);
    }

    /// Counts one session more and moves the node to the tier above its own.
    fn grow(&mut self, number: Number) {
        let Node {
            parent,
            count,
            tier,
            ..
        } = self.nodes[number];
        let next = match tier {
            NONE => self.nodes[parent].members.first,
            _ => self.tiers.next(tier),
        };
        let target = self.tier(parent, count + 1, next, tier);
        self.leave_tier(number);
        let node = &mut self.nodes[number];
        (node.count, node.tier) = (count + 1, target);
        let nodes = &mut self.tiers[target].nodes;
        self.nodes.push_back(nodes, number);
    }

    /// Counts one session less and moves the node to the tier below its own,
    /// but removes it if it holds none any more.
    fn shrink(&mut self, number: Number) {
        let Node {
            parent,
            count,
            tier,
            ..
        } = self.nodes[number];
        if count == 1 {
            self.leave_tier(number);
            self.remove_node(number);
            return;
        }
        let previous = self.tiers.previous(tier);
        let target = self.tier(parent, count - 1, previous, previous);
        self.leave_tier(number);
        let node = &mut self.nodes[number];
        (node.count, node.tier) = (count - 1, target);
        let nodes = &mut self.tiers[target].nodes;
        self.nodes.push_front(nodes, number);
    }

    /// The tier of a group's children with this count: `neighbour`, if it is
    /// that, or else a new one behind `previous`.
    fn tier(&mut self, parent: Number, count: u32, neighbour: Number, previous: Number) -> Number {
        if neighbour != NONE && self.tiers[neighbour].count == count {
            return neighbour;
        }
        let tier = self.tiers.add(Tier {
            count,
            ..Tier::default()
        });
        let tiers = &mut self.nodes[parent].members;
        self.tiers.insert_after(tiers, tier, previous);
        tier
    }

    /// Takes a node out of its tier, and removes that if it is empty then.
    fn leave_tier(&mut self, number: Number) {
        let Node { parent, tier, .. } = self.nodes[number];
        if tier == NONE {
            return;
        }
        let nodes = &mut self.tiers[tier].nodes;
        self.nodes.remove(nodes, number);
        if *nodes == List::default() {
            let tiers = &mut self.nodes[parent].members;
            self.tiers.remove(tiers, tier);
            self.tiers.free(tier);
        }
    }
}
