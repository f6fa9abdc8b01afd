//! Who a trusted proxy says the client is: what stands in front of the last
//! hop that is not one of ours, a client may have made up, and must not
//! change the outcome.

use std::net::IpAddr;

use rendezvousd::client::{Peer, TrustedProxies, UnknownClient};
use rendezvousd::http::{Decoder, Status};

use super::hops;

/// A hop that is not trusted, appended to what the input says.
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

/// The server's limit for hops: behind that many proxies it looks no further.
const MAX_HOPS: usize = 32;

/// A proxy that the operator named.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

/// Checks the property. The first byte chooses the peer, the rest are the
/// lines of the request's fields.
pub fn check(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let peer = match first % 5 {
        0 => Peer::Local,
        1 => Peer::Ip(PROXY),
        2 => Peer::Ip(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])),
        3 => Peer::Ip(STRANGER),
        // Trusted as a peer, not as a hop.
        _ => Peer::Ip(IpAddr::from([127, 0, 0, 2])),
    };
    let lines: Vec<Vec<u8>> = rest.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let Some(said) = ask(&lines, peer) else {
        return;
    };
    if !trusted().include(peer) {
        assert_eq!(said.client, Ok(peer));
        return;
    }
    if let Some(hops) = &said.hops {
        assert_eq!(said.client, expected(hops));
    }
    another_line(&lines, &said, peer);
    in_one_line(&lines, &said, peer);
}

/// What a request says of its client, to the server and to our own reading.
struct Said {
    client: Result<Peer, UnknownClient>,
    /// Nothing where our reading has no opinion.
    hops: Option<Vec<Option<IpAddr>>>,
    /// Whether there is an `X-Forwarded-For`, which comes first.
    plain: bool,
    /// No more hops are named than this.
    hops_at_most: usize,
}

/// `None` if the lines are no fields.
fn ask(lines: &[Vec<u8>], peer: Peer) -> Option<Said> {
    let mut decoder = Decoder::default();
    decoder.push(b"GET / HTTP/1.0\r\n");
    for line in lines.iter().filter(|line| !line.is_empty()) {
        decoder.push(line);
        decoder.push(b"\r\n");
    }
    decoder.push(b"\r\n");
    let step = decoder.step(|request| {
        Ok(Said {
            client: trusted().client(request.head.fields(), peer),
            hops: hops::read(&request.head),
            plain: hops::is_plain(&request.head),
            hops_at_most: hops::at_most(&request.head),
        })
    });
    match step {
        Ok(Status::Complete(said)) => Some(said),
        _ => None,
    }
}

fn trusted() -> TrustedProxies {
    let networks = ["10.0.0.0/8", "127.0.1.0/24", "fd00::/8"];
    TrustedProxies {
        networks: networks.map(|text| text.parse().expect("a network")).into(),
        loopback: true,
        local: true,
    }
}

/// Whether a hop with this address is a proxy of ours.
fn is_named(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets(), [10, ..] | [127, 0, 1, _]),
        IpAddr::V6(address) => address.octets()[0] == 0xfd,
    }
}

/// What hops, the nearest last, say to a trusted peer.
fn expected(hops: &[Option<IpAddr>]) -> Result<Peer, UnknownClient> {
    let stranger = |hop: &Option<IpAddr>| hop.is_none_or(|address| !is_named(address));
    let first = hops.len().saturating_sub(MAX_HOPS);
    match hops[first..].iter().rev().find(|hop| stranger(hop)) {
        Some(Some(address)) if address.is_loopback() => Err(UnknownClient::Loopback(*address)),
        Some(Some(address)) if !address.is_unspecified() => Ok(Peer::Ip(*address)),
        Some(_) => Err(UnknownClient::Unreadable),
        None if hops.is_empty() => Err(UnknownClient::Unnamed),
        None if first > 0 => Err(UnknownClient::Unreadable),
        None => Err(UnknownClient::OnlyProxies),
    }
}

/// Whatever a client sent, the line that a proxy adds behind it decides, and
/// naming one more proxy of ours changes nothing.
fn another_line(lines: &[Vec<u8>], said: &Said, peer: Peer) {
    for (name, counts) in [
        ("X-Forwarded-For: ", true),
        ("Forwarded: proto=https;for=", !said.plain),
    ] {
        for hop in [STRANGER, PROXY] {
            let line = format!("{name}{hop}").into_bytes();
            // The head may have been full.
            let Some(then) = ask(&[lines, &[line]].concat(), peer) else {
                return;
            };
            if !counts {
                assert_eq!(then.client, said.client);
            } else if hop == STRANGER {
                assert_eq!(then.client, Ok(Peer::Ip(STRANGER)));
            } else if said.plain || name.starts_with('F') {
                let unnamed = said.client == Err(UnknownClient::Unnamed);
                let same = if unnamed {
                    Err(UnknownClient::OnlyProxies)
                } else {
                    said.client
                };
                // It may be one more than the server looks at.
                let limit = then.client == Err(UnknownClient::Unreadable);
                assert!(then.client == same || (limit && said.hops_at_most > MAX_HOPS - 1));
            }
        }
    }
}

/// The same for a proxy that adds to the last line, a client's open quote or
/// not.
fn in_one_line(lines: &[Vec<u8>], said: &Said, peer: Peer) {
    let Some((last, before)) = lines.split_last() else {
        return;
    };
    let name = last.to_ascii_lowercase();
    let is_plain = name.starts_with(b"x-forwarded-for:");
    if !is_plain && (said.plain || !name.starts_with(b"forwarded:")) {
        return;
    }
    let prefix = if is_plain { "" } else { "for=" };
    let longer = [last, format!(", {prefix}{STRANGER}").as_bytes()].concat();
    if let Some(then) = ask(&[before, &[longer]].concat(), peer) {
        assert_eq!(then.client, Ok(Peer::Ip(STRANGER)));
    }
}
