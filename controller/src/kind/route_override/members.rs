//! `spec.patch`, member by member: what can be understood stays, the rest is told.

use kubeng_config::patch::Patch;
use kubeng_config::patch::member::{Class, ELSEWHERE, MEMBERS, find};
use kubeng_config::problem::{BAD_VALUE, Code, UNKNOWN_FIELD};
use serde_json::{Map, Value};

use crate::decode::notes::Notes;
use crate::decode::suggest::nearest;
use crate::decode::typed;

/// What is left of a patch.
pub(super) struct Read {
    pub(super) patch: Map<String, Value>,
    /// Why the Routes that it is for are closed.
    pub(super) closes: Option<Code>,
}

/// Reads `written`. Where the rest of the Object is not whole, nothing of it is used, and the Routes
/// are closed if it would have protected them.
pub(super) fn read(written: &Value, is_whole: bool, notes: &mut Notes) -> Read {
    let mut read = Read { patch: Map::new(), closes: None };
    let Some(members) = written.as_object().filter(|members| !members.is_empty()) else {
        let message = "the patch is missing, empty, or no object".to_owned();
        // Where it has another form, or another name, nobody can tell what it was to protect.
        let is_nothing = written.is_null() || written.as_object().is_some();
        let is_elsewhere = notes.unknown_fields().any(|field| !field.starts_with("/metadata"));
        if !is_nothing || is_elsewhere {
            read.closes = Some(BAD_VALUE);
        }
        notes.bad_value(FIELD, message, "write at least one member, such as timeouts");
        return read;
    };
    let bytes = written.to_string().len();
    if bytes > PATCH_BYTES_MAX {
        let message = format!("the patch has {bytes} bytes, which is more than {PATCH_BYTES_MAX}");
        notes.bad_value(FIELD, message, "split it, or shorten what is written in it");
    }
    let is_usable = is_whole && bytes <= PATCH_BYTES_MAX;
    for (name, value) in members {
        match judge(name, value, notes) {
            Ok(()) if is_usable => drop(read.patch.insert(name.clone(), value.clone())),
            Ok(()) => read.close(class_of(name), BAD_VALUE),
            Err((class, code)) => read.close(class, code),
        }
    }
    read
}

impl Read {
    fn close(&mut self, class: Class, because: Code) {
        match class {
            Class::Protects => self.closes = self.closes.or(Some(because)),
            Class::Tunes => {}
        }
    }
}

/// Whether a member can be understood; what is wrong with it is noted.
fn judge(name: &str, value: &Value, notes: &mut Notes) -> Result<(), (Class, Code)> {
    if let Some(member) = find(name) {
        let alone = Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
        let remedy = format!("{name} may hold: {}", member.allowed);
        return typed::part::<Patch>(alone, FIELD, &remedy, notes)
            .map_err(|code| (member.class, code));
    }
    let field = format!("{FIELD}/{name}");
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
        let message = format!("{name} is not something that a route can have");
        notes.note(&field, UNKNOWN_FIELD, message, instead);
        return Err((Class::Tunes, UNKNOWN_FIELD));
    }
    let names: Vec<&str> = MEMBERS.iter().map(|member| member.name).collect();
    let meant = nearest(name, &names);
    notes.unknown_field(&field, meant);
    Err((class_of(meant.unwrap_or(name)), UNKNOWN_FIELD))
}

/// What a member is for. One that nobody knows may have been meant to protect.
fn class_of(name: &str) -> Class {
    find(name).map_or(Class::Protects, |member| member.class)
}

const FIELD: &str = "/spec/patch";
const PATCH_BYTES_MAX: usize = 64 * 1024;
