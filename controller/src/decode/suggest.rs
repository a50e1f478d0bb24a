//! "Did you mean": the known field whose name is nearest to an unknown one.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor, value,
};
use serde::forward_to_deserialize_any;

use super::field;

/// The name nearest to `text`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let lower = text.to_ascii_lowercase();
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5 && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// The field of `T` that is nearest to the unknown field at `pointer`.
pub(crate) fn nearest_field<T: DeserializeOwned>(pointer: &str) -> Option<&'static str> {
    let mut fields = None;
    let steps = field::steps(field::parent(pointer));
    // The answer is in `fields`; that nothing can be read from a probe is no error.
    let _ = T::deserialize(Probe { steps: &steps, fields: &mut fields });
    nearest(&field::last(pointer), fields?)
}

/// Walks down `steps` through a type and notes the fields of what is there.
///
/// Types tell their fields only to a deserializer, so this is one; it holds
/// nothing and fails when it has arrived.
struct Probe<'a> {
    steps: &'a [String],
    fields: &'a mut Option<&'static [&'static str]>,
}

/// Why a probe ends: it has arrived, or the way does not exist.
#[derive(Debug)]
struct End;

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("end of the way")
    }
}

impl std::error::Error for End {}

impl serde::de::Error for End {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = End;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, End> {
        Err(End)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, End> {
        if self.steps.is_empty() {
            *self.fields = Some(fields);
            return Err(End);
        }
        visitor.visit_map(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        if self.steps.is_empty() { Err(End) } else { visitor.visit_map(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        if self.steps.is_empty() { Err(End) } else { visitor.visit_seq(self) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, End> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, End> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Probe<'_> {
    type Error = End;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, End> {
        let step = self.steps.first().ok_or(End)?;
        let key: value::StrDeserializer<'_, End> = step.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, End> {
        let steps = self.steps.get(1..).ok_or(End)?;
        seed.deserialize(Probe { steps, fields: self.fields })
    }
}

impl<'de> SeqAccess<'de> for Probe<'_> {
    type Error = End;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, End> {
        let steps = self.steps.get(1..).ok_or(End)?;
        seed.deserialize(Probe { steps, fields: self.fields }).map(Some)
    }
}
