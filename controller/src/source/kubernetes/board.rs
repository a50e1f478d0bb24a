//! Puts what many watches say together into Events. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::Problem;

use super::raw::Found;
use super::scope::Scope;
use crate::object::{Event, List, Object};

/// What a watch says.
#[derive(Debug)]
pub(crate) enum What {
    /// All objects that are there.
    Listed(Vec<Found>),
    /// An object is new or has changed.
    Changed(Found),
    /// An object is gone.
    Gone(ObjectKey),
    /// It cannot go on for the time being.
    Failed(Problem),
    /// The server does not have the kind any more, which is not believed yet.
    Doubted(Problem),
    /// It may not look.
    Denied(Problem),
    /// It goes on.
    Healed,
}

/// What all watches have said.
#[derive(Debug)]
pub(crate) struct Board {
    scopes: BTreeMap<Scope, Heard>,
    synced: BTreeSet<ObjectKind>,
    /// The kinds that are watched by reference.
    by_reference: BTreeSet<ObjectKind>,
    /// Whether a set of references was sent.
    are_references_known: bool,
    told_problems: Vec<Problem>,
    events: Vec<Event>,
}

/// What one watch has said.
#[derive(Debug, Default)]
struct Heard {
    has_answered: bool,
    entries: BTreeMap<ObjectKey, Entry>,
    failure: Option<Problem>,
}

#[derive(Debug)]
enum Entry {
    Object(Arc<Object>),
    Undecodable(Problem),
}

impl Board {
    pub(crate) fn new(by_reference: BTreeSet<ObjectKind>) -> Self {
        Self {
            scopes: BTreeMap::new(),
            synced: BTreeSet::new(),
            by_reference,
            are_references_known: false,
            told_problems: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Whether Objects of a kind are watched only where they are referenced.
    pub(crate) fn is_by_reference(&self, kind: ObjectKind) -> bool {
        self.by_reference.contains(&kind)
    }

    /// A watch begins; one that begins anew keeps what it had.
    pub(crate) fn add(&mut self, scope: &Scope) {
        self.scopes.entry(scope.clone()).or_default();
    }

    /// A watch has ended, and what it knew with it.
    pub(crate) fn remove(&mut self, scope: &Scope) {
        let heard = self.scopes.remove(scope).unwrap_or_default();
        if self.synced.contains(&scope.kind) {
            // Also what a list lacked and is held all the same.
            let keys = heard.entries.into_keys().chain(scope.object());
            let keys: BTreeSet<ObjectKey> = keys.collect();
            self.events.extend(keys.into_iter().map(Event::Remove));
        }
    }

    /// All that is referenced has a watch.
    pub(crate) fn know_references(&mut self) {
        self.are_references_known = true;
        for kind in self.by_reference.clone() {
            self.sync(kind);
        }
    }

    /// Takes what a watch says.
    pub(crate) fn take(&mut self, scope: &Scope, what: What) {
        let Some(heard) = self.scopes.get_mut(scope) else { return };
        let is_synced = self.synced.contains(&scope.kind);
        match what {
            What::Listed(found) => {
                heard.has_answered = true;
                heard.failure = None;
                heard.entries = entries(found);
                if is_synced {
                    self.tell_list(scope);
                } else {
                    self.sync(scope.kind);
                }
            }
            What::Changed(found) => {
                let event = heard.change(found);
                self.events.extend(event.filter(|_| is_synced));
            }
            What::Gone(key) => {
                heard.entries.remove(&key);
                self.events.extend(is_synced.then_some(Event::Remove(key)));
            }
            What::Failed(problem) => heard.failure = Some(problem),
            What::Doubted(problem) => {
                heard.failure = Some(problem);
                // To the guard it is an empty list: held now, believed when it is told again later.
                let empty = List { extent: scope.extent(), objects: vec![], undecodable: vec![] };
                self.events.extend(is_synced.then_some(Event::Replace(empty)));
            }
            What::Denied(problem) => {
                heard.failure = Some(problem);
                // What names it is told that it may not be read, not that it does not exist.
                let denied = scope.denied().filter(|_| heard.entries.is_empty());
                if let Some(object) = denied {
                    self.events.extend(is_synced.then(|| Event::Upsert(Arc::clone(&object))));
                    heard.entries.insert(object.key.clone(), Entry::Object(object));
                }
                // One of them that we may not see must not keep all others waiting.
                if scope.is_single() {
                    heard.has_answered = true;
                    self.sync(scope.kind);
                }
            }
            What::Healed => heard.failure = None,
        }
    }

    /// What is to be told, in order.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        // A server that is down is one Problem, however many watches it fails.
        let failures: BTreeSet<Problem> =
            self.scopes.values().filter_map(|heard| heard.failure.clone()).collect();
        let problems: Vec<Problem> = failures.into_iter().collect();
        if problems != self.told_problems {
            self.told_problems.clone_from(&problems);
            self.events.push(Event::Problems(problems));
        }
        std::mem::take(&mut self.events)
    }

    /// Tells a kind for the first time, once all its watches have answered.
    fn sync(&mut self, kind: ObjectKind) {
        let mut scopes = self.scopes.iter().filter(|(scope, _)| scope.kind == kind);
        let is_known = !self.is_by_reference(kind) || self.are_references_known;
        if !is_known || self.synced.contains(&kind) || !scopes.all(|(_, heard)| heard.has_answered)
        {
            return;
        }
        self.synced.insert(kind);
        let scopes = self.scopes.keys().filter(|scope| scope.kind == kind);
        for scope in scopes.cloned().collect::<Vec<_>>() {
            self.tell_list(&scope);
        }
        self.events.push(Event::Synced(kind));
    }

    /// Tells all that a watch knows.
    fn tell_list(&mut self, scope: &Scope) {
        let Some(heard) = self.scopes.get(scope) else { return };
        let mut list =
            List { extent: scope.extent(), objects: Vec::new(), undecodable: Vec::new() };
        for (key, entry) in &heard.entries {
            match entry {
                Entry::Object(object) => list.objects.push(Arc::clone(object)),
                Entry::Undecodable(problem) => {
                    list.undecodable.push((key.clone(), problem.clone()));
                }
            }
        }
        self.events.push(Event::Replace(list));
    }
}

impl Heard {
    fn change(&mut self, found: Found) -> Option<Event> {
        let key = found.key().clone();
        let Some(entry) = Entry::of(found) else {
            return self.entries.remove(&key).map(|_| Event::Remove(key));
        };
        let event = entry.event(&key);
        self.entries.insert(key, entry);
        Some(event)
    }
}

impl Entry {
    fn of(found: Found) -> Option<Self> {
        match found {
            Found::Object(object) => Some(Self::Object(object)),
            Found::Undecodable(_, problem) => Some(Self::Undecodable(problem)),
            Found::Ignored(_) => None,
        }
    }

    fn event(&self, key: &ObjectKey) -> Event {
        match self {
            Self::Object(object) => Event::Upsert(Arc::clone(object)),
            Self::Undecodable(problem) => Event::Undecodable(key.clone(), problem.clone()),
        }
    }
}

fn entries(found: Vec<Found>) -> BTreeMap<ObjectKey, Entry> {
    let named = found.into_iter().map(|found| (found.key().clone(), Entry::of(found)));
    named.filter_map(|(key, entry)| Some((key, entry?))).collect()
}
