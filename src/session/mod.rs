//! One rendezvous session: an opaque payload with a media type, a revision
//! and a rule for its end.

mod content;
mod id;

pub use content::Content;
pub use id::{Revision, SessionId};

use std::sync::Arc;
use std::time::Duration;

use crate::block_pool::PooledBytes;
use crate::clock::{Timestamp, millis};
use crate::protocol::Protocol;
use content::MediaType;

/// Two seconds, near enough. In 16 bits they wrap after 37 hours, and no
/// session lives so long: one byte more and all would be 8 larger.
fn tick(now: Timestamp) -> u16 {
    u16::try_from((now.monotonic_ms >> TICK) & 0xffff).unwrap_or_default()
}

/// A tick is two to the power of this many milliseconds.
const TICK: u32 = 11;

/// The ticks after which a use is at least 15 seconds ago, whenever in its
/// tick it was.
const BUSY: u16 = 9;

/// One session at one revision.
///
/// A store has many, so the fields are packed into 40 bytes: the content's
/// two parts stand apart, the last write is known from the end, and two
/// numbers share the bits that one of them does not need.
#[derive(Clone, Debug)]
pub struct Session {
    /// None once it has ended.
    bytes: Option<Arc<PooledBytes>>,
    revision: Revision,
    /// The end, in milliseconds on the monotonic clock, in the lower
    /// [`END_BITS`]; in the bit above, whether the first payload was fetched.
    end_and_fetched: u64,
    /// From the last write to the end, in milliseconds, in the lower
    /// [`LEFT_BITS`]; the protocol's place in [`Protocol::ALL`] in the others.
    left_and_protocol: u32,
    media_type: MediaType,
    writes: u8,
    /// The tick of the last use.
    used: u16,
}

/// 8900 years of milliseconds.
const END_BITS: u32 = 48;

/// Twelve days of milliseconds.
const LEFT_BITS: u32 = 30;

/// The lower bits of a number.
const fn lower(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// A session taken apart, to be written down and made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What was last written.
    pub content: Content,
    /// Which write that was.
    pub revision: Revision,
    /// The protocol it was made over.
    pub protocol: Protocol,
    /// From when on it is gone, in milliseconds on the monotonic clock.
    pub expires: u64,
    /// From the last write to the end, in milliseconds.
    pub left: u64,
    /// When it was last used, in units and with an origin of its own.
    pub used: u16,
    /// Whether the first payload was fetched.
    pub fetched: bool,
    /// How often it was written after its creation, or the largest number.
    pub writes: u8,
}

impl Session {
    /// The longest lifetime a session can have.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// A session as it is created at `now`, which is its first use. Its
    /// lifetime counts from there or, if the protocol renews it, from the
    /// last write. Lifetimes over [`Self::MAX_LIFETIME`] count as that.
    #[must_use]
    pub fn new(
        content: Content,
        first: Revision,
        protocol: Protocol,
        lifetime: Duration,
        now: Timestamp,
    ) -> Self {
        let left = millis(lifetime.min(Self::MAX_LIFETIME));
        Self::pack(Parts {
            content,
            revision: first,
            protocol,
            expires: now.monotonic_ms + left,
            left,
            used: tick(now),
            fetched: false,
            writes: 0,
        })
    }

