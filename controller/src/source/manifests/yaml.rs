//! YAML text to values: with the line of every field, without surprises.
//!
//! YAML 1.2, core schema. Keys written twice are refused, nesting and aliases
//! are bounded. A plain number with leading zeros stays text, because parsers
//! do not agree on what it is.

use std::collections::HashMap;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};

use super::scalar;
use crate::decode::field;

/// One document of a text.
#[derive(Debug)]
pub(crate) struct Document {
    /// The line on which its contents begin, from 1.
    pub(crate) line: u32,
    /// The contents; nothing for an empty document.
    pub(crate) value: Value,
}

/// Why a text cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    /// The line, from 1.
    pub(crate) line: u32,
    /// The column, from 1.
    pub(crate) column: u32,
    /// What is wrong.
    pub(crate) message: String,
}

/// The lines of the fields of one text, by document and JSON Pointer.
#[derive(Debug, Default)]
pub(crate) struct Lines(HashMap<(usize, String), u32>);

impl Lines {
    /// The line of a field, or of the nearest field around it that is written.
    pub(crate) fn line(&self, document: usize, pointer: &str) -> Option<u32> {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.0.get(&(document, pointer.to_owned())) {
                return Some(*line);
            }
            if pointer.is_empty() {
                return None;
            }
            pointer = field::parent(pointer);
        }
    }
}

/// Reads all documents of `text`, whose first line is line `first_line` of its file.
pub(crate) fn read(text: &str, first_line: u32) -> Result<Vec<Document>, Fault> {
    let mut builder = Builder::new(first_line, None);
    builder.run(text)?;
    Ok(builder.documents)
}

/// Finds the lines of all fields of `text`, as far as it can be read.
///
/// Only asked for when there is a Problem to be placed.
pub(crate) fn lines(text: &str, first_line: u32) -> Lines {
    let mut builder = Builder::new(first_line, Some(Lines::default()));
    let _ = builder.run(text);
    builder.lines.unwrap_or_default()
}

/// Deepest nesting of a document.
const DEPTH_MAX: usize = 64;

/// Most values that aliases of one document may stand for together.
const ALIASED_VALUES_MAX: usize = 10_000;

/// Builds values from the events of the parser.
struct Builder {
    first_line: u32,
    documents: Vec<Document>,
    /// What is open, outermost first.
    open: Vec<Open>,
    /// Values that can be named again, and how many values each holds.
    anchors: HashMap<usize, (Value, usize)>,
    aliased: usize,
    /// The pointer to what is open, and the lines seen; only when asked for.
    lines: Option<Lines>,
    pointer: String,
}

/// A collection that has not ended.
struct Open {
    contents: Contents,
    anchor: usize,
    line: u32,
    /// Length of the pointer of its parent.
    pointer_len: usize,
}

enum Contents {
    Sequence(Vec<Value>),
    Mapping { entries: Map<String, Value>, key: Option<String>, merged: Vec<Value> },
}

impl Builder {
    fn new(first_line: u32, lines: Option<Lines>) -> Self {
        Self {
            first_line,
            documents: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            aliased: 0,
            lines,
            pointer: String::new(),
        }
    }

