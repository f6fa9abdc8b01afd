//! ETags as clients send them back, possibly changed by proxies.
//!
//! MSC3886 and MSC4108 want one strong tag, compared to the letter. A proxy
//! that compresses a response weakens its tag or adds a suffix, and the next
//! write then fails with 412. Our tags name one exact revision, so what a
//! proxy put around it can be ignored without confusing two.

use std::str;

use crate::http::Head;
use crate::session::Revision;

/// Suffixes that compressing proxies append to a tag, inside its quotes: Apache
/// (`-gzip`, `-br`, `;gzip`), Caddy (`-zstd` and the like), Jetty (`--gzip`).
const SUFFIXES: [&str; 12] = [
    "-gzip",
    "-br",
    "-zstd",
    "-deflate",
    "--gzip",
    "--br",
    "--zstd",
    "--deflate",
    ";gzip",
    ";br",
    ";zstd",
    ";deflate",
];

/// A tag that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// The revision it names, if it can be one of ours.
    pub(super) revision: Option<Revision>,
    /// Whether it is written otherwise than we wrote it.
    pub(super) repaired: bool,
}

impl Tag {
    /// Reads one tag; `None` if it is none: unbalanced quotes, a list, `*`.
    fn parse(text: &str) -> Option<Self> {
        let strong = text.strip_prefix("W/").unwrap_or(text);
        let opaque = match strong.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None if strong.is_empty() || strong == "*" => return None,
            None => strong,
        };
        // RFC 9110, section 8.8.3; a comma is legal there, but we never
        // write one and clients do not send us lists on purpose.
        let legal = |b: u8| b > b' ' && b != 0x7f && b != b'"' && b != b',';
        if !opaque.bytes().all(legal) {
            return None;
        }
        let revision = opaque
            .get(Revision::LENGTH..)
            .filter(|rest| rest.is_empty() || SUFFIXES.contains(rest))
            .and_then(|_| Revision::parse(opaque.get(..Revision::LENGTH)?));
        let written = text.len() == Revision::LENGTH + 2 && text.starts_with('"');
        Some(Self {
            revision,
            repaired: revision.is_some() && !written,
        })
    }
}

/// The content of `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Nothing.
    Absent,
    /// Something that is not one tag.
    Malformed,
    /// One tag.
    Tag(Tag),
}

/// Reads `If-Match`, which must be a single tag.
pub(super) fn if_match(head: &Head<'_, '_>) -> IfMatch {
    let mut values = head.values("If-Match");
    match (values.next(), values.next()) {
        (None, _) => IfMatch::Absent,
        (Some(value), None) => str::from_utf8(value)
            .ok()
            .and_then(Tag::parse)
            .map_or(IfMatch::Malformed, IfMatch::Tag),
        (Some(_), Some(_)) => IfMatch::Malformed,
    }
}

/// The member of `If-None-Match` that a revision meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfNoneMatch {
    /// `*`, which every revision meets.
    Any,
    /// The tag that names it.
    Tag(Tag),
}

/// The member of `If-None-Match` that this revision meets, if it meets one. The
/// field may be a list.
pub(super) fn if_none_match(head: &Head<'_, '_>, current: Revision) -> Option<IfNoneMatch> {
    head.values("If-None-Match")
        .filter_map(|value| str::from_utf8(value).ok())
        .flat_map(members)
        .map(str::trim_ascii)
        .find_map(|text| {
            if text == "*" {
                return Some(IfNoneMatch::Any);
            }
            let tag = Tag::parse(text)?;
            (tag.revision == Some(current)).then_some(IfNoneMatch::Tag(tag))
        })
}

/// The members of a list: a comma within quotes belongs to a member.
pub(super) fn members(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Decoder, Status};

    const OURS: Revision = Revision::new(0xabc);
    const TEXT: &str = "0000000000000abc";

    fn with_head<T>(fields: &str, mut look: impl FnMut(&Head<'_, '_>) -> T) -> T {
        let mut decoder = Decoder::default();
        decoder.push(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes());
        match decoder.step(|request| Ok(look(&request.head))) {
            Ok(Status::Complete(seen)) => seen,
            _ => panic!("no request: {fields:?}"),
        }
    }

    #[test]
    fn a_tag_as_we_wrote_it_needs_no_repair() {
        let tag = Tag::parse(&format!("\"{TEXT}\"")).unwrap();
        assert_eq!((tag.revision, tag.repaired), (Some(OURS), false));
    }

    #[test]
    fn what_proxies_do_to_a_tag_is_undone() {
        let mut changed = vec![TEXT.into(), format!("W/{TEXT}"), format!("W/\"{TEXT}\"")];
        for suffix in [
            "-gzip",
            "-br",
            "-zstd",
            "-deflate",
            "--gzip",
            "--br",
            "--zstd",
            "--deflate",
            ";gzip",
            ";br",
            ";zstd",
            ";deflate",
        ] {
            changed.push(format!("\"{TEXT}{suffix}\""));
            changed.push(format!("W/\"{TEXT}{suffix}\""));
            changed.push(format!("{TEXT}{suffix}"));
        }
        for text in changed {
            let tag = Tag::parse(&text).expect(&text);
            assert_eq!((tag.revision, tag.repaired), (Some(OURS), true), "{text}");
        }
    }

    #[test]
    fn foreign_tags_name_no_revision() {
        for text in [
            "\"\"",
            "\"x\"",
            "x",
            "\"0000000000000ABC\"",
            "\"0000000000000abc-lzma\"",
            "\"0000000000000abc-gzip-gzip\"",
            "\"00000000000000abc\"",
            "\"000000000000000é\"",
        ] {
            let tag = Tag::parse(text).expect(text);
            assert_eq!((tag.revision, tag.repaired), (None, false), "{text}");
        }
    }

    #[test]
    fn msc3886_if_match_is_one_tag() {
        let read = |fields: &str| with_head(fields, if_match);
        assert_eq!(read(""), IfMatch::Absent);
        for value in [
            "",
            "*",
            "W/",
            "\"",
            "\"a",
            "a\"",
            "\"a\"b\"",
            "\"a\", \"b\"",
            "a b",
            "a,b",
            "W/*",
        ] {
            let fields = format!("If-Match: {value}\r\n");
            assert_eq!(read(&fields), IfMatch::Malformed, "{value:?}");
        }
        let one = format!("If-Match: \"{TEXT}\"\r\n");
        assert!(matches!(read(&one), IfMatch::Tag(tag) if tag.revision == Some(OURS)));
        assert_eq!(read(&one.repeat(2)), IfMatch::Malformed);
    }

    #[test]
    fn rfc9110_13_1_2_if_none_match_may_be_a_list_or_a_star() {
        let found = |value: &str| {
            let fields = format!("If-None-Match: {value}\r\n");
            with_head(&fields, |head| if_none_match(head, OURS).is_some())
        };
        assert!(found("*"));
        assert!(found(&format!("\"{TEXT}\"")));
        assert!(found(&format!("\"a\", W/\"{TEXT}-gzip\" , \"b\"")));
        assert!(found(&format!("\"a\"\r\nIf-None-Match: \"{TEXT}\"")));
        assert!(!found("\"a\", \"b\""));
        assert!(!found("\"a,*,b\""));
        assert!(!found(&format!("\"a,{TEXT},b\"")));
        assert!(!found("\"0000000000000abd\""));
        assert!(!found(&format!("\"{TEXT}")));
    }
}
