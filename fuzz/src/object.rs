//! A JSON object with every pair it has, duplicates too: what the server's
//! own types and `serde_json::Value` do not show.

use std::fmt;
use std::str;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a text is.
pub(crate) enum Object<'a> {
    /// An object of these.
    Pairs(Vec<(String, &'a RawValue)>),
    /// Another JSON value, or an object with a key that is no text.
    Other,
    /// No JSON.
    Broken,
}

/// Reads a text.
pub(crate) fn object(text: &[u8]) -> Object<'_> {
    match str::from_utf8(text) {
        Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            serde_json::from_str(text).map_or(Object::Other, |Pairs(pairs)| Object::Pairs(pairs))
        }
        _ => Object::Broken,
    }
}

struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collector)
    }
}

struct Collector;

impl<'de> Visitor<'de> for Collector {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}
