//! The ids of sessions and of their revisions.

use std::fmt;
use std::str;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The id of a session: 128 random bits, because anyone who knows it may read
/// and write the session (MSC3886, "Security considerations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Characters of an id in a URL: base64url without padding.
    pub const LENGTH: usize = 22;

    /// Makes an id of the given bits.
    #[must_use]
    pub const fn new(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    /// The bits it is made of.
    #[must_use]
    pub const fn bits(self) -> [u8; 16] {
        self.0
    }

    /// Reads an id as it stands in a URL; `None` for anything that
    /// [`fmt::Display`] would not have written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::LENGTH {
            return None;
        }
        let mut bits = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bits) {
            Ok(16) => Some(Self(bits)),
            _ => None,
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::LENGTH];
        let length = URL_SAFE_NO_PAD
            .encode_slice(self.0, &mut text)
            .map_err(|_| fmt::Error)?;
        f.write_str(str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?)
    }
}

/// Which write of a session this is.
///
/// Where it is an ETag, the first revision of a session is a random 64-bit
/// number and each write adds one, so the number alone is unique to session
/// and revision and says nothing about the payload; the ETag is this number in
/// hexadecimal. A sequence token (MSC4388) counts the writes from 0, in
/// decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(u64);

impl Revision {
    /// Characters of a revision's text.
    pub const LENGTH: usize = 16;

    /// Starts a session's count at the given number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The revision that the next write makes.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The text, which is on every response.
    #[must_use]
    pub fn to_text(self) -> [u8; Self::LENGTH] {
        let mut rest = self.0;
        let mut text = [0; Self::LENGTH];
        for digit in text.iter_mut().rev() {
            *digit = b"0123456789abcdef"[usize::from(rest.to_le_bytes()[0] & 0xf)];
            rest >>= 4;
        }
        text
    }

    /// Reads a revision's text; `None` for anything that [`fmt::Display`]
    /// would not have written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != Self::LENGTH || !text.bytes().all(digits) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