    /// Makes a session of its parts; `None` if no session can have them.
    #[must_use]
    pub fn from_parts(parts: Parts) -> Option<Self> {
        let sound = parts.left <= millis(Self::MAX_LIFETIME)
            && (parts.left..=lower(END_BITS)).contains(&parts.expires);
        sound.then(|| Self::pack(parts))
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> Parts {
        Parts {
            content: self.content(),
            revision: self.revision,
            protocol: self.protocol(),
            expires: self.expires(),
            left: self.left(),
            used: self.used,
            fetched: self.fetched(),
            writes: self.writes,
        }
    }

    fn pack(parts: Parts) -> Self {
        let mut session = Self {
            bytes: Some(parts.content.bytes),
            revision: parts.revision,
            end_and_fetched: u64::from(parts.fetched) << END_BITS,
            left_and_protocol: (parts.protocol as u32) << LEFT_BITS,
            media_type: parts.content.media_type,
            writes: parts.writes,
            used: parts.used,
        };
        session.set_expires(parts.expires);
        session.set_left(parts.left);
        session
    }

    /// The protocol it was made over.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.left_and_protocol >> LEFT_BITS {
            0 => Protocol::Msc3886,
            1 => Protocol::Msc4108,
            _ => Protocol::Msc4388,
        }
    }

    /// What was last written.
    #[must_use]
    pub fn content(&self) -> Content {
        Content {
            bytes: self.bytes.clone().unwrap_or_default(),
            media_type: self.media_type,
        }
    }

    /// Which write that was.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When that was, in milliseconds on the monotonic clock.
    #[must_use]
    pub fn modified(&self) -> u64 {
        self.expires() - self.left()
    }

    /// From when on the session is gone, in milliseconds on the monotonic clock.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.end_and_fetched & lower(END_BITS)
    }

    fn set_expires(&mut self, expires: u64) {
        let fetched = self.end_and_fetched & !lower(END_BITS);
        self.end_and_fetched = fetched | expires.min(lower(END_BITS));
    }

    fn left(&self) -> u64 {
        u64::from(self.left_and_protocol) & lower(LEFT_BITS)
    }

    /// Sets what [`Self::left`] is, at most [`Self::MAX_LIFETIME`].
    fn set_left(&mut self, left: u64) {
        let protocol = self.left_and_protocol >> LEFT_BITS << LEFT_BITS;
        self.left_and_protocol = protocol | u32::try_from(left).unwrap_or_default();
    }

    fn fetched(&self) -> bool {
        self.end_and_fetched >> END_BITS != 0
    }

    /// Records that the first payload was fetched.
    pub fn set_fetched(&mut self) {
        self.end_and_fetched |= 1 << END_BITS;
    }

    /// Whether the first payload is still there and was not fetched.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.writes == 0 && !self.fetched()
    }

    /// Takes note of a use.
    pub fn touch(&mut self, now: Timestamp) {
        self.used = tick(now);
    }

    /// Whether a write over `expected` that brings `content` has been done: it
    /// made the present revision. At its creation a session has no revision
    /// before.
    #[must_use]
    pub fn has_written(&self, expected: Revision, content: &Content) -> bool {
        self.writes > 0 && expected.next() == self.revision && self.content() == *content
    }

    /// How long, in milliseconds, until the last use is 15 seconds ago or a
    /// little more; 0 if it is. Clients poll once a second, so one that has
    /// been silent for so long is likely gone.
    #[must_use]
    pub fn busy(&self, now: Timestamp) -> u64 {
        let ago = tick(now).wrapping_sub(self.used);
        if ago >= BUSY {
            return 0;
        }
        let end = (now.monotonic_ms >> TICK) + u64::from(BUSY - ago);
        (end << TICK) - now.monotonic_ms
    }

    /// Whether the session still answers.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now.monotonic_ms < self.expires()
    }

    /// Ends the session at once and returns its parts as they were, for the
    /// caller to drop outside its lock.
    #[must_use]
    pub fn end(&mut self) -> Parts {
        let parts = self.parts();
        self.bytes = None;
        self.media_type = MediaType::default();
        self.set_expires(0);
        self.set_left(0);
        parts
    }

    /// Puts new content in place and returns the old, for the caller to drop
    /// outside its lock.
    #[must_use]
    pub fn replace(&mut self, content: Content, now: Timestamp) -> Content {
        let old = Content {
            bytes: self.bytes.replace(content.bytes).unwrap_or_default(),
            media_type: std::mem::replace(&mut self.media_type, content.media_type),
        };
        self.revision = self.revision.next();
        self.writes = self.writes.saturating_add(1);
        if self.protocol().renews() {
            self.set_expires(now.monotonic_ms + self.left());
        } else {
            let left = self.expires().saturating_sub(now.monotonic_ms);
            self.set_left(left.min(self.left()));
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic_ms: u64) -> Timestamp {
        Timestamp {
            monotonic_ms,
            unix_ms: 0,
        }
    }

    fn content(text: &str) -> Content {
        Content::new(text.as_bytes(), "text/plain").unwrap()
    }

    /// A session of content `a`.
    fn session(first: u64, protocol: Protocol, lifetime: u64, created: u64) -> Session {
        let first = Revision::new(first);
        let lifetime = Duration::from_secs(lifetime);
        Session::new(content("a"), first, protocol, lifetime, at(created))
    }

    #[test]
    fn ids_are_22_characters_of_base64url_and_read_back() {
        let id = SessionId::new([0xfb; 16]);
        let text = id.to_string();
        assert_eq!(text, "-_v7-_v7-_v7-_v7-_v7-w");
        assert_eq!(SessionId::parse(&text), Some(id));
    }

    #[test]
    fn what_display_does_not_write_is_no_id() {
        for text in [
            "",
            "-_v7-_v7-_v7-_v7-_v7-",
            "-_v7-_v7-_v7-_v7-_v7-wA",
            "-_v7-_v7-_v7-_v7-_v7-x", // bits beyond the 128th
            "-_v7-_v7-_v7-_v7-_v7+w",
            "-_v7-_v7-_v7-_v7-_v7==",
            "-_v7-_v7-_v7-_v7-_v7é",
        ] {
            assert_eq!(SessionId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn revisions_are_16_hex_digits_and_read_back() {
        let revision = Revision::new(0x0123_4567_89ab_cdef);
        assert_eq!(revision.to_string(), "0123456789abcdef");
        assert_eq!(Revision::parse("0123456789abcdef"), Some(revision));
        for text in ["", "123", "0123456789ABCDEF", "+123456789abcdef"] {
            assert_eq!(Revision::parse(text), None, "{text:?}");
        }
        assert_eq!(Revision::new(u64::MAX).next(), Revision::new(0));
    }

    #[test]
    fn content_keeps_payload_and_type_apart() {
        let content = Content::new(b"a\0b", "application/x-y").unwrap();
        assert_eq!(content.payload(), b"a\0b");
        assert_eq!(content.media_type(), "application/x-y");
        let empty = Content::new(b"", "").unwrap();
        assert!(empty.payload().is_empty() && empty.media_type().is_empty());
        assert!(Content::new(b"", &"x".repeat(128)).is_none());
    }

    #[test]
    fn msc3886_a_write_extends_the_life_of_a_session() {
        let mut session = session(7, Protocol::Msc3886, 60, 1_000);
        assert!(session.is_live(at(60_999)));
        assert!(!session.is_live(at(61_000)));
        assert_eq!(session.replace(content("b"), at(50_000)), content("a"));
        assert_eq!(session.expires(), 110_000);
        assert_eq!(session.modified(), 50_000);
        assert_eq!(session.revision(), Revision::new(8));
    }

    #[test]
    fn msc4108_and_msc4388_a_write_leaves_the_end_where_it_was() {
        for protocol in [Protocol::Msc4108, Protocol::Msc4388] {
            let mut session = session(7, protocol, 300, 0);
            drop(session.replace(content("b"), at(200_000)));
            assert_eq!(session.expires(), 300_000);
            assert_eq!(session.modified(), 200_000);
        }
    }

    #[test]
    fn a_revision_is_new_even_when_the_payload_is_not() {
        let mut session = session(1, Protocol::Msc3886, 60, 0);
        let before = session.revision();
        drop(session.replace(content("a"), at(1)));
        assert_ne!(session.revision(), before);
    }

    #[test]
    fn a_write_is_known_by_the_revision_before_and_its_content() {
        let mut session = session(u64::MAX, Protocol::Msc3886, 60, 0);
        let (before, first) = (Revision::new(u64::MAX - 1), session.revision());
        assert!(!session.has_written(before, &content("a")));
        drop(session.replace(content("b"), at(1)));
        assert!(session.has_written(first, &content("b")));
        let typed = Content::new(b"b", "text/html").unwrap();
        // Payload and type stand in one run of bytes.
        let shifted = Content::new(b"bt", "ext/plain").unwrap();
        for other in [content("a"), typed, shifted] {
            assert!(!session.has_written(first, &other), "{other:?}");
        }
        for other in [before, session.revision(), session.revision().next()] {
            assert!(!session.has_written(other, &content("b")), "{other}");
        }
        drop(session.replace(content("c"), at(2)));
        assert!(!session.has_written(first, &content("b")));
    }

    #[test]
    fn the_parts_of_a_session_make_it_again_and_unsound_ones_make_none() {
        for protocol in Protocol::ALL {
            let parts = Parts {
                content: content("a"),
                revision: Revision::new(u64::MAX),
                protocol,
                expires: lower(END_BITS),
                left: millis(Session::MAX_LIFETIME),
                used: u16::MAX,
                fetched: false,
                writes: u8::MAX,
            };
            let mut session = Session::from_parts(parts.clone()).unwrap();
            assert_eq!(session.parts(), parts);
            session.set_fetched();
            let fetched = Parts {
                fetched: true,
                ..parts.clone()
            };
            assert_eq!(session.parts(), fetched);
            let again = Session::from_parts(fetched.clone()).unwrap();
            assert_eq!(again.parts(), fetched);
            for (expires, left) in [
                (lower(END_BITS) + 1, 1),
                (u64::MAX, 1),
                (0, 1),
                (u64::MAX >> 20, millis(Session::MAX_LIFETIME) + 1),
            ] {
                let unsound = Parts {
                    expires,
                    left,
                    ..parts.clone()
                };
                assert!(Session::from_parts(unsound).is_none(), "{expires} {left}");
            }
        }
    }

    #[test]
    fn a_fetch_is_noted_writes_are_counted_and_an_end_hands_everything_out() {
        let mut session = session(7, Protocol::Msc3886, 60, 1_000);
        assert!(session.is_untouched());
        session.set_fetched();
        session.set_fetched();
        assert!(!session.is_untouched());
        for _ in 0..300 {
            drop(session.replace(content("b"), at(2_000)));
        }
        let parts = session.end();
        assert_eq!(parts.content, content("b"));
        assert_eq!((parts.fetched, parts.writes), (true, u8::MAX));
        assert_eq!((parts.expires, parts.left), (62_000, 60_000));
        assert!(!session.is_live(at(0)));
        assert_eq!(session.content(), Content::new(b"", "").unwrap());
    }

    #[test]
    fn a_session_is_busy_for_fifteen_seconds_after_a_use_and_not_much_longer() {
        let day = Session::MAX_LIFETIME.as_secs();
        for used in [0, 1, 2_047, 2_048, 100_000, (1 << 27) - 1, 1 << 27] {
            let mut session = session(1, Protocol::Msc3886, day, 0);
            session.touch(at(used));
            for later in [0, 1, 2_000, 14_999] {
                let left = session.busy(at(used + later));
                assert!((1..=18_500).contains(&left), "{used} {later} {left}");
                assert!(used + later + left >= used + 15_000);
                assert_eq!(session.busy(at(used + later + left)), 0);
            }
            for later in [18_432, 100_000, 86_400_000] {
                assert_eq!(session.busy(at(used + later)), 0, "{used} {later}");
            }
        }
    }
}
