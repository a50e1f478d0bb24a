//! JSON text to values; keys written twice are refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::yaml::{Document, Fault};

/// Reads all values of `text`, one after another.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, Fault> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Strict>();
    let mut counted = (0, 1);
    loop {
        let offset = stream.byte_offset();
        let Some(next) = stream.next() else { return Ok(documents) };
        let rest = text.get(offset..).unwrap_or_default();
        let start = offset + (rest.len() - rest.trim_start().len());
        match next {
            Ok(Strict(value)) => {
                let between = text.get(counted.0..start).unwrap_or_default();
                counted = (start, counted.1 + newlines(between));
                documents.push(Document { line: counted.1, value });
            }
            Err(error) => {
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
                let column = u32::try_from(error.column()).unwrap_or(u32::MAX);
                let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
                return Err(Fault { line, column, message });
            }
        }
    }
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// A value whose objects name each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if all.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is written twice")));
            }
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_one_another_with_their_lines() {
        let documents = read("\n{\"a\": [1, null]}\n\n  {\"b\": \"\\ud83d\\ude00\"}\n").unwrap();
        let lines: Vec<u32> = documents.iter().map(|document| document.line).collect();
        assert_eq!(lines, [2, 4]);
    }

    #[test]
    fn faults_have_a_place() {
        let fault = read("{\"a\": 1,\n \"a\": 2}").unwrap_err();
        assert!(fault.line == 2 && fault.message.contains("written twice"), "{fault:?}");
        assert_eq!(read("{\n\"a\": }").unwrap_err().line, 2);
        assert!(read(&"[".repeat(4000)).is_err());
    }
}
