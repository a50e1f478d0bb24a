//! Puts what several sources tell into one set of Objects, and guards its start and its losses.
//!
//! Pure: values in, values out, time as an argument.

mod guard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{DEFINED_TWICE, Problem, REMOVAL_HELD, Subject};

use crate::object::{Change, Event, Extent, List, Object, SourceName};
use guard::{Loss, Missing};

/// All that the sources have told.
///
/// An Object has one home: the first source, in the order of the settings, that
/// has it. What an Object of a later source says is reported and not served.
#[derive(Clone, Debug)]
pub struct Intake {
    sources: Vec<Told>,
    /// What has been passed on.
    current: BTreeMap<ObjectKey, Arc<Object>>,
    /// Objects that more than one source has.
    doubles: BTreeSet<ObjectKey>,
}

/// What one source has told.
#[derive(Clone, Debug)]
struct Told {
    name: SourceName,
    /// The kinds that it has not told yet.
    awaited: BTreeSet<ObjectKind>,
    /// The kinds of which it has given a whole list.
    listed: BTreeSet<ObjectKind>,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    undecodable: BTreeMap<ObjectKey, Problem>,
    problems: Vec<Problem>,
    held: BTreeMap<Extent, Missing>,
}

/// A removal that is not believed yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Whose list lacks the Objects.
    pub source: SourceName,
    /// What the list covers.
    pub extent: Extent,
    /// How many there are.
    pub objects: usize,
    /// How long until a second list is believed; zero when the next one is.
    pub wait: Duration,
}

impl Intake {
    /// Begins with nothing told. `sources` stand in order of preference, each
    /// with the kinds that it will tell.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = (SourceName, BTreeSet<ObjectKind>)>) -> Self {
        let told = |(name, awaited)| Told {
            name,
            awaited,
            listed: BTreeSet::new(),
            objects: BTreeMap::new(),
            undecodable: BTreeMap::new(),
            problems: Vec::new(),
            held: BTreeMap::new(),
        };
        Self {
            sources: sources.into_iter().map(told).collect(),
            current: BTreeMap::new(),
            doubles: BTreeSet::new(),
        }
    }

    /// Takes an Event of the source at `source` and tells what it changes.
    ///
    /// An Object that says the same as before is passed on only when its
    /// provenance, uid or status differs. An Event of an unknown source changes
    /// nothing.
    pub fn take(&mut self, source: usize, event: Event, now: Instant) -> Vec<Change> {
        let Some(told) = self.sources.get_mut(source) else { return Vec::new() };
        let touched = match event {
            Event::Upsert(object) => vec![told.upsert(object)],
            Event::Remove(key) => {
                told.remove(&key);
                vec![key]
            }
            Event::Replace(list) => told.replace(list, now),
            Event::Undecodable(key, problem) => {
                told.undecodable.insert(key, problem);
                Vec::new()
            }
            Event::Synced(kind) => {
                told.awaited.remove(&kind);
                Vec::new()
            }
            Event::Problems(problems) => {
                told.problems = problems;
                Vec::new()
            }
            Event::ReadTo(_) => Vec::new(),
            Event::Together(events) => {
                return events
                    .into_iter()
                    .flat_map(|event| self.take(source, event, now))
                    .collect();
            }
        };
        touched.into_iter().filter_map(|key| self.settle(key)).collect()
    }

    /// All that has been passed on, by key.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.current.values()
    }

    /// What has been passed on of `key`.
    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.current.get(key)
    }

    /// Whether every source has told every kind once. Nothing may be published before.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.sources.iter().all(|told| told.awaited.is_empty())
    }

    /// What has not been told yet.
    pub fn awaited(&self) -> impl Iterator<Item = (&SourceName, ObjectKind)> {
        self.sources
            .iter()
            .flat_map(|told| told.awaited.iter().map(move |kind| (&told.name, *kind)))
    }

    /// The removals that are held.
    #[must_use]
    pub fn held(&self, now: Instant) -> Vec<Held> {
        let of = |told: &Told| {
            let held = told.held.iter().map(|(extent, missing)| Held {
                source: told.name.clone(),
                extent: extent.clone(),
                objects: missing.len(),
                wait: missing.wait(now),
            });
            held.collect::<Vec<_>>()
        };
        self.sources.iter().flat_map(of).collect()
    }

    /// Believes all removals that are held: a person has said that they are meant.
    pub fn confirm(&mut self) -> Vec<Change> {
        let mut touched = Vec::new();
        for told in &mut self.sources {
            for missing in std::mem::take(&mut told.held).into_values() {
                for key in missing.into_keys() {
                    told.remove(&key);
                    touched.push(key);
                }
            }
        }
        touched.into_iter().filter_map(|key| self.settle(key)).collect()
    }

    /// All Problems that do not belong to an Object that is passed on.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for told in &self.sources {
            problems.extend(told.problems.iter().cloned());
            problems.extend(told.undecodable.values().cloned());
            let held = told.held.iter();
            problems.extend(held.map(|(extent, missing)| told.held_problem(extent, missing)));
        }
        problems.extend(self.doubles.iter().filter_map(|key| self.double(key)));
        problems
    }

    /// Finds the home of an Object again, and what that changes.
    fn settle(&mut self, key: ObjectKey) -> Option<Change> {
        // What may not be read in one place may be read in another.
        let told = || self.sources.iter().filter_map(|told| told.objects.get(&key));
        let denied = told().find(|object| object.is_denied());
        let mut having = told().filter(|object| !object.is_denied());
        let Some(first) = having.next().or(denied) else {
            self.doubles.remove(&key);
            return self.current.remove(&key).map(|_| Change::Remove(key));
        };
        if having.next().is_some() {
            self.doubles.insert(key.clone());
        } else {
            self.doubles.remove(&key);
        }
        let is_known = self.current.get(&key).is_some_and(|current| is_same(current, first));
        if is_known {
            return None;
        }
        self.current.insert(key, Arc::clone(first));
        Some(Change::Upsert(Arc::clone(first)))
    }

    fn double(&self, key: &ObjectKey) -> Option<Problem> {
        let mut having = self
            .sources
            .iter()
            .filter_map(|told| told.objects.get(key).map(|object| (&told.name, object)))
            .filter(|(_, object)| !object.is_denied());
        let (first, _) = having.next()?;
        let (second, other) = having.next()?;
        Some(Problem {
            subject: Subject::Object(key.clone()),
            field: String::new(),
            code: DEFINED_TWICE,
            message: format!("both {first} and {second} define it; {first} is served"),
            remedy: "remove one of the two, or put the sources into another order".to_owned(),
            provenance: Some(other.provenance.clone()),
        })
    }
}

