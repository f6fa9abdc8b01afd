//! The strings under known keys of a JSON body, read in one pass that builds
//! nothing else.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;

use super::responses::error;
use crate::http::Response;

/// The strings under these keys of a body. The values of unknown keys are
/// ignored, but must be JSON. A key that is missing, repeated, null or of another
/// type is an error.
pub(super) fn strings<const N: usize>(
    body: &[u8],
    keys: [&'static str; N],
) -> Result<[String; N], Response> {
    let mut reader = Deserializer::from_slice(body);
    let read = Keys(keys).deserialize(&mut reader);
    let json = match read.and_then(|strings| reader.end().map(|()| strings)) {
        Ok(Some(strings)) => return Ok(strings),
        Ok(None) => true,
        // Not an object, but it may still be JSON.
        Err(error) if error.is_data() => is_json(body),
        Err(_) => false,
    };
    Err(if json {
        let sentence = "The body is no object, or a key is missing, twice there or no string";
        error(400, "M_BAD_JSON", sentence)
    } else {
        error(400, "M_NOT_JSON", "The body is not JSON")
    })
}

pub(super) fn is_json(body: &[u8]) -> bool {
    let mut reader = Deserializer::from_slice(body);
    let read = Value::SKIPPED.deserialize(&mut reader);
    read.and_then(|_| reader.end()).is_ok()
}

/// Reads an object in one pass. A derived reader would stop at the first wrong
/// type, and skip unknown keys without checking their escapes or depth.
struct Keys<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Keys<N> {
    type Value = Option<[String; N]>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Keys<N> {
    type Value = Option<[String; N]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        let mut valid = true;
        while let Some(index) = map.next_key_seed(Key(&self.0))? {
            if let Some(index) = index {
                let first = found[index].is_none();
                found[index] = map.next_value_seed(Value { keep: true })?;
                valid &= first && found[index].is_some();
            } else {
                map.next_value_seed(Value::SKIPPED)?;
            }
        }
        let found = found.into_iter().collect::<Option<Vec<_>>>();
        Ok(found
            .filter(|_| valid)
            .and_then(|strings| strings.try_into().ok()))
    }
}

/// Reads a key as its index among the known ones.
struct Key<'k>(&'k [&'static str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == key))
    }
}

/// Reads any value and returns it if it is a string that is to be kept; nothing
/// is built of all else, however deeply nested. `serde::de::IgnoredAny` does
/// not do: in what it skips, `serde_json` takes any depth, unpaired surrogates
/// and invalid UTF-8.
#[derive(Clone, Copy)]
struct Value {
    keep: bool,
}

impl Value {
    const SKIPPED: Self = Self { keep: false };
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.keep.then(|| text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element_seed(Self::SKIPPED)?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_key_seed(Key(&[]))?.is_some() {
            map.next_value_seed(Self::SKIPPED)?;
        }
        Ok(None)
    }
}
