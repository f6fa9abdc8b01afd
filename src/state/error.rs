//! Why sessions were not read back.

use std::fmt;
use std::io::{self, ErrorKind};

use crate::session::NodeName;

/// Changes with every change of the format.
pub(super) const VERSION: u32 = 4;

/// The oldest version that can be read.
pub(super) const OLDEST_VERSION: u32 = 3;

/// Why sessions were not read back.
#[derive(Debug)]
pub enum LoadError {
    /// Nothing can be written there, so that nothing would be at the end.
    NotWritable(io::Error),
    /// What is there cannot be read or removed.
    Io(io::Error),
    /// What is there is no regular file, or another user's.
    NotOurs,
    /// It is no state file.
    Foreign,
    /// It has a version that this program does not know.
    Version(u32),
    /// It was written before the machine was started last.
    OtherBoot,
    /// Its sessions have ids of another node, or of a server without a name.
    OtherNode(Option<NodeName>),
    /// It is not as it was written.
    Damaged,
}

impl LoadError {
    /// Whether what is there is not ours to replace.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::NotOurs | Self::Foreign)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritable(error) => write!(f, "cannot be written: {error}"),
            Self::Io(error) => write!(f, "cannot be read and removed: {error}"),
            Self::NotOurs => f.write_str("is not a regular file of this user's own"),
            Self::Foreign => f.write_str("is no state file"),
            Self::Version(version) => write!(
                f,
                "is of version {version}, and this program knows {} to {}",
                OLDEST_VERSION, VERSION
            ),
            Self::OtherBoot => f.write_str("was written before the machine was started last"),
            Self::OtherNode(Some(node)) => write!(f, "was written by node {node}"),
            Self::OtherNode(None) => f.write_str("was written by a server without --node"),
            Self::Damaged => f.write_str("is damaged"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}