impl Told {
    fn upsert(&mut self, object: Arc<Object>) -> ObjectKey {
        let key = object.key.clone();
        self.undecodable.remove(&key);
        self.objects.insert(key.clone(), object);
        self.let_go(&key);
        key
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        self.undecodable.remove(key);
        self.let_go(key);
    }

    /// Takes a whole list. Gives the keys that it may have changed.
    fn replace(&mut self, list: List, now: Instant) -> Vec<ObjectKey> {
        let List { extent, objects, undecodable } = list;
        let is_first = self.listed.insert(extent.kind);
        // What cannot be decoded exists: what was known of it stays.
        let decoded = objects.iter().map(|object| &object.key);
        let listed: BTreeSet<&ObjectKey> =
            decoded.chain(undecodable.iter().map(|(key, _)| key)).collect();
        let from = self.objects.range(extent.first_key()..);
        let covered = from.map(|(key, _)| key).take_while(|key| extent.covers(key));
        let gone: BTreeSet<ObjectKey> =
            covered.filter(|key| !listed.contains(key)).cloned().collect();
        let loss =
            Loss { gone: gone.len(), known: self.known(&extent).count(), listed: listed.len() };
        let is_held = !is_first && guard::is_mass(extent.kind, loss);
        self.undecodable.retain(|key, _| !extent.covers(key));
        self.undecodable.extend(undecodable);
        let former = self.held.remove(&extent);
        let mut touched: Vec<ObjectKey> =
            objects.into_iter().map(|object| self.upsert(object)).collect();
        match guard::judge(is_held, gone, former, now) {
            guard::Verdict::Take(gone) => {
                for key in gone {
                    self.remove(&key);
                    touched.push(key);
                }
            }
            guard::Verdict::Hold(missing) => {
                self.held.insert(extent, missing);
            }
        }
        touched
    }

    /// What the list of this extent would have named and that can be served.
    fn known(&self, extent: &Extent) -> impl Iterator<Item = &ObjectKey> {
        let from = self.objects.range(extent.first_key()..);
        let covered = from.take_while(move |(key, _)| extent.covers(key));
        covered.filter(|(_, object)| !object.is_denied()).map(|(key, _)| key)
    }

    /// Ends the hold on one Object.
    fn let_go(&mut self, key: &ObjectKey) {
        self.held.retain(|extent, missing| {
            if extent.kind == key.kind {
                missing.forget(key);
            }
            missing.len() > 0
        });
    }

    fn held_problem(&self, extent: &Extent, missing: &Missing) -> Problem {
        let known = self.known(extent).count();
        Problem {
            subject: Subject::Other(self.name.to_string()),
            field: String::new(),
            code: REMOVAL_HELD,
            message: format!(
                "a list lacks {} of {known} objects of {extent}; they are served until a \
                 second list at least {} s later lacks them too",
                missing.len(),
                guard::BELIEVED_AFTER.as_secs()
            ),
            remedy: "confirm the removal if it is meant; else look at the source and the rights \
                     of Kubeng"
                .to_owned(),
            provenance: None,
        }
    }
}

fn is_same(current: &Arc<Object>, other: &Arc<Object>) -> bool {
    Arc::ptr_eq(current, other)
        || (current.says_the_same(other)
            && current.provenance == other.provenance
            && current.uid == other.uid
            && current.status_addresses == other.status_addresses)
}
