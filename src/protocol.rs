//! The protocols that sessions are made over.

/// The protocol that a session was made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MSC3886: any media type, entity tags.
    Msc3886,
    /// MSC4108 in its text of 2024: `text/plain`, entity tags.
    Msc4108,
    /// MSC4388: JSON bodies, sequence tokens.
    Msc4388,
}

/// What tells the revisions of a session apart on the wire. A session
/// answers to requests of its own family only: a payload of any bytes has no
/// JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Entity tags.
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

    /// Whether every write gives the session its whole life again (MSC3886).
    /// In MSC4108 and MSC4388 the end stands from the beginning: clients read
    /// the expiry once.
    #[must_use]
    pub fn renews(self) -> bool {
        self == Self::Msc3886
    }

    /// The family it belongs to.
    #[must_use]
    pub fn concurrency(self) -> Concurrency {
        match self {
            Self::Msc3886 | Self::Msc4108 => Concurrency::ETag,
            Self::Msc4388 => Concurrency::SequenceToken,
        }
    }
}