    fn run(&mut self, text: &str) -> Result<(), Fault> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        for item in Parser::new_from_str_with_options(text, options) {
            let (event, span) = item.map_err(|error| self.scan_fault(&error))?;
            self.take(event, &span)?;
        }
        Ok(())
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the union may grow; what is no node says nothing about values"
    )]
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        let at = span.start;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text.into_owned(), style, anchor, tag.as_deref(), &at)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "seq", &at)?;
                self.open(Contents::Sequence(Vec::new()), anchor, &at)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "map", &at)?;
                let entries = Map::new();
                self.open(Contents::Mapping { entries, key: None, merged: Vec::new() }, anchor, &at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(&at),
            Event::Alias(anchor) => self.alias(anchor, &at),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.aliased = 0;
                Ok(())
            }
            Event::UnresolvedAlias(name) => {
                Err(self.fault(&at, format!("nothing has the anchor {name:?}")))
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: &Marker,
    ) -> Result<(), Fault> {
        if self.awaits_key() {
            if anchor != 0 {
                return Err(self.fault(at, "a key has an anchor".to_owned()));
            }
            return self.key(text, at);
        }
        let suffix = tag.map(|tag| tag.core_suffix().unwrap_or_default());
        let value = match scalar::value(&text, style == ScalarStyle::Plain, suffix) {
            Ok(value) => value,
            Err(message) => return Err(self.fault(at, message)),
        };
        self.note_line(at);
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), 1));
        }
        let line = self.line(at);
        self.put(value, line, at)
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { contents: Contents::Mapping { key: None, .. }, .. }))
    }

    fn key(&mut self, text: String, at: &Marker) -> Result<(), Fault> {
        if let Some(Open { contents: Contents::Mapping { entries, key, .. }, .. }) =
            self.open.last_mut()
        {
            if entries.contains_key(&text) {
                return Err(self.fault(at, format!("the key {text:?} is written twice")));
            }
            if self.lines.is_some() {
                field::push(&mut self.pointer, &text);
            }
            *key = Some(text);
            self.note_line(at);
        }
        Ok(())
    }

    fn open(&mut self, contents: Contents, anchor: usize, at: &Marker) -> Result<(), Fault> {
        if self.awaits_key() {
            return Err(self.fault(at, "a key must be text".to_owned()));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(self.fault(at, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.note_line(at);
        let line = self.line(at);
        self.open.push(Open { contents, anchor, line, pointer_len: self.pointer.len() });
        if let (Some(_), Some(Open { contents: Contents::Sequence(_), .. })) =
            (&self.lines, self.open.last())
        {
            field::push(&mut self.pointer, "0");
        }
        Ok(())
    }

    fn close(&mut self, at: &Marker) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        self.pointer.truncate(open.pointer_len);
        let value = match open.contents {
            Contents::Sequence(items) => Value::Array(items),
            Contents::Mapping { mut entries, merged, .. } => {
                for value in merged {
                    if !merge(&mut entries, value) {
                        let message = "<< must name a mapping, or several".to_owned();
                        return Err(self.fault(at, message));
                    }
                }
                Value::Object(entries)
            }
        };
        if open.anchor != 0 {
            let size = size(&value);
            self.anchors.insert(open.anchor, (value.clone(), size));
        }
        self.put(value, open.line, at)
    }

    fn alias(&mut self, anchor: usize, at: &Marker) -> Result<(), Fault> {
        if self.awaits_key() {
            return Err(self.fault(at, "a key must be text".to_owned()));
        }
        let Some((value, size)) = self.anchors.get(&anchor) else {
            return Err(self.fault(at, "an alias stands inside what it names".to_owned()));
        };
        self.aliased += size;
        if self.aliased > ALIASED_VALUES_MAX {
            let message = format!("aliases stand for more than {ALIASED_VALUES_MAX} values");
            return Err(self.fault(at, message));
        }
        let value = value.clone();
        self.note_line(at);
        let line = self.line(at);
        self.put(value, line, at)
    }

    /// Puts a whole value where it belongs.
    fn put(&mut self, value: Value, line: u32, at: &Marker) -> Result<(), Fault> {
        let is_placing = self.lines.is_some();
        match self.open.last_mut() {
            None => self.documents.push(Document { line, value }),
            Some(Open { contents: Contents::Sequence(items), pointer_len, .. }) => {
                items.push(value);
                if is_placing {
                    self.pointer.truncate(*pointer_len);
                    field::push(&mut self.pointer, &items.len().to_string());
                }
            }
            Some(Open {
                contents: Contents::Mapping { entries, key, merged },
                pointer_len,
                ..
            }) => {
                self.pointer.truncate(*pointer_len);
                match key.take() {
                    Some(key) if key == "<<" => merged.push(value),
                    Some(key) => {
                        entries.insert(key, value);
                    }
                    None => return Err(self.fault(at, "a key must be text".to_owned())),
                }
            }
        }
        Ok(())
    }

    /// Tags other than the plain ones would change what a value means.
    fn refuse_tag(&self, tag: Option<&Tag>, plain: &str, at: &Marker) -> Result<(), Fault> {
        match tag {
            Some(tag) if tag.core_suffix() != Some(plain) => {
                Err(self.fault(at, format!("the tag {} is not read", tag.original())))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn note_line(&mut self, at: &Marker) {
        let line = self.line(at);
        if let Some(lines) = &mut self.lines {
            let place = (self.documents.len(), self.pointer.clone());
            lines.0.entry(place).or_insert(line);
        }
    }

    fn line(&self, at: &Marker) -> u32 {
        let line = u32::try_from(at.line().max(1)).unwrap_or(u32::MAX);
        self.first_line.saturating_add(line - 1)
    }

    fn fault(&self, at: &Marker, message: String) -> Fault {
        let column = u32::try_from(at.col()).unwrap_or(u32::MAX).saturating_add(1);
        Fault { line: self.line(at), column, message }
    }

    fn scan_fault(&self, error: &ScanError) -> Fault {
        self.fault(error.marker(), error.info())
    }
}

/// Adds what `value` has and `entries` has not; the key `<<` of YAML 1.1.
fn merge(entries: &mut Map<String, Value>, value: Value) -> bool {
    match value {
        Value::Object(other) => {
            for (key, value) in other {
                entries.entry(key).or_insert(value);
            }
            true
        }
        Value::Array(all) => all.into_iter().all(|one| one.is_object() && merge(entries, one)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// How many values `value` holds, itself included.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(size).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        let documents = read(text, 1).unwrap();
        let values: Vec<Value> = documents.into_iter().map(|document| document.value).collect();
        assert_eq!(Value::Array(values), expected, "{text}");
    }

    #[track_caller]
    fn check_fault(text: &str, line: u32, part: &str) {
        let fault = read(text, 1).unwrap_err();
        assert!(fault.message.contains(part), "{fault:?}");
        assert_eq!(fault.line, line, "{fault:?}");
    }

    #[test]
    fn values_are_read_by_the_core_schema() {
        check(
            "a: 1\nb: [x, true, null, 1.5, ~]",
            json!([{"a": 1, "b": ["x", true, null, 1.5, null]}]),
        );
        check(
            "a: 010\nb: yes\nc: '1'\nd: 0x1f\ne: 12:30",
            json!([{
                "a": "010", "b": "yes", "c": "1", "d": 31, "e": "12:30"
            }]),
        );
        check("a: !!str 1\nb: |\n  x\n  y\n", json!([{"a": "1", "b": "x\ny\n"}]));
        check("---\n---\na: 1\n", json!([null, {"a": 1}]));
        check("1: x", json!([{"1": "x"}]));
        check("# only words\n", json!([]));
    }

    #[test]
    fn aliases_are_followed_within_bounds() {
        check(
            "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}",
            json!([{
                "a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}
            }]),
        );
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let line = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{line}]\n"));
        }
        check_fault(&bomb, 4, "aliases stand for more than");
        check_fault("a: &a [*a]", 1, "inside what it names");
    }

    #[test]
    fn what_is_ambiguous_is_refused_with_its_place() {
        check_fault("a: 1\nb: 2\na: 3", 3, "\"a\" is written twice");
        check_fault("{a: 1, a: 2}", 1, "written twice");
        check_fault("a: 1\n b: 2", 2, "");
        check_fault("a: [1, 2\nb: 3", 2, "");
        check_fault("? [a]\n: b", 1, "a key must be text");
        check_fault("a: !secret x", 1, "tag");
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        check_fault(&deep, 1, "nested deeper than 64");
    }

    #[test]
    fn fields_have_lines() {
        let text =
            "kind: X\nspec:\n  rules:\n  - host: a\n    http:\n      paths: []\n  - host: b\n";
        let lines = lines(text, 10);
        for (pointer, line) in [
            ("", 10),
            ("/spec", 11),
            ("/spec/rules/0/host", 13),
            ("/spec/rules/0/http/paths", 15),
            ("/spec/rules/1/host", 16),
            ("/spec/rules/1/missing", 16),
        ] {
            assert_eq!(lines.line(0, pointer), Some(line), "{pointer}");
        }
    }
}
