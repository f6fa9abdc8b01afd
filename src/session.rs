//! One rendezvous session: an opaque payload with a media type, a revision
//! and a rule for its end.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::block_pool::{PooledBytes, size_of_blocks};
use crate::clock::{Moment, millis};

/// The name of a session: 128 random bits, because whoever knows the name
/// may read and write the session (MSC3886, "Security considerations").
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
/// In the tagged family the first revision of a session is a random 64-bit
/// number and each write adds one, so the number alone is unique to session
/// and revision and says nothing about the payload. An `ETag` is this number
/// in hexadecimal. In the sequenced family it counts the writes from 0, and a
/// sequence token is it in decimal.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// Appends the payload, byte for byte as it was written.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        self.bytes.copy_to(0, self.len(), out);
    }

    /// A copy of the payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        self.copy_to(&mut payload);
        payload
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
pub enum Family {
    /// Entity tags.
    Tagged,
    /// Sequence tokens.
    Sequenced,
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
    pub fn family(self) -> Family {
        match self {
            Self::Msc3886 | Self::Msc4108 => Family::Tagged,
            Self::Msc4388 => Family::Sequenced,
        }
    }
}

/// Two seconds, near enough. In 16 bits they wrap after 37 hours, and no
/// session lives so long: one byte more and all would be 8 larger.
fn tick(now: Moment) -> u16 {
    u16::try_from((now.steady >> TICK) & 0xffff).unwrap_or_default()
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
    /// The end, in milliseconds on the steady clock, in the lower
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
    /// From when on it is gone, in milliseconds on the steady clock.
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
        now: Moment,
    ) -> Self {
        let left = millis(lifetime.min(Self::MAX_LIFETIME));
        Self::pack(Parts {
            content,
            revision: first,
            protocol,
            expires: now.steady + left,
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

    /// When that was, in milliseconds on the steady clock.
    #[must_use]
    pub fn modified(&self) -> u64 {
        self.expires() - self.left()
    }

    /// From when on the session is gone, in milliseconds on the steady clock.
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
    pub fn touch(&mut self, now: Moment) {
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
    pub fn busy(&self, now: Moment) -> u64 {
        let ago = tick(now).wrapping_sub(self.used);
        if ago >= BUSY {
            return 0;
        }
        let end = (now.steady >> TICK) + u64::from(BUSY - ago);
        (end << TICK) - now.steady
    }

    /// Whether the session still answers.
    #[must_use]
    pub fn is_live(&self, now: Moment) -> bool {
        now.steady < self.expires()
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
    pub fn replace(&mut self, content: Content, now: Moment) -> Content {
        let old = Content {
            bytes: self.bytes.replace(content.bytes).unwrap_or_default(),
            media_type: std::mem::replace(&mut self.media_type, content.media_type),
        };
        self.revision = self.revision.next();
        self.writes = self.writes.saturating_add(1);
        if self.protocol().renews() {
            self.set_expires(now.steady + self.left());
        } else {
            let left = self.expires().saturating_sub(now.steady);
            self.set_left(left.min(self.left()));
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steady: u64) -> Moment {
        Moment { steady, wall: 0 }
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
