//! Reads a document into a typed value, and finds what the type does not know.

use kubeng_config::problem::{BAD_VALUE, Code, Problem, UNKNOWN_FIELD};
use serde::de::{DeserializeOwned, Deserializer};
use serde_ignored::Path;
use serde_json::Value;

use super::field;
use super::notes::Notes;
use super::suggest::nearest_field;

/// Reads `value` as a `T`. Unknown fields are noted; a wrong type fails.
///
/// For what an API server sent, only unknown fields of a `spec` are noted: its
/// `metadata` may be newer than we are.
pub(crate) fn typed<T: DeserializeOwned>(
    value: Value,
    notes: &mut Notes,
) -> Result<T, Box<Problem>> {
    read(value, notes)
}

/// The same of what is looked at again when it fails.
pub(crate) fn typed_of<T: DeserializeOwned>(
    value: &Value,
    notes: &mut Notes,
) -> Result<T, Box<Problem>> {
    read(value, notes)
}

fn read<'de, T, D>(value: D, notes: &mut Notes) -> Result<T, Box<Problem>>
where
    T: DeserializeOwned,
    D: Deserializer<'de, Error = serde_json::Error>,
{
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(deserializer, |path: Path<'_>| {
        let mut pointer = String::new();
        write_pointer(&path, &mut pointer);
        unknown.push(pointer);
    });
    match read {
        Ok(typed) => {
            unknown.retain(|at| notes.is_manifest() || field::is_within(at, "/spec"));
            for pointer in unknown {
                let nearest = nearest_field::<T>(&pointer);
                notes.unknown_field(&pointer, nearest);
            }
            Ok(typed)
        }
        Err(error) => {
            let pointer = pointer_of(&track.path());
            Err(Box::new(notes.problem(
                &pointer,
                BAD_VALUE,
                without_position(&error.to_string()),
                "write a value of the type that the field has",
            )))
        }
    }
}

/// Whether `value`, which stands at `field`, is a `T` without unknown fields; what is wrong is noted.
///
/// # Errors
/// With the code of the first that was noted.
pub(crate) fn part<T: DeserializeOwned>(
    value: Value,
    field: &str,
    remedy: &str,
    notes: &mut Notes,
) -> Result<(), Code> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(&value, &mut track);
    let read: Result<T, serde_json::Error> =
        serde_ignored::deserialize(deserializer, |path: Path<'_>| {
            let mut pointer = String::new();
            write_pointer(&path, &mut pointer);
            unknown.push(pointer);
        });
    for pointer in &unknown {
        notes.unknown_field(&format!("{field}{pointer}"), nearest_field::<T>(pointer));
    }
    match read {
        Ok(_) if unknown.is_empty() => Ok(()),
        Ok(_) => Err(UNKNOWN_FIELD),
        Err(error) => {
            let place = pointer_of(&track.path());
            let message = quoting(&value, &place, without_position(&error.to_string()));
            notes.bad_value(&format!("{field}{place}"), message, remedy);
            Err(BAD_VALUE)
        }
    }
}

/// `message`, behind the value at `pointer` where it does not quote that itself.
fn quoting(value: &Value, pointer: &str, message: String) -> String {
    let shown = match value.pointer(pointer) {
        Some(short @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => short.to_string(),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => return message,
    };
    let ticked = format!("`{}`", shown.trim_matches('"'));
    if shown.len() > QUOTED_BYTES_MAX || message.contains(&shown) || message.contains(&ticked) {
        return message;
    }
    format!("{shown}: {message}")
}

/// Longer values are not repeated.
const QUOTED_BYTES_MAX: usize = 100;

fn write_pointer(path: &Path<'_>, pointer: &mut String) {
    match path {
        Path::Root => {}
        Path::Seq { parent, index } => {
            write_pointer(parent, pointer);
            field::push(pointer, &index.to_string());
        }
        Path::Map { parent, key } => {
            write_pointer(parent, pointer);
            field::push(pointer, key);
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => write_pointer(parent, pointer),
    }
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => field::push(&mut pointer, &index.to_string()),
            Segment::Map { key } => field::push(&mut pointer, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// The text of a parser's error without a line that means nothing for a value.
fn without_position(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).to_owned()
}
