//! The name of a node, and session ids as clients see them.

use std::fmt;
use std::str::{self, FromStr};

use super::id::SessionId;

/// The name of one of several servers behind a load balancer, which routes
/// requests by it: 1 to 8 of `a-z` and `0-9`, as they need no escaping in a
/// path or in a balancer's pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeName([u8; Self::MAX_LENGTH]);

impl NodeName {
    /// The most characters of a name.
    pub const MAX_LENGTH: usize = 8;

    /// Reads what [`NodeName::padded`] returns.
    #[must_use]
    pub fn from_padded(bytes: [u8; Self::MAX_LENGTH]) -> Option<Self> {
        let text = str::from_utf8(&bytes).ok()?;
        text.trim_end_matches('\0').parse().ok()
    }

    /// Its characters, with zeros after them.
    #[must_use]
    pub const fn padded(self) -> [u8; Self::MAX_LENGTH] {
        self.0
    }
}

impl FromStr for NodeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
        let mut padded = [0; Self::MAX_LENGTH];
        match padded.get_mut(..text.len()) {
            Some(part) if !text.is_empty() && text.bytes().all(legal) => {
                part.copy_from_slice(text.as_bytes());
                Ok(Self(padded))
            }
            _ => Err("write 1 to 8 lowercase letters or digits, like a or node1"),
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = str::from_utf8(&self.0).map_err(|_| fmt::Error)?;
        f.write_str(text.trim_end_matches('\0'))
    }
}

/// A session's id as clients see it: after the name of the node that has the
/// session and a dot, if the node has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicId {
    /// The node that has the session.
    pub node: Option<NodeName>,
    /// The id there.
    pub id: SessionId,
}

impl PublicId {
    /// Reads an id as it stands in a URL; `None` for anything that
    /// [`fmt::Display`] would not have written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (node, id) = match text.split_once('.') {
            Some((node, id)) => (Some(node.parse().ok()?), id),
            None => (None, text),
        };
        let id = SessionId::parse(id)?;
        Some(Self { node, id })
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "{node}.")?;
        }
        self.id.fmt(f)
    }
}
