//! Writing a Snapshot for people and programs, and reading it back. Secrets are never in it.

pub mod nginx;
mod nginx_filters;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::canonical::{self, Digest};
use crate::certificate::{Certificate, ServerName, ServerNameId};
use crate::delta::AnyPart;
use crate::endpoint::Endpoint;
use crate::listener::Listener;
use crate::name::{BackendId, CertificateId, FleetName, ListenerId, PolicyId, RouteId};
use crate::part::{Part, PartMap};
use crate::policy::Policy;
use crate::route::Route;
use crate::snapshot::{Snapshot, SnapshotError};

/// A Snapshot as a document. The same Snapshot gives the same bytes on any machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Export {
    /// Always [`FORMAT`].
    pub format: String,
    /// The digest of the Snapshot; checked when it is read back.
    pub digest: Digest,
    /// The fleet that it is for, where that is known. Not in the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    /// Listeners by name.
    pub listeners: BTreeMap<ListenerId, Listener>,
    /// Policies by name.
    pub policies: BTreeMap<PolicyId, Policy>,
    /// Backends by name.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Certificates by name, without private keys.
    pub certificates: BTreeMap<CertificateId, Certificate>,
    /// Server names.
    pub server_names: BTreeMap<ServerNameId, ServerName>,
    /// Routes by name.
    pub routes: BTreeMap<RouteId, Route>,
    /// The Endpoints of all Backends that discover theirs, as far as they were known when it was
    /// written. Absent where nothing was known of any. They are no configuration: not in the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<BTreeMap<BackendId, Vec<Endpoint>>>,
}

/// What stands in `format`.
pub const FORMAT: &str = "kubeng.io/snapshot/v1";

/// Why a document is not a Snapshot. Not retried: it must be exported anew.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Neither JSON nor YAML of an Export.
    #[error("not an exported snapshot")]
    Shape(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Of a format that this build does not read.
    #[error("the format is {0:?}, but this build reads {FORMAT:?}")]
    Format(String),
    /// The Parts do not fit together.
    #[error("its parts do not fit together")]
    Parts(#[source] SnapshotError),
    /// It was edited after it was exported.
    #[error("its contents have digest {found}, but it says {said}")]
    Digest {
        /// What it says.
        said: Digest,
        /// What its contents have.
        found: Digest,
    },
}

impl From<&Snapshot> for Export {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            format: FORMAT.into(),
            digest: snapshot.digest(),
            fleet: None,
            listeners: values(snapshot.listeners()),
            policies: values(snapshot.policies()),
            backends: values(snapshot.backends()),
            certificates: values(snapshot.certificates()),
            server_names: values(snapshot.server_names()),
            routes: values(snapshot.routes()),
            endpoints: None,
        }
    }
}

fn values<K, V>(map: &PartMap<K, V>) -> BTreeMap<K, V>
where
    K: Ord + Clone + std::fmt::Display,
    V: Clone,
{
    map.iter().map(|(key, part)| (key.clone(), V::clone(part.value()))).collect()
}

impl Export {
    /// Canonical JSON (RFC 8785) with a line feed at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::from_utf8_lossy(&canonical::to_bytes(self)).into_owned();
        text.push('\n');
        text
    }

    /// YAML with keys in order.
    ///
    /// # Errors
    /// Never for an Export that was made from a Snapshot.
    pub fn to_yaml(&self) -> Result<String, ImportError> {
        let value = serde_json::to_value(self).map_err(|error| ImportError::Shape(error.into()))?;
        serde_saphyr::to_string(&value).map_err(|error| ImportError::Shape(error.into()))
    }

    /// Reads what [`to_json`](Self::to_json) or [`to_yaml`](Self::to_yaml) wrote.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn read(text: &str) -> Result<Self, ImportError> {
        let export: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| ImportError::Shape(error.into()))?
        } else {
            serde_saphyr::from_str(text).map_err(|error| ImportError::Shape(error.into()))?
        };
        if export.format == FORMAT { Ok(export) } else { Err(ImportError::Format(export.format)) }
    }

    /// The Snapshot that was exported.
    ///
    /// # Errors
    /// When it was edited, or its Parts do not fit together.
    pub fn into_snapshot(self) -> Result<Snapshot, ImportError> {
        let said = self.digest;
        let parts = self.into_parts();
        let snapshot = Snapshot::default().edited(parts, []).map_err(ImportError::Parts)?;
        let found = snapshot.digest();
        if found == said { Ok(snapshot) } else { Err(ImportError::Digest { said, found }) }
    }

    /// The Parts that were exported, whether they fit together or not.
    #[must_use]
    pub fn into_parts(self) -> Vec<AnyPart> {
        let Self {
            format: _,
            digest: _,
            fleet: _,
            endpoints: _,
            listeners,
            policies,
            backends,
            certificates,
            server_names,
            routes,
        } = self;
        let listeners = listeners.into_iter().map(|(id, v)| AnyPart::Listener(id, Part::new(v)));
        let policies = policies.into_iter().map(|(id, v)| AnyPart::Policy(id, Part::new(v)));
        let backends = backends.into_iter().map(|(id, v)| AnyPart::Backend(id, Part::new(v)));
        let certificates =
            certificates.into_iter().map(|(id, v)| AnyPart::Certificate(id, Part::new(v)));
        let server_names =
            server_names.into_iter().map(|(id, v)| AnyPart::ServerName(id, Part::new(v)));
        let routes = routes.into_iter().map(|(id, v)| AnyPart::Route(id, Part::new(v)));
        let first = listeners.chain(policies).chain(backends);
        first.chain(certificates).chain(server_names).chain(routes).collect()
    }

    /// A document of Parts that need not fit together, as a replica may run them.
    #[must_use]
    pub fn of_parts(parts: &[AnyPart]) -> Self {
        let mut export = Self {
            format: FORMAT.into(),
            digest: digest_of(parts),
            fleet: None,
            listeners: BTreeMap::new(),
            policies: BTreeMap::new(),
            backends: BTreeMap::new(),
            certificates: BTreeMap::new(),
            server_names: BTreeMap::new(),
            routes: BTreeMap::new(),
            endpoints: None,
        };
        for part in parts {
            match part {
                AnyPart::Listener(id, part) => put(&mut export.listeners, id, part),
                AnyPart::Policy(id, part) => put(&mut export.policies, id, part),
                AnyPart::Backend(id, part) => put(&mut export.backends, id, part),
                AnyPart::Certificate(id, part) => put(&mut export.certificates, id, part),
                AnyPart::ServerName(id, part) => put(&mut export.server_names, id, part),
                AnyPart::Route(id, part) => put(&mut export.routes, id, part),
            }
        }
        export
    }
}

fn put<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, id: &K, part: &Part<V>) {
    map.insert(id.clone(), V::clone(part.value()));
}

/// The digest that a Snapshot of these Parts has, whether they fit together or not.
#[must_use]
pub fn digest_of(parts: &[AnyPart]) -> Digest {
    macro_rules! of_kind {
        ($kind:ident) => {{
            let of_kind = parts.iter().filter_map(|part| {
                if let AnyPart::$kind(id, part) = part {
                    Some((id.clone(), Some(part.clone())))
                } else {
                    None
                }
            });
            PartMap::default().with(of_kind).digest()
        }};
    }
    let kinds = [
        of_kind!(Listener),
        of_kind!(Policy),
        of_kind!(Backend),
        of_kind!(Certificate),
        of_kind!(ServerName),
        of_kind!(Route),
    ];
    Digest::of(kinds.iter().map(|digest| digest.as_bytes().as_slice()))
}
