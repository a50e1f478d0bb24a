//! What a scalar of YAML is: nothing, true or false, a number, or text.

use serde_json::{Number, Value};

/// Reads a scalar. `tag` is the suffix of a tag of the core schema, empty for
/// any other tag.
pub(crate) fn value(text: &str, is_plain: bool, tag: Option<&str>) -> Result<Value, String> {
    match tag {
        None if is_plain => Ok(plain(text)),
        None | Some("str") => Ok(Value::String(text.to_owned())),
        Some("int" | "float" | "bool" | "null") => Some(plain(text))
            .filter(|value| !value.is_string())
            .ok_or_else(|| format!("{text:?} is not what its tag says")),
        Some(_) => Err("a tag that is not read".to_owned()),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let has_leading_zero = unsigned.len() > 1
        && unsigned.starts_with('0')
        && unsigned.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if has_leading_zero || !unsigned.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if unsigned.chars().all(|c| c.is_ascii_digit()) {
        if let Ok(number) = text.parse::<i64>() {
            return Some(number.into());
        }
        return text.parse::<u64>().ok().map(Number::from);
    }
    let is_float = unsigned.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    text.parse::<f64>().ok().filter(|_| is_float).and_then(Number::from_f64)
}

fn radix(digits: &str, radix: u32) -> Option<Number> {
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(Number::from)
}
