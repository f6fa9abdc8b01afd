//! A second reading of `X-Forwarded-For` and of `Forwarded` (RFC 7239), by the
//! grammar. Where a text departs from it there is no opinion.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use rendezvousd::http::Head;

/// The hops that a request names, the nearest last, and nothing in the place
/// of one without an address; `None` for no opinion.
pub(crate) fn read(head: &Head<'_, '_>) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    if is_plain(head) {
        for text in plain(head) {
            hops.push(address(str::from_utf8(&text).ok()?)?);
        }
        return Some(hops);
    }
    for value in head.values("Forwarded") {
        for element in elements(str::from_utf8(value).ok()?)? {
            let mut named = element
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("for"));
            match (named.next(), named.next()) {
                (Some((_, text)), None) => hops.push(address(text)?),
                (None, _) => hops.push(None),
                _ => return None,
            }
        }
    }
    Some(hops)
}

/// Whether `X-Forwarded-For` names anything.
pub(crate) fn is_plain(head: &Head<'_, '_>) -> bool {
    !plain(head).is_empty()
}

/// A number that a request does not name more hops than.
pub(crate) fn at_most(head: &Head<'_, '_>) -> usize {
    let names = ["X-Forwarded-For", "Forwarded"];
    let values = names.into_iter().flat_map(|name| head.values(name));
    values
        .map(|value| 1 + value.iter().filter(|b| **b == b',').count())
        .sum()
}

/// The elements of all `X-Forwarded-For`, which are one list.
fn plain(head: &Head<'_, '_>) -> Vec<Vec<u8>> {
    let values: Vec<&[u8]> = head.values("X-Forwarded-For").collect();
    let list = values.join(&b',');
    let texts = list.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let named = texts.filter(|text| !text.is_empty());
    named.map(<[u8]>::to_vec).collect()
}

/// The address in a text; within, nothing if it is none, or one of a zone.
/// There is no opinion about white space that stood in quotes.
fn address(text: &str) -> Option<Option<IpAddr>> {
    if text != text.trim_ascii() {
        return None;
    }
    let v4 = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let v6 = |text: &str| text.parse::<Ipv6Addr>().ok().map(|ip| ip.to_canonical());
    Some(match text.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .filter(|(_, port)| port.is_empty() || is_port(port))
            .and_then(|(inner, _)| v6(inner)),
        None if text.matches(':').count() == 1 => text
            .split_once(':')
            .filter(|(_, port)| is_port(&format!(":{port}")))
            .and_then(|(name, _)| v4(name)),
        None => v4(text).or_else(|| v6(text)),
    })
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| {
        digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok()
    })
}

/// The elements of a `Forwarded` field, each with its pairs; empty ones, that
/// lists may have, left out.
fn elements(text: &str) -> Option<Vec<Vec<(String, String)>>> {
    let mut elements = vec![Vec::new()];
    let mut rest = text.trim_ascii();
    while let Some(next) = rest.chars().next() {
        match next {
            ',' => {
                elements.push(Vec::new());
                rest = rest[1..].trim_ascii();
            }
            ';' => rest = &rest[1..],
            _ => {
                let (pair, behind) = pair(rest)?;
                elements.last_mut()?.push(pair);
                // White space stands around commas only.
                let spaced = behind.trim_ascii_start();
                rest = if spaced.starts_with(',') {
                    spaced
                } else {
                    behind
                };
                if !rest.is_empty() && !rest.starts_with([',', ';']) {
                    return None;
                }
            }
        }
    }
    elements.retain(|element| !element.is_empty());
    Some(elements)
}

/// A name and a value at the front, and what stands behind them.
fn pair(text: &str) -> Option<((String, String), &str)> {
    let (name, rest) = text.split_once('=')?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) {
        return None;
    }
    let (value, behind) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            // Proxies write addresses without the quotes they need.
            let bare = |c: char| token(c) || "[]:".contains(c);
            let end = rest.find(|c| !bare(c)).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        }
    };
    Some(((name.into(), value), behind))
}

/// What stands before the closing quote, and what stands behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}
