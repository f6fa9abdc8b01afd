//! The networks that a client is in.

use super::peer::Client;

/// A network: the bits that its addresses begin with, and how many these are,
/// which tells IPv4 and IPv6 apart, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// The bits, in the low ones.
    pub bits: u64,
    /// Up to 32 for IPv4 and more for IPv6; 0 for all programs on this machine.
    pub length: u8,
}

impl Network {
    const fn new(bits: u64, length: u8) -> Self {
        Self { bits, length }
    }

    /// A number that tells it apart from all others that are the widest of a
    /// client's, or in the same wider one.
    #[must_use]
    pub fn key(self) -> u64 {
        self.bits ^ (u64::from(self.length) << 56)
    }
}

impl Client {
    /// The networks that the client is in, the widest first, and last the one
    /// that is the client: an organization's, a household's or a street's, and
    /// one link or host.
    #[must_use]
    pub fn networks(self) -> [Network; 3] {
        match self {
            Self::Local => [Network::new(0, 0); 3],
            Self::V4(address) => {
                [16, 24, 32].map(|length| Network::new(u64::from(address) >> (32 - length), length))
            }
            Self::V6(network) => {
                [48, 56, 64].map(|length| Network::new(network >> (64 - length), length))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn keys(address: &str) -> [u64; 3] {
        let client: Client = address.parse::<IpAddr>().unwrap().into();
        client.networks().map(Network::key)
    }

    /// How many networks two clients share, from the widest on.
    fn shared(one: &str, other: &str) -> usize {
        let pairs = keys(one).into_iter().zip(keys(other));
        pairs.take_while(|(one, other)| one == other).count()
    }

    #[test]
    fn clients_share_the_networks_that_they_are_both_in() {
        for (one, other, count) in [
            ("192.0.2.1", "192.0.2.1", 3),
            ("192.0.2.1", "192.0.2.2", 2),
            ("192.0.2.1", "192.0.3.1", 1),
            ("192.0.2.1", "192.1.2.1", 0),
            ("2001:db8:1:2::1", "2001:db8:1:2:3::4", 3),
            ("2001:db8:1:2::1", "2001:db8:1:ff::1", 2),
            ("2001:db8:1:2::1", "2001:db8:1:102::1", 1),
            ("2001:db8:1:2::1", "2001:db8:2:2::1", 0),
            // Bits that are the same in networks of other lengths.
            ("0:0:c000::1", "192.0.2.1", 0),
            ("::c000:0:0:0:0", "192.0.2.1", 0),
            ("0.0.0.1", "::1", 0),
            // By way of a transition mechanism.
            ("2002:c000:201::1", "192.0.2.1", 3),
            ("2002:c000:201:ffff::1", "2002:c000:202::1", 2),
            ("64:ff9b::192.0.2.1", "2002:c000:301::", 1),
        ] {
            assert_eq!(shared(one, other), count, "{one} {other}");
        }
    }

    #[test]
    fn programs_on_this_machine_share_nothing_with_others() {
        let local = Client::Local.networks().map(Network::key);
        for address in ["0.0.0.0", "::", "127.0.0.1", "::1"] {
            assert_ne!(keys(address)[0], local[0], "{address}");
        }
    }
}
