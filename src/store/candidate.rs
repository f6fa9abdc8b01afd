//! Fair shares: whose session makes room for a new one when the store is full.

use super::lists::{NONE, Number};
use super::owners::{LEVELS, Owner, Owners, ROOT};
use crate::session::SessionId;

/// Whose least recently used session may be evicted for one that an owner
/// creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// That of the owner at this node, in use or not: the owner, or a group
    /// that it is in, holds more than the creating owner's will.
    Heavier(Number),
    /// That of the creating owner, at this node, unless it is in use.
    Own(Number),
    /// One of the creating owner's siblings in this tier, at this level, unless
    /// it is in use: each holds one.
    Siblings(Number, usize),
    /// That of all owners, unless it is in use: each holds one.
    Any,
}

impl Owners {
    /// Whose session may be evicted for a new one of `owner`; there must be
    /// sessions.
    ///
    /// On the owner's path, the heaviest node at each level is compared with the
    /// owner's, and gives way if it holds more than that will: at least two more
    /// than it does now. So nobody who holds their share or less gives
    /// way, where the root's share is all sessions, and that of a child the
    /// parent's share divided by the number of children: the heaviest holds
    /// more than the average, and so does the heaviest child of it.
    pub(super) fn candidate(&self, owner: Owner) -> Candidate {
        let mut node = ROOT;
        for (level, key) in owner.0.into_iter().enumerate() {
            let heaviest = self.heaviest(node);
            let own = self.child(node, key);
            let will_hold = match own {
                NONE => 1,
                _ => self.nodes[own].count + 1,
            };
            if self.nodes[heaviest].count > will_hold {
                return Candidate::Heavier(self.heaviest_owner(heaviest, level));
            }
            match (own, node) {
                (NONE, ROOT) => return Candidate::Any,
                (NONE, _) => return Candidate::Siblings(self.nodes[heaviest].tier, level),
                _ => node = own,
            }
        }
        Candidate::Own(node)
    }

    /// The child of a group that holds most sessions.
    fn heaviest(&self, node: Number) -> Number {
        let tier = self.nodes[node].members.last;
        self.tiers[tier].nodes.last
    }

    /// The owner to which the heaviest children of a node lead; itself, at the
    /// last level.
    fn heaviest_owner(&self, node: Number, level: usize) -> Number {
        (level + 1..LEVELS).fold(node, |node, _| self.heaviest(node))
    }

    /// The session of the first owner of a tier at this level, each of which
    /// holds one.
    pub(super) fn first_of_tier(&self, tier: Number, level: usize) -> SessionId {
        self.least_recent(self.heaviest_owner(self.tiers[tier].nodes.first, level))
    }

    /// Makes the first of a tier its last.
    pub(super) fn rotate(&mut self, tier: Number) {
        let nodes = &mut self.tiers[tier].nodes;
        let first = nodes.first;
        self.nodes.remove(nodes, first);
        self.nodes.push_back(nodes, first);
    }
}
