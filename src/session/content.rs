//! What a session holds.

use std::borrow::Cow;
use std::sync::Arc;

use crate::block_pool::{PooledBytes, size_of_blocks};

/// A payload and its media type, shared between the store and the answers
/// that are being sent, never changed.
///
/// The bytes are in the block pool: the payload and, unless it is one of the
/// usual ones, the media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    bytes: Arc<PooledBytes>,
    media_type: MediaType,
}

/// A media type: its length behind the payload, or [`Self::USUAL`] and its
/// place in [`USUAL_TYPES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MediaType(u8);

/// Media types that nearly all payloads have.
const USUAL_TYPES: [&str; 3] = ["text/plain", "application/json", "application/octet-stream"];

impl MediaType {
    const USUAL: u8 = 128;

    /// Its bytes behind the payload.
    fn len(self) -> usize {
        match self.0 {
            length @ 0..Self::USUAL => length.into(),
            _ => 0,
        }
    }

    fn usual(self) -> Option<&'static str> {
        let place = self.0.checked_sub(Self::USUAL)?;
        USUAL_TYPES.get(usize::from(place)).copied()
    }
}

impl Content {
    /// The largest payload there can be, in bytes. Payloads are some hundred
    /// bytes of key exchange.
    pub const MAX_PAYLOAD: usize = 1024 * 1024;

    /// The longest media type kept, in bytes; longer ones do not occur, and
    /// the memory a session takes must be known.
    pub const MAX_TYPE: usize = 127;

    /// Copies a payload and its media type; `None` when the type is longer
    /// than [`Self::MAX_TYPE`].
    #[must_use]
    pub fn new(payload: &[u8], media_type: &str) -> Option<Self> {
        let usual = USUAL_TYPES.iter().position(|usual| *usual == media_type);
        let (number, kept) = match usual {
            Some(place) => (usize::from(MediaType::USUAL) + place, ""),
            None if media_type.len() <= Self::MAX_TYPE => (media_type.len(), media_type),
            None => return None,
        };
        Some(Self {
            bytes: Arc::new(PooledBytes::new(&[payload, kept.as_bytes()])),
            media_type: MediaType(u8::try_from(number).ok()?),
        })
    }

    /// The most that contents with payloads of `payload` bytes take in the
    /// block pool, in bytes.
    #[must_use]
    pub const fn ceiling(payload: usize) -> usize {
        size_of_blocks(payload + Self::MAX_TYPE)
    }

    /// Length of the payload, in bytes.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "empty payloads are nothing special"
    )]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.media_type.len()
    }

    /// The payload without a copy: shared bytes, and how many of them it is.
    #[must_use]
    pub fn into_payload(self) -> (Arc<PooledBytes>, usize) {
        let length = self.len();
        (self.bytes, length)
    }

    /// A copy of the payload, byte for byte as it was written.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        self.first(self.len())
    }

    /// The first `count` bytes of the payload, or all if there are fewer.
    #[must_use]
    pub fn first(&self, count: usize) -> Vec<u8> {
        let mut first = Vec::new();
        self.bytes.copy_to(0, count.min(self.len()), &mut first);
        first
    }

    /// The media type.
    #[must_use]
    pub fn media_type(&self) -> Cow<'static, str> {
        if let Some(usual) = self.media_type.usual() {
            return usual.into();
        }
        let mut text = Vec::new();
        self.bytes.copy_to(self.len(), self.bytes.len(), &mut text);
        String::from_utf8(text).unwrap_or_default().into()
    }
}

#[cfg(test)]
impl Content {
    /// The allocation, for tests that watch it go.
    pub(crate) fn shared(&self) -> Arc<PooledBytes> {
        Arc::clone(&self.bytes)
    }
}
