//! Whether the TLS of a Backend can be verified, and what keeps connections of different policies apart.

pub(crate) mod connector;
pub(crate) mod failure;

use std::any::Any;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use kubeng_config::backend::tls::{AUTHORITIES_MAX, BackendTls, Roots};
use kubeng_config::backend::{Backend, BackendProtocol};
use kubeng_config::name::BackendId;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser_of_engine::prelude::{FromDer, X509Certificate};

use connector::{Connector, SYSTEM};
use failure::LastTold;

/// How connections to a Backend are verified.
#[derive(Debug)]
pub(crate) struct CompiledTls {
    trust: Trust,
    /// What the other engine has made of it.
    made: OnceLock<Arc<dyn Any + Send + Sync>>,
    told: LastTold,
}

#[derive(Debug)]
enum Trust {
    /// There is nothing to verify.
    Plain,
    /// By the authorities of the machine, or by some that can all be read.
    Verified { connector: Connector, authorities: Option<Arc<RootCertStore>>, is_special: bool },
    /// Not at all, so nothing may be sent.
    Unusable(Box<str>),
}

impl CompiledTls {
    /// Reads what `backend` trusts and presents. A bundle that cannot be read as a whole makes it
    /// unusable: with what is left of it nobody knows what would be verified.
    pub(crate) fn of(
        id: &BackendId,
        backend: &Backend,
        presented: Option<&Arc<CertifiedKey>>,
    ) -> Self {
        let (made, told) = (OnceLock::new(), LastTold::default());
        let Some(tls) = &backend.tls else { return Self { trust: Trust::Plain, made, told } };
        let trust = trust(backend.protocol, tls, presented).unwrap_or_else(|reason| {
            tracing::error!(backend = %id, reason, "nothing is sent to this backend");
            Trust::Unusable(reason.into())
        });
        Self { trust, made, told }
    }

    /// Why nothing may be sent; None when something may.
    pub(crate) fn fault(&self) -> Option<&str> {
        match &self.trust {
            Trust::Unusable(why) => Some(why),
            Trust::Plain | Trust::Verified { .. } => None,
        }
    }

    /// When a failure was last told.
    pub(crate) fn last_told(&self) -> &LastTold {
        &self.told
    }

    /// Whether nothing may be sent.
    pub(crate) fn is_unusable(&self) -> bool {
        self.fault().is_some()
    }

    /// Whether more is asked of connections than what carries requests of our own can do.
    pub(crate) fn is_special(&self) -> bool {
        match self.trust {
            Trust::Verified { is_special, .. } => is_special,
            Trust::Plain | Trust::Unusable(_) => false,
        }
    }

    /// Opens TLS; None where connections are plain, or where nothing may be sent.
    pub(crate) fn connector(&self) -> Option<&Connector> {
        match &self.trust {
            Trust::Verified { connector, .. } => Some(connector),
            Trust::Plain | Trust::Unusable(_) => None,
        }
    }

    /// The authorities; None where they are those of the machine, or where there is no TLS.
    pub(crate) fn authorities(&self) -> Option<&Arc<RootCertStore>> {
        match &self.trust {
            Trust::Verified { authorities, .. } => authorities.as_ref(),
            Trust::Plain | Trust::Unusable(_) => None,
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

fn trust(
    protocol: BackendProtocol,
    tls: &BackendTls,
    presented: Option<&Arc<CertifiedKey>>,
) -> Result<Trust, String> {
    let authorities = match &tls.roots {
        Roots::System => None,
        Roots::Bundle(bundle) => {
            Some(Arc::new(authorities(bundle.iter().map(|der| der.0.as_ref()))?))
        }
    };
    if tls.client_certificate.is_some() && presented.is_none() {
        return Err("the certificate that it is to be shown is not there".to_owned());
    }
    let is_special = tls.is_special();
    let protocols: &[&[u8]] = match protocol {
        BackendProtocol::Http1 => &[b"http/1.1"],
        BackendProtocol::Http2 | BackendProtocol::Grpc => &[b"h2"],
    };
    let roots = authorities.clone().unwrap_or_else(|| SYSTEM.clone());
    let connector = Connector::new(tls, roots, presented.cloned(), protocols)?;
    Ok(Trust::Verified { connector, authorities, is_special })
}

fn authorities<'a>(
    bundle: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<RootCertStore, String> {
    if bundle.len() == 0 {
        return Err("its bundle of authorities is empty".to_owned());
    }
    if bundle.len() > AUTHORITIES_MAX {
        return Err("its bundle has too many authorities".to_owned());
    }
    let mut store = RootCertStore::empty();
    for der in bundle {
        // Both readers must take it: one verifies, the other one is the engine's.
        let is_whole = X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty());
        let added = store.add(CertificateDer::from(der.to_vec()));
        if !is_whole || added.is_err() {
            return Err("an authority of its bundle cannot be read".to_owned());
        }
    }
    Ok(store)
}

/// A number that is equal only for Backends whose connections may be shared.
///
/// The pools know addresses only, so trust, protocol, and what is presented are put in here.
pub(crate) fn connection_key(backend: &Backend, presented: Option<&Arc<CertifiedKey>>) -> u64 {
    let Backend {
        protocol,
        tls,
        balance: _,
        affinity: _,
        resilience: _,
        endpoints: _,
        resolve: _,
        addresses: _,
        // Connections that tell of a client are kept apart by what they told.
        proxy_protocol,
    } = backend;
    // The written form holds every field and every byte of what is trusted.
    let written = serde_json::to_string(&(protocol, tls, proxy_protocol)).unwrap_or_default();
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    written.hash(&mut hasher);
    // Under one name there may be another certificate tomorrow.
    presented.map(|key| &key.cert).hash(&mut hasher);
    hasher.finish()
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
            tls: Some(BackendTls::new(name.parse().unwrap(), roots)),
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
        CompiledTls::of(&"Service/test/web:80".parse().unwrap(), &backend, None).is_unusable()
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
        let mut keys: Vec<_> = all.iter().map(|one| connection_key(one, None)).collect();
        assert_eq!(connection_key(&all[2].clone(), None), keys[2]);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
    }
}
