//! Whether the TLS of a Backend can be verified, and what keeps connections of different policies apart.

use std::any::Any;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use kubeng_config::backend::Backend;
use kubeng_config::backend::tls::{AUTHORITIES_MAX, Roots};
use kubeng_config::name::BackendId;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use x509_parser_of_engine::prelude::{FromDer, X509Certificate};

/// How connections to a Backend are verified.
#[derive(Debug)]
pub(crate) struct CompiledTls {
    trust: Trust,
    /// What the engine has made of it.
    made: OnceLock<Arc<dyn Any + Send + Sync>>,
}

#[derive(Debug)]
enum Trust {
    /// There is nothing to verify.
    Plain,
    /// By the authorities of the machine.
    System,
    /// By these, all of which can be read.
    Authorities(Arc<RootCertStore>),
    /// Not at all, so nothing may be sent.
    Unusable,
}

impl CompiledTls {
    /// Reads what `backend` trusts. A bundle that cannot be read as a whole makes it unusable: with
    /// what is left of it nobody knows what would be verified.
    pub(crate) fn of(id: &BackendId, backend: &Backend) -> Self {
        let trust = match backend.tls.as_ref().map(|tls| &tls.roots) {
            None => Trust::Plain,
            Some(Roots::System) => Trust::System,
            Some(Roots::Bundle(bundle)) => {
                let ders = bundle.iter().map(|der| der.0.as_ref());
                match authorities(ders) {
                    Ok(store) => Trust::Authorities(Arc::new(store)),
                    Err(reason) => {
                        tracing::error!(backend = %id, reason, "nothing is sent to this backend");
                        Trust::Unusable
                    }
                }
            }
        };
        Self { trust, made: OnceLock::new() }
    }

    /// Whether nothing may be sent.
    pub(crate) fn is_unusable(&self) -> bool {
        matches!(self.trust, Trust::Unusable)
    }

    /// The authorities; None where they are those of the machine, or where there is no TLS.
    pub(crate) fn authorities(&self) -> Option<&Arc<RootCertStore>> {
        match &self.trust {
            Trust::Authorities(store) => Some(store),
            Trust::Plain | Trust::System | Trust::Unusable => None,
        }
    }

    /// What the engine has made of it; `make` is called once.
    pub(crate) fn made<T: Send + Sync + 'static>(
        &self,
        make: impl FnOnce() -> T,
    ) -> Option<Arc<T>> {
        self.made.get_or_init(|| Arc::new(make())).clone().downcast().ok()
    }
}

fn authorities<'a>(
    bundle: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<RootCertStore, &'static str> {
    if bundle.len() == 0 {
        return Err("its bundle of authorities is empty");
    }
    if bundle.len() > AUTHORITIES_MAX {
        return Err("its bundle has too many authorities");
    }
    let mut store = RootCertStore::empty();
    for der in bundle {
        // Both readers must take it: one verifies, the other one is the engine's.
        let is_whole = X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty());
        let added = store.add(CertificateDer::from(der.to_vec()));
        if !is_whole || added.is_err() {
            return Err("an authority of its bundle cannot be read");
        }
    }
    Ok(store)
}

/// A number that is equal only for Backends whose connections may be shared.
///
/// The key of the engine's pool leaves out trust and protocol, so they are put in here.
pub(crate) fn connection_key(backend: &Backend) -> u64 {
    let Backend {
        protocol,
        tls,
        balance: _,
        affinity: _,
        resilience: _,
        endpoints: _,
        resolve: _,
        addresses: _,
        proxy_protocol: _,
    } = backend;
    // The written form holds every field and every byte of what is trusted.
    let written = serde_json::to_string(&(protocol, tls)).unwrap_or_default();
    foldhash::fast::FixedState::default().hash_one(written)
}

#[cfg(test)]
mod tests {
    use kubeng_config::address::AddressRule;
    use kubeng_config::backend::tls::BackendTls;
    use kubeng_config::backend::{BackendProtocol, EndpointSource};
    use kubeng_config::certificate::Der;

    use super::*;

    fn der(name: &str) -> Der {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Der(made.cert.der().to_vec().into())
    }

    fn backend(name: &str, roots: Roots) -> Backend {
        Backend {
            protocol: BackendProtocol::Http1,
            tls: Some(BackendTls { server_name: name.parse().unwrap(), roots }),
            balance: kubeng_config::backend::balance::Balance::RoundRobin,
            affinity: None,
            resilience: None,
            endpoints: EndpointSource::Discovered,
            resolve: None,
            addresses: AddressRule::Operator,
            proxy_protocol: None,
        }
    }

    fn is_unusable(bundle: Vec<Der>) -> bool {
        let backend = backend("a.example", Roots::Bundle(bundle));
        CompiledTls::of(&"Service/test/web:80".parse().unwrap(), &backend).is_unusable()
    }

    #[test]
    fn a_bundle_that_cannot_be_read_as_a_whole_is_unusable() {
        let good = der("ca.example");
        assert!(!is_unusable(vec![good.clone()]));
        assert!(is_unusable(vec![]), "nobody is trusted, so nothing could be verified");
        assert!(is_unusable(vec![good.clone(), Der(vec![1, 2, 3].into())]));
        assert!(is_unusable(vec![Der([&good.0[..], b"x"].concat().into())]));
        assert!(is_unusable(vec![good; 65]));
    }

    #[test]
    fn connections_are_shared_only_where_name_protocol_and_every_authority_agree() {
        let (one, other) = (der("ca.example"), der("ca.example"));
        // Of the same length, so that only their bytes tell them apart.
        let other = if one.0.len() == other.0.len() {
            other
        } else {
            Der({
                let mut bytes = one.0.to_vec();
                bytes[40] ^= 1;
                bytes.into()
            })
        };
        let bundle = |der: &Der| Roots::Bundle(vec![der.clone()]);
        let mut all = vec![
            backend("a.example", Roots::System),
            backend("b.example", Roots::System),
            backend("a.example", bundle(&one)),
            backend("a.example", bundle(&other)),
        ];
        all.push(Backend { protocol: BackendProtocol::Grpc, ..all[0].clone() });
        all.push(Backend { tls: None, ..all[0].clone() });
        let mut keys: Vec<_> = all.iter().map(connection_key).collect();
        assert_eq!(connection_key(&all[2].clone()), keys[2]);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
    }
}
