//! What the fake holds, its history, and the faults that are to come.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Reads or writes that can fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// A list, each page of it.
    List,
    /// A list that goes on: the second page and all after it.
    ListNext,
    /// A watch.
    Watch,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status code, with a message and `retryAfterSeconds`.
    Status(u16, &'static str, u32),
    /// No answer, and the connection stays open.
    Silence,
    /// The head of an answer, and nothing after it.
    Stall,
    /// The connection is cut.
    Cut,
    /// This body instead of the answer.
    Body(&'static str),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was asked for.
    pub verb: Verb,
    /// The path.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
}

/// One line of the history.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) version: u64,
    pub(crate) resource: String,
    pub(crate) event: Value,
    /// Whether the watch ends after it.
    pub(crate) is_last: bool,
}

/// Resource, namespace, name.
type Key = (String, String, String);

/// What it held at one moment.
#[derive(Clone, Debug)]
pub struct Backup {
    version: u64,
    objects: BTreeMap<Key, Value>,
}

#[derive(Default)]
pub(crate) struct State {
    version: u64,
    expired: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<Line>,
    faults: Vec<(String, Verb, usize, Fault)>,
    asked: Vec<Asked>,
    leases: BTreeMap<String, Value>,
}

impl State {
    pub(crate) fn put(&mut self, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let key = key_of(&object);
        let resource = key.0.clone();
        let was_known = self.objects.insert(key, object.clone()).is_some();
        let kind = if was_known { "MODIFIED" } else { "ADDED" };
        self.tell(&resource, json!({"type": kind, "object": object}), false);
    }

    pub(crate) fn delete(&mut self, resource: &str, namespace: &str, name: &str) {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        if let Some(mut object) = self.objects.remove(&key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.tell(resource, json!({"type": "DELETED", "object": object}), false);
        }
    }

    pub(crate) fn lose(&mut self, resource: &str, namespace: &str, name: &str) {
        self.version += 1;
        self.objects.remove(&(resource.to_owned(), namespace.to_owned(), name.to_owned()));
    }

    pub(crate) fn back_up(&self) -> Backup {
        Backup { version: self.version, objects: self.objects.clone() }
    }

    pub(crate) fn restore(&mut self, backup: Backup) {
        Backup { version: self.version, objects: self.objects } = backup;
        self.history.retain(|line| line.version <= self.version);
    }

    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.expired = self.version;
    }

    pub(crate) fn bookmark(&mut self, resource: &str) {
        self.version += 1;
        let metadata = json!({"resourceVersion": self.version.to_string()});
        let object = json!({"kind": "X", "apiVersion": "v1", "metadata": metadata});
        self.tell(resource, json!({"type": "BOOKMARK", "object": object}), false);
    }

    pub(crate) fn end_watches(&mut self, resource: &str, event: Value) {
        self.version += 1;
        self.tell(resource, event, true);
    }

    pub(crate) fn lease(&self, name: &str) -> Option<Value> {
        self.leases.get(name).cloned()
    }

    /// Keeps a Lease, and gives it as it is kept. Nobody watches Leases.
    pub(crate) fn put_lease(&mut self, name: &str, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.leases.insert(name.to_owned(), lease.clone());
        lease
    }

    fn tell(&mut self, resource: &str, event: Value, is_last: bool) {
        let resource = resource.to_owned();
        self.history.push(Line { version: self.version, resource, event, is_last });
    }

    pub(crate) fn fail(&mut self, resource: &str, verb: Verb, times: usize, fault: Fault) {
        self.faults.push((resource.to_owned(), verb, times, fault));
    }

    pub(crate) fn heal(&mut self) {
        self.faults.clear();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.clone()
    }

    /// Notes a request and tells whether it is to fail.
    pub(crate) fn ask(&mut self, asked: Asked) -> Option<Fault> {
        let resource = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_next = asked.query.contains_key("continue");
        let verb = asked.verb;
        self.asked.push(asked);
        let found = self.faults.iter_mut().find(|(of, when, times, _)| {
            let is_verb = *when == verb || (*when == Verb::ListNext && is_next);
            (*of == resource || of == "*") && is_verb && *times > 0
        });
        found.map(|(_, _, times, fault)| {
            *times -= 1;
            fault.clone()
        })
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn has_expired(&self, version: u64) -> bool {
        version < self.expired
    }

    pub(crate) fn objects(&self, filter: &Filter) -> Vec<Value> {
        let mut objects = Vec::new();
        for ((resource, ..), object) in &self.objects {
            if *resource == filter.resource && filter.takes(object) {
                let mut object = object.clone();
                // As a real one does in lists.
                if let Some(fields) = object.as_object_mut() {
                    fields.remove("kind");
                    fields.remove("apiVersion");
                }
                objects.push(object);
            }
        }
        objects
    }

    /// The lines after `version` that a watch is to be sent.
    pub(crate) fn lines(&self, filter: &Filter, version: u64) -> Vec<Line> {
        let is_wanted = |line: &&Line| {
            line.version > version
                && line.resource == filter.resource
                && (line.event["type"] == "BOOKMARK"
                    || line.event["type"] == "ERROR"
                    || filter.takes(&line.event["object"]))
        };
        self.history.iter().filter(is_wanted).cloned().collect()
    }
}

/// Which objects a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) resource: String,
    pub(crate) namespace: Option<String>,
    pub(crate) fields: String,
}

impl Filter {
    fn takes(&self, object: &Value) -> bool {
        let is_inside = match &self.namespace {
            Some(namespace) => object["metadata"]["namespace"] == namespace.as_str(),
            None => true,
        };
        let is_selected = match self.fields.split_once('=') {
            Some(("metadata.name", name)) => object["metadata"]["name"] == name,
            Some(("type", kind)) => object["type"] == kind,
            Some(_) | None => true,
        };
        is_inside && is_selected
    }
}

fn key_of(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]).to_lowercase();
    let plural = if kind.ends_with('s') { format!("{kind}es") } else { format!("{kind}s") };
    let metadata = &object["metadata"];
    (plural, text(&metadata["namespace"]), text(&metadata["name"]))
}
