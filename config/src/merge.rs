//! Merges Patches: typed JSON Merge Patch (RFC 7396) with keyed lists, layers and owners.
//!
//! A Patch is a document that was read as a [`Patch`](crate::patch::Patch) once, so every pointer has
//! the same shape in all of them. `null` stands for "as if no lower layer had set it". Objects merge
//! by member, [keyed lists](KEYED) by element, and all other lists are replaced as wholes; what stands
//! at one of the [`ATOMIC`] pointers is a choice between forms and is replaced as a whole, too.

mod leaf;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::layer::{Layer, Scope};
use crate::name::ObjectKey;
use leaf::{Leaf, leaves};

/// A JSON Pointer (RFC 6901) into a Patch. Elements of keyed lists are named by their key.
pub type Pointer = String;

/// One Patch with what decides when it counts.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// Its layer.
    pub layer: Layer,
    /// Its scope within the layer.
    pub scope: Scope,
    /// When its Object was created, in seconds since 1970.
    pub created: i64,
    /// Its Object.
    pub object: &'a ObjectKey,
    /// The document.
    pub patch: &'a Value,
}

/// What several Patches say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// The values, without any `null`.
    pub values: Value,
    /// What is to be as if no lower layer had set it; `values` are put on top.
    pub resets: BTreeSet<Pointer>,
    /// Who set each pointer, the lowest first; the last one counts.
    pub setters: BTreeMap<Pointer, Vec<Setter>>,
    /// What did not count, because an older Object of the same layer and scope has the pointer.
    pub conflicts: Vec<Conflict>,
}

/// One who set a pointer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setter {
    /// Its layer.
    pub layer: Layer,
    /// Its scope.
    pub scope: Scope,
    /// The Object.
    pub object: ObjectKey,
    /// What it set; `None` where it took back what lower layers had set.
    pub value: Option<Value>,
}

/// A pointer that two Objects of one layer and scope set.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Conflict {
    /// The pointer of the one whose word does not count.
    pub pointer: Pointer,
    /// The younger one.
    pub loser: ObjectKey,
    /// The older one, whose word counts.
    pub owner: ObjectKey,
}

/// Merges Patches, in whatever order they are given.
///
/// The later layer wins, within it the narrower scope, and within that the older Object, which keeps
/// each pointer that it has set; of Objects of one age the one with the smaller key.
#[must_use]
pub fn merge(written: &[Written<'_>]) -> Merged {
    let mut in_order: Vec<&Written<'_>> = written.iter().collect();
    in_order.sort_by_key(|one| (one.layer, one.scope, one.created, one.object));
    let mut merged = Merged { values: Value::Object(Map::new()), ..Merged::default() };
    let mut owned: BTreeMap<Pointer, &ObjectKey> = BTreeMap::new();
    let mut place = None;
    for one in in_order {
        if place.replace((one.layer, one.scope)) != Some((one.layer, one.scope)) {
            owned.clear();
        }
        merged.put(one, &mut owned);
    }
    let tree = std::mem::take(&mut merged.values);
    merged.values = leaf::with_lists(tree);
    merged
}

impl Merged {
    fn put<'a>(&mut self, one: &Written<'a>, owned: &mut BTreeMap<Pointer, &'a ObjectKey>) {
        let mut mine = Vec::new();
        for (pointer, leaf) in leaves(one.patch) {
            if let Leaf::Present = leaf {
                make_object(&mut self.values, &pointer);
                continue;
            }
            if let Some(owner) = owner_of(owned, &pointer).filter(|owner| *owner != one.object) {
                let (loser, owner) = (one.object.clone(), owner.clone());
                self.conflicts.push(Conflict { pointer, loser, owner });
                continue;
            }
            let value = match leaf {
                Leaf::Set(value) => {
                    set(&mut self.values, &pointer, value.clone());
                    Some(value)
                }
                Leaf::Reset => {
                    remove(&mut self.values, &pointer);
                    self.resets.insert(pointer.clone());
                    None
                }
                Leaf::Present => continue,
            };
            let setter =
                Setter { layer: one.layer, scope: one.scope, object: one.object.clone(), value };
            self.setters.entry(pointer.clone()).or_default().push(setter);
            mine.push(pointer);
        }
        owned.extend(mine.into_iter().map(|pointer| (pointer, one.object)));
    }

    /// What is left of `lowest`, a Patch below all layers: what nobody has taken back.
    #[must_use]
    pub fn left_of(&self, lowest: &Value) -> Value {
        leaf::with_lists(self.kept(lowest))
    }

    /// The values on top of [what is left](Self::left_of) of `lowest`, member by member.
    #[must_use]
    pub fn values_on(&self, lowest: &Value) -> Value {
        let mut values = self.kept(lowest);
        leaves(&self.values).into_iter().for_each(|leaf| put_leaf(&mut values, leaf));
        leaf::with_lists(values)
    }

    fn kept(&self, lowest: &Value) -> Value {
        let mut kept = Value::Object(Map::new());
        let leaves = leaves(lowest).into_iter().filter(|(pointer, _)| !self.resets(pointer));
        leaves.for_each(|leaf| put_leaf(&mut kept, leaf));
        kept
    }

    /// Whether anything at or below `pointer`, or above it, is set or taken back.
    #[must_use]
    pub fn touches(&self, pointer: &str) -> bool {
        self.setters.keys().any(|set| overlap(set, pointer))
    }

    /// Whether what lower layers say at `pointer` is taken back.
    #[must_use]
    pub fn resets(&self, pointer: &str) -> bool {
        self.resets.iter().any(|reset| is_within(pointer, reset))
    }
}

/// The one that has set `pointer`, a part of it, or a whole of which it is a part.
fn owner_of<'a>(owned: &BTreeMap<Pointer, &'a ObjectKey>, pointer: &str) -> Option<&'a ObjectKey> {
    owned.iter().find(|(set, _)| overlap(set, pointer)).map(|(_, owner)| *owner)
}

fn overlap(a: &str, b: &str) -> bool {
    is_within(a, b) || is_within(b, a)
}

/// Whether `pointer` is `whole` or lies below it.
fn is_within(pointer: &str, whole: &str) -> bool {
    pointer.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The object at `pointer`, made where there is none, with everything above it.
fn make_object<'a>(root: &'a mut Value, pointer: &str) -> &'a mut Map<String, Value> {
    let mut at = as_object(root);
    for step in leaf::steps(pointer) {
        at = as_object(at.entry(step).or_insert(Value::Null));
    }
    at
}

/// `value` itself if it is an object; else it becomes an empty one.
fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object on the lines above")
}

fn put_leaf(root: &mut Value, (pointer, leaf): (Pointer, Leaf)) {
    match leaf {
        Leaf::Set(value) => set(root, &pointer, value),
        Leaf::Reset => remove(root, &pointer),
        Leaf::Present => {
            make_object(root, &pointer);
        }
    }
}

fn set(root: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = leaf::split(pointer);
    make_object(root, parent).insert(last, value);
}

fn remove(root: &mut Value, pointer: &str) {
    let (parent, last) = leaf::split(pointer);
    if let Some(Value::Object(map)) = root.pointer_mut(parent) {
        map.remove(&last);
    }
}

/// Lists whose elements have keys: they merge by element.
pub const KEYED: &[&str] = &["/backends"];

/// Values that are one of several forms: they are replaced as wholes.
pub const ATOMIC: &[&str] = &[
    "/rewrite/path",
    "/redirect/path",
    "/auth/jwt/keys",
    "/auth/external/backend",
    "/canary/backend",
    "/canary/header",
    "/canary/cookie",
    "/mirror/backend",
];
