//! The syntax of `Forwarded` (RFC 7239, section 4) and of the addresses in it
//! and in `X-Forwarded-For`. Nothing is copied but a parameter that is used,
//! into a buffer of the caller's: clients may send 16 KiB of this.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str;

/// The most hops looked at. More in a row are never proxies of one operator.
pub(super) const MAX_HOPS: usize = 32;

/// The longest address: with brackets, an embedded IPv4 address and a port.
const MAX_ADDRESS: usize = "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535".len();

/// An address, with or without brackets around IPv6 and a port. An address
/// with a zone is a neighbour of the proxy, and says nothing here.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    if text.len() > MAX_ADDRESS || text.contains('%') {
        return None;
    }
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = bare().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

/// As many elements as are looked at, and one that shows that there are more.
const KEPT: usize = MAX_HOPS + 1;

/// The last [`KEPT`] elements of a `Forwarded` value that are not blank.
pub(super) struct LastElements<'a> {
    ring: [Element<'a>; KEPT],
    count: usize,
}

impl<'a> LastElements<'a> {
    /// Reads a value; `None` if it is not UTF-8 or a quote has no end.
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let mut last = Self {
            ring: [Element(b""); KEPT],
            count: 0,
        };
        each_element(value, |element, blank| {
            if !blank {
                last.ring[last.count % KEPT] = element;
                last.count += 1;
            }
        })?;
        Some(last)
    }

    /// The elements, from the last backwards.
    pub(super) fn backwards(&self) -> impl Iterator<Item = Element<'a>> {
        let first = self.count.saturating_sub(KEPT);
        (first..self.count)
            .rev()
            .map(|place| self.ring[place % KEPT])
    }
}

/// The last element of a `Forwarded` value, blank or not.
pub(super) fn last_element(value: &[u8]) -> Option<Element<'_>> {
    let mut last = Element(b"");
    each_element(value, |element, _| last = element)?;
    Some(last)
}

/// Calls `take` with each element and whether it is blank; `None` if the value
/// cannot be read. Commas inside quotes separate nothing.
fn each_element<'a>(value: &'a [u8], mut take: impl FnMut(Element<'a>, bool)) -> Option<()> {
    str::from_utf8(value).ok()?;
    let (mut start, mut blank) = (0, true);
    let mut bytes = Unquoted::new(value);
    while let Some(next) = bytes.next() {
        if next.is_plain(b',') {
            take(Element(&value[start..bytes.at - 1]), blank);
            (start, blank) = (bytes.at, true);
        } else {
            blank &= next.is_plain(b';') || next.is_plain_space();
        }
    }
    take(Element(&value[start..]), blank);
    (!bytes.quoted).then_some(())
}

/// One hop of a `Forwarded` value: pairs, separated by semicolons.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a>(&'a [u8]);

impl Element<'_> {
    /// The address in `for`.
    pub(super) fn address(self) -> Option<IpAddr> {
        address(self.parameter("for", &mut [0; MAX_ADDRESS])?)
    }

    /// The value of the first parameter of this name, unquoted into `buffer`;
    /// `None` also if it is longer.
    pub(super) fn parameter<'t>(self, name: &str, buffer: &'t mut [u8]) -> Option<&'t str> {
        let mut bytes = Unquoted::new(self.0);
        loop {
            if bytes.skip_name(name) {
                return bytes.copy_value(buffer);
            }
            if !bytes.skip_pair() {
                return None;
            }
        }
    }
}

/// A byte of a value.
#[derive(Clone, Copy, Debug)]
struct Byte {
    byte: u8,
    /// Whether it stood inside quotes, where it separates nothing.
    quoted: bool,
}

impl Byte {
    fn is_plain(self, byte: u8) -> bool {
        self.byte == byte && !self.quoted
    }

    fn is_plain_space(self) -> bool {
        self.byte.is_ascii_whitespace() && !self.quoted
    }
}

/// The bytes of a value without its quotes and backslashes.
#[derive(Clone, Debug)]
struct Unquoted<'a> {
    text: &'a [u8],
    /// The place of the next byte.
    at: usize,
    quoted: bool,
}

impl<'a> Unquoted<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            quoted: false,
        }
    }

    /// Skips white space, a name and an equals sign, if that is next.
    fn skip_name(&mut self, name: &str) -> bool {
        let mut ahead = self.clone();
        let mut expected = name.bytes().chain([b'=']).peekable();
        let mut begun = false;
        while let Some(wanted) = expected.peek() {
            match ahead.next() {
                Some(next) if next.is_plain_space() && !begun => continue,
                Some(next) if next.is_plain(b';') => return false,
                Some(next) if next.byte.eq_ignore_ascii_case(wanted) => expected.next(),
                _ => return false,
            };
            begun = true;
        }
        *self = ahead;
        true
    }

    /// Skips the rest of a pair; false if it was the last.
    fn skip_pair(&mut self) -> bool {
        self.any(|next| next.is_plain(b';'))
    }

    /// Copies the rest of a pair without white space at its end; `None` if the
    /// buffer is too small.
    fn copy_value(self, buffer: &mut [u8]) -> Option<&str> {
        let (mut length, mut trimmed) = (0, 0);
        for next in self.take_while(|next| !next.is_plain(b';')) {
            if let Some(place) = buffer.get_mut(length) {
                *place = next.byte;
            }
            length += 1;
            if !next.is_plain_space() {
                trimmed = length;
            }
        }
        str::from_utf8(buffer.get(..trimmed)?).ok()
    }
}

impl Iterator for Unquoted<'_> {
    type Item = Byte;

    #[inline]
    fn next(&mut self) -> Option<Byte> {
        loop {
            let mut byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => {
                    self.quoted = !self.quoted;
                    continue;
                }
                b'\\' if self.quoted => {
                    byte = *self.text.get(self.at)?;
                    self.at += 1;
                }
                _ => {}
            }
            return Some(Byte {
                byte,
                quoted: self.quoted,
            });
        }
    }
}
