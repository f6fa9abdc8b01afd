//! The peer of a connection, and the client that it counts as.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A program on this machine, over a Unix socket.
    Local,
    /// An address; IPv4 as such, also when it came over an IPv6 socket.
    Ip(IpAddr),
}

impl Peer {
    /// The client that the peer counts as.
    #[must_use]
    pub fn client(self) -> Client {
        match self {
            Self::Local => Client::Local,
            Self::Ip(address) => address.into(),
        }
    }
}

/// What counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// All programs that use a Unix socket.
    Local,
    /// An IPv4 address.
    V4(u32),
    /// An IPv6 network of 64 bits, the least that a customer is given
    /// (RFC 6177, section 2): addresses in it cost nothing.
    V6(u64),
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => match ipv4_inside(address) {
                Some(address) => Self::V4(address.to_bits()),
                None => Self::V6((address.to_bits() >> 64) as u64),
            },
        }
    }
}

/// The IPv4 address of a host that comes through a transition mechanism.
/// Anybody with an IPv4 address has the IPv6 addresses made of it as well.
fn ipv4_inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        // 6to4 (RFC 3056, section 2).
        [0x2002, high, low, ..] => Some(join(high, low)),
        // Teredo (RFC 4380, section 4): the client's address with its bits
        // inverted.
        [0x2001, 0, .., high, low] => Some(join(!high, !low)),
        // A translator's clients: the well-known prefix (RFC 6052, section
        // 2.1) and the one for local use (RFC 8215). RFC 6052 lets an operator
        // embed the address higher up in the latter, at a prefix of 48, 56 or
        // 64 bits; assumed is one of 96 as in the former, the usual choice.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, .., high, low] => {
            Some(join(high, low))
        }
        _ => None,
    }
}
