//! `kubeng.io/v1alpha1` Fleet: a group of replicas that serve the same, and what they serve by.
//!
//! Strict as a whole: a Fleet with anything wrong in it is not taken, and what was last read of it
//! counts. So every Fleet that is an Object can be served as it is.

mod care;
mod clients;
mod defaults;
mod listener;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubeng_config::backend::balance::Balance;
use kubeng_config::filter::Filter;
use kubeng_config::fleet::{Environment, FleetCare, FleetClass, FleetFacts};
use kubeng_config::listener::Listener;
use kubeng_config::name::{BackendId, FleetName, ListenerId, ObjectKey};
use kubeng_config::policy::Policy;
use kubeng_config::problem::{BAD_VALUE, Problem};
use serde::Deserialize;
use serde_json::Value;

use crate::decode::notes::Notes;
use crate::settings::ListenerClients;
use care::{DriftOnWire, RolloutOnWire};
use defaults::Defaults;
use listener::ListenerOnWire;

/// What a Fleet says; defaults are filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fleet {
    /// Its name.
    pub name: FleetName,
    /// `spec.displayName`, for people; its name where it has none.
    pub display_name: String,
    /// `spec.class` and `spec.tenant`.
    pub class: FleetClass,
    /// `spec.environment`.
    pub environment: Environment,
    /// `spec.serves.ingressClasses`: classes that belong to it beside those whose parameters name it.
    pub ingress_classes: Vec<String>,
    /// `spec.listeners`.
    pub listeners: Vec<FleetListener>,
    /// `spec.namespaces`: the only ones that may be served; empty: all.
    pub namespaces: Vec<String>,
    /// Of `spec.defaults` what a Policy has, on top of what the product has by default.
    pub defaults: Policy,
    /// Of `spec.defaults` what is done with requests and answers.
    pub default_filters: Vec<Filter>,
    /// The members of `spec.defaults` that these Filters stand for.
    pub default_patch: Value,
    /// `spec.defaults.balance`.
    pub default_balance: Balance,
    /// `spec.drift` and `spec.rollout`.
    pub care: FleetCare,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.generation`; none outside a cluster.
    pub generation: Option<i64>,
}

/// One entry of `spec.listeners`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FleetListener {
    /// Its name.
    pub id: ListenerId,
    /// Where it listens, and how.
    pub listener: Listener,
    /// The Secret of its default certificate.
    pub certificate: Option<ObjectKey>,
    /// What it asks of clients under names that say nothing of their own.
    pub clients: Option<ListenerClients>,
    /// Where its connections go, if it reads no requests.
    pub forward: Option<BackendId>,
}

impl Fleet {
    /// Reads and checks all of it.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub(crate) fn decode(
        object: FleetOnWire,
        notes: &mut Notes,
    ) -> Result<(ObjectMeta, Self), Box<Problem>> {
        let FleetOnWire { metadata, spec, .. } = object;
        let name = name(notes)?;
        let wrong = Wrong(notes);
        let class = class(spec.class.as_deref(), spec.tenant, &wrong)?;
        names(&spec.namespaces, "/spec/namespaces", &wrong)?;
        if class != FleetClass::Shared && spec.namespaces.is_empty() {
            let message = "a dedicated fleet names no namespace that may be served by it";
            let remedy = "name those of its tenant, or make it shared";
            return Err(wrong.at("/spec/namespaces", message.to_owned(), remedy));
        }
        names(&spec.serves.ingress_classes, "/spec/serves/ingressClasses", &wrong)?;
        let Defaults { policy, filters, patch, balance } = defaults::read(spec.defaults, notes)?;
        let wrong = Wrong(notes);
        let fleet = Self {
            display_name: display_name(spec.display_name, &name, &wrong)?,
            class,
            environment: environment(spec.environment.as_deref(), &wrong)?,
            ingress_classes: spec.serves.ingress_classes,
            listeners: listener::all(spec.listeners, &wrong)?,
            namespaces: spec.namespaces,
            care: care::read(spec.drift, spec.rollout, &wrong)?,
            defaults: policy,
            default_filters: filters,
            default_patch: patch,
            default_balance: balance,
            labels: metadata.labels.clone().unwrap_or_default(),
            generation: metadata.generation,
            name,
        };
        Ok((metadata, fleet))
    }

    /// What people are shown of it.
    #[must_use]
    pub fn facts(&self) -> FleetFacts {
        FleetFacts {
            name: self.name.clone(),
            display_name: self.display_name.clone(),
            class: self.class.clone(),
            environment: self.environment,
            labels: self.labels.clone(),
            care: self.care.clone(),
        }
    }
}

/// A Fleet as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FleetOnWire {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SpecOnWire,
    #[serde(rename = "status", default)]
    _status: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecOnWire {
    display_name: Option<String>,
    class: Option<String>,
    tenant: Option<String>,
    environment: Option<String>,
    #[serde(default)]
    serves: ServesOnWire,
    #[serde(default)]
    listeners: Vec<ListenerOnWire>,
    #[serde(default)]
    namespaces: Vec<String>,
    defaults: Option<Value>,
    #[serde(default)]
    drift: DriftOnWire,
    #[serde(default)]
    rollout: RolloutOnWire,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServesOnWire {
    #[serde(default)]
    ingress_classes: Vec<String>,
}

/// Makes the Problems of values that cannot be used.
struct Wrong<'a>(&'a Notes);

impl Wrong<'_> {
    fn at(&self, field: &str, message: String, remedy: &str) -> Box<Problem> {
        Box::new(self.0.problem(field, BAD_VALUE, message, remedy))
    }
}

/// Replicas name it in their certificates, so it is one label (RFC 1123).
fn name(notes: &Notes) -> Result<FleetName, Box<Problem>> {
    let written = &notes.key().name;
    let name = Some(written).filter(|name| is_label(name)).and_then(|name| name.parse().ok());
    name.ok_or_else(|| {
        let message = format!("{written:?} is no name of a fleet");
        Wrong(notes).at("/metadata/name", message, "use at most 63 of a-z, 0-9 and -")
    })
}

fn display_name(
    written: Option<String>,
    name: &FleetName,
    wrong: &Wrong<'_>,
) -> Result<String, Box<Problem>> {
    let Some(text) = written else { return Ok(name.to_string()) };
    let count = text.chars().count();
    if count == 0 || count > DISPLAY_NAME_MAX || text.chars().any(char::is_control) {
        let message = format!("{text:.80?} cannot be shown");
        let remedy = "write 1 to 80 characters, none of which controls";
        return Err(wrong.at("/spec/displayName", message, remedy));
    }
    Ok(text)
}

fn class(
    written: Option<&str>,
    tenant: Option<String>,
    wrong: &Wrong<'_>,
) -> Result<FleetClass, Box<Problem>> {
    match (written.unwrap_or("shared"), tenant) {
        ("shared", None) => Ok(FleetClass::Shared),
        ("dedicated", Some(tenant)) if is_label(&tenant) => Ok(FleetClass::Dedicated { tenant }),
        ("shared", Some(_)) => {
            let message = "a shared fleet belongs to no tenant".to_owned();
            Err(wrong.at("/spec/tenant", message, "remove it, or write class: dedicated"))
        }
        ("dedicated", _) => {
            let message = "a dedicated fleet needs the name of its tenant".to_owned();
            Err(wrong.at("/spec/tenant", message, "write at most 63 of a-z, 0-9 and -"))
        }
        (other, _) => {
            let message = format!("class {other:?} is unknown");
            Err(wrong.at("/spec/class", message, "write shared or dedicated"))
        }
    }
}

fn environment(written: Option<&str>, wrong: &Wrong<'_>) -> Result<Environment, Box<Problem>> {
    match written {
        None | Some("production") => Ok(Environment::Production),
        Some("test") => Ok(Environment::Test),
        Some("development") => Ok(Environment::Development),
        Some(other) => {
            let message = format!("environment {other:?} is unknown");
            let remedy = "write production, test or development";
            Err(wrong.at("/spec/environment", message, remedy))
        }
    }
}

/// Names of Objects, each once.
fn names(written: &[String], field: &str, wrong: &Wrong<'_>) -> Result<(), Box<Problem>> {
    let mut seen = BTreeSet::new();
    for (at, name) in written.iter().enumerate() {
        let is_name = name.split('.').all(is_label) && name.len() <= 253;
        if !is_name || !seen.insert(name) {
            let message = format!("{name:.80?} is no name, or stands there twice");
            return Err(wrong.at(&format!("{field}/{at}"), message, "write each name once"));
        }
    }
    Ok(())
}

/// RFC 1123.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

const DISPLAY_NAME_MAX: usize = 80;
