//! A JSON object with every pair it has, duplicates too: what the server's
//! own types and `serde_json::Value` do not show.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// What a text is.
pub(crate) enum Object {
    /// An object of these.
    Pairs(Vec<(String, Value)>),
    /// Another JSON value.
    Other,
    /// No JSON.
    Broken,
}

/// Reads a text.
pub(crate) fn object(text: &[u8]) -> Object {
    serde_json::from_slice(text).unwrap_or(Object::Broken)
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Collector)
    }
}

struct Collector;

impl<'de> Visitor<'de> for Collector {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Object::Pairs(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Object, A::Error> {
        // As values, not ignored: what is skipped is not looked at closely.
        while sequence.next_element::<Value>()?.is_some() {}
        Ok(Object::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Object, E> {
        Ok(Object::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Object, E> {
        Ok(Object::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Object, E> {
        Ok(Object::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Object, E> {
        Ok(Object::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Object, E> {
        Ok(Object::Other)
    }

    fn visit_unit<E>(self) -> Result<Object, E> {
        Ok(Object::Other)
    }
}
