//! The protocols that sessions are created over.

/// The protocol that a session was created over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MSC3886: any media type, ETags.
    Msc3886,
    /// MSC4108 in its text of 2024: `text/plain`, ETags.
    Msc4108,
    /// MSC4388: JSON bodies, sequence tokens.
    Msc4388,
}

/// How a protocol names the revision that a write replaces. A session answers
/// only to requests of its own kind: a payload of any bytes has no JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// ETags.
    ETag,
    /// Sequence tokens.
    SequenceToken,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Msc3886, Self::Msc4108, Self::Msc4388];

    /// The number of its proposal.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Msc3886 => 3886,
            Self::Msc4108 => 4108,
            Self::Msc4388 => 4388,
        }
    }

    /// Whether every write restarts the session's lifetime (MSC3886). In
    /// MSC4108 and MSC4388 the end is fixed at the creation: clients read the
    /// expiry once.
    #[must_use]
    pub fn renews(self) -> bool {
        self == Self::Msc3886
    }

    /// How it names revisions.
    #[must_use]
    pub fn concurrency(self) -> Concurrency {
        match self {
            Self::Msc3886 | Self::Msc4108 => Concurrency::ETag,
            Self::Msc4388 => Concurrency::SequenceToken,
        }
    }
}
