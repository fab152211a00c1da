//! JSON objects, read as Go's `encoding/json` reads them into its structures.
//!
//! Scripts that were written for Go servers rely on more than they know: keys in any case, `null` for
//! what is not there, keys given twice, something behind the object.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The fields of an object; its default is the empty object, and `null`.
pub(super) trait Fields: Default {
    /// Reads the value of the key `name`, which is in lower case, or skips it.
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads the first value of `json` and ignores what follows.
pub(super) fn parse<T: Fields>(json: &[u8]) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(json);
    Object::deserialize(&mut json).map(|Object(fields)| fields)
}

/// Reads the value of a field; `null` leaves it as it was.
pub(super) fn read_into<'de, T, A>(field: &mut T, map: &mut A) -> Result<(), A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    if let Some(value) = map.next_value()? {
        *field = value;
    }
    Ok(())
}

/// An object that can be deserialized.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Fields> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut fields = T::default();
        while let Some(key) = map.next_key::<String>()? {
            fields.read(&fold(&key), &mut map)?;
        }
        Ok(fields)
    }
}

/// Lower case, as far as names of ASCII letters are concerned: Unicode folds two more characters into
/// these.
fn fold(key: &str) -> String {
    let fold = |character: char| match character {
        'ſ' => 's',
        '\u{212a}' => 'k',
        _ => character.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}
