//! Writes the Parts of a Snapshot again, from what requests are decided by.
//!
//! The digest of what is written says what a replica really runs. It must not be taken from where
//! it was computed before: not from the Snapshot that lies beside the Table, not from a message. The
//! Snapshot is asked only for what no request depends on, such as the name of a private key.

mod routes;
mod terms;

use std::ops::ControlFlow;
use std::sync::Arc;

use kubeng_config::backend::EndpointSource;
use kubeng_config::canonical::Digest;
use kubeng_config::certificate::{Certificate, Der};
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::endpoint::{self, EndpointSet};
use kubeng_config::name::{BackendId, CertificateId};
use kubeng_config::part::Part;
use kubeng_config::snapshot::Snapshot;
use rustls::sign::CertifiedKey;

use crate::proxy::ProxyFacts;
use crate::table::Table;

/// What a walk found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Walked {
    /// Of all Parts as they were written again.
    pub digest: Digest,
    /// What the Table that was walked was meant to be.
    pub meant: Digest,
}

impl ProxyFacts {
    /// Computes the digest of what runs. Takes some 20 microseconds for each Part, so it belongs
    /// where blocking is fine; `pause` is called between Parts and ends the walk by breaking it.
    pub fn walk(&self, mut pause: impl FnMut() -> ControlFlow<()>) -> Option<Walked> {
        let table = self.0.table.load_full();
        let mut digests: Vec<(PartKey, Digest)> = Vec::new();
        let walked = each_part(&table, &mut |part| {
            digests.push((part.key(), part.digest()));
            pause()
        });
        match walked {
            ControlFlow::Continue(()) => {
                Some(Walked { digest: Snapshot::digest_of(digests), meant: table.digest() })
            }
            ControlFlow::Break(()) => None,
        }
    }

    /// All Parts, written again from what runs, and the Endpoints of every Backend. As slow.
    #[must_use]
    pub fn parts(&self) -> (Vec<AnyPart>, Vec<(BackendId, Arc<EndpointSet>)>) {
        let table = self.0.table.load_full();
        let endpoints = table.backends.values().map(|backend| {
            let set = backend.state.endpoints();
            (backend.id.clone(), set)
        });
        let mut endpoints: Vec<_> = endpoints.collect();
        endpoints.sort_by(|a, b| a.0.cmp(&b.0));
        (parts_of(&table), endpoints)
    }

    /// The Endpoints of every Backend that has them from discovery: what is not configuration.
    #[must_use]
    pub fn discovered(&self) -> Vec<(BackendId, Arc<EndpointSet>)> {
        let table = self.0.table.load();
        let backends = table.backends.values().filter(|backend| match backend.spec.endpoints {
            EndpointSource::Discovered => true,
            EndpointSource::Written(_) => false,
        });
        backends.map(|backend| (backend.id.clone(), backend.state.endpoints())).collect()
    }

    /// The digest over these.
    #[must_use]
    pub fn endpoints_digest(&self) -> Digest {
        let sets = self.discovered();
        endpoint::digest_of_all(sets.iter().map(|(id, set)| (id, &**set)))
    }
}

/// All Parts of `table`, by key.
pub(crate) fn parts_of(table: &Table) -> Vec<AnyPart> {
    let mut parts = Vec::new();
    let _ = each_part(table, &mut |part| {
        parts.push(part);
        ControlFlow::Continue(())
    });
    parts.sort_by_cached_key(AnyPart::key);
    parts
}

/// Who takes what is written.
type Take<'a> = &'a mut dyn FnMut(AnyPart) -> ControlFlow<()>;

fn each_part(table: &Table, take: Take<'_>) -> ControlFlow<()> {
    terms::listeners(table, take)?;
    terms::server_names(table, take)?;
    for (id, policy) in &table.policies {
        take(AnyPart::Policy(id.clone(), Part::of(policy.clone())))?;
    }
    for (id, backend) in &table.backends {
        take(AnyPart::Backend(id.clone(), Part::of(backend.spec.clone())))?;
    }
    for (id, key) in &table.certificates {
        take(AnyPart::Certificate(id.clone(), Part::new(certificate(table, id, key))))?;
    }
    routes::routes(table, take)
}

/// What is presented is in the key; what else a Certificate says is for people and for the sender.
fn certificate(table: &Table, id: &CertificateId, presented: &CertifiedKey) -> Certificate {
    let known = table.snapshot.certificates().get(id).map(|part| part.value());
    let chain = presented.cert.iter().map(|der| Der(Arc::from(der.as_ref())));
    Certificate {
        // A chain that the key does not fit is never presented with success.
        chain: if is_fitting(presented) { chain.collect() } else { Vec::new() },
        key: known.map_or_else(unknown_key, |known| known.key.clone()),
        names: known.map_or_else(Vec::new, |known| known.names.clone()),
        not_after: known.map_or(0, |known| known.not_after),
        ocsp: presented.ocsp.as_ref().map(|der| Der(Arc::from(der.as_slice()))),
    }
}

fn is_fitting(presented: &CertifiedKey) -> bool {
    match presented.keys_match() {
        // Kinds of keys that cannot tell were let in, too.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => true,
        Err(_) => false,
    }
}

fn unknown_key() -> kubeng_config::name::SecretId {
    "unknown".parse().expect("the name is not empty")
}

#[cfg(test)]
mod tests;
