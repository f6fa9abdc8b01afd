//! The syntax of hosts.

use std::net::Ipv6Addr;

/// The longest host and port: a DNS name of 253 bytes, a colon, five digits.
pub(super) const MAX_HOST: usize = 253 + 6;

/// Whether a text is a host with or without a port (RFC 3986, sections 3.2.2
/// and 3.2.3), or empty. Not a list: a host name has no comma.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            (address, port)
        }
        None => text.split_at(text.bytes().position(|b| b == b':').unwrap_or(text.len())),
    };
    let legal = |b| {
        matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%' | b'!'
            | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' | b':')
    };
    let digits = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    name.bytes().all(legal)
        && (port.is_empty() || (!name.is_empty() && port.strip_prefix(':').is_some_and(digits)))
}
