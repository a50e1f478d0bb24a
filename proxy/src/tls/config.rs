//! How TLS is spoken: one configuration of the library for all that is said alike.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use kubeng_config::canonical::{self, Digest};
use kubeng_config::certificate::ClientCertificates;
use kubeng_config::listener::{CipherSuite, Listener, ListenerTls, TlsVersion};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};

use super::client::{ClientPolicy, ClientPolicyError};
use super::tickets::{OwnTicketKeys, TicketKeys};
use super::{BySocket, provider};
use crate::shared::Shared;

/// How one Listener speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct SpokenTls {
    /// Equal where versions and suites are.
    options: Digest,
    /// What is asked of clients under names that say nothing of their own.
    policy: Option<Arc<ClientPolicy>>,
    own: Arc<ServerConfig>,
    /// For names that ask for something of their own.
    of_names: HashMap<Digest, Arc<ServerConfig>>,
}

impl SpokenTls {
    /// # Errors
    /// When the library cannot speak it so.
    pub(crate) fn new(
        cache: &mut TlsCache,
        shared: &Weak<Shared>,
        listener: &Listener,
        policy: Option<Arc<ClientPolicy>>,
        of_names: impl Iterator<Item = Arc<ClientPolicy>>,
    ) -> Result<Self, rustls::Error> {
        let default = ListenerTls::default();
        let tls = listener.tls.as_ref().unwrap_or(&default);
        let own = cache.config(shared, listener.address, tls, policy.as_ref())?;
        let mut configs = HashMap::new();
        for asked in of_names {
            if let Entry::Vacant(place) = configs.entry(asked.digest) {
                place.insert(cache.config(shared, listener.address, tls, Some(&asked))?);
            }
        }
        Ok(Self { options: options_digest(tls), policy, own, of_names: configs })
    }

    /// Whether some name asks clients for certificates.
    pub(crate) fn asks_clients(&self) -> bool {
        self.policy.is_some() || !self.of_names.is_empty()
    }

    /// What is asked of clients under names that say nothing of their own.
    pub(crate) fn policy(&self) -> Option<&Arc<ClientPolicy>> {
        self.policy.as_ref()
    }

    /// Whether versions and suites are those of `tls`.
    pub(crate) fn is_as(&self, tls: Option<&ListenerTls>) -> bool {
        self.options == options_digest(tls.unwrap_or(&ListenerTls::default()))
    }

    /// Equal where versions and suites are.
    pub(super) fn options(&self) -> Digest {
        self.options
    }

    /// The one configuration; None when the server name decides.
    pub(crate) fn only(&self) -> Option<&Arc<ServerConfig>> {
        self.of_names.is_empty().then_some(&self.own)
    }

    /// The configuration for what is asked of clients; None when no name here asks that.
    pub(crate) fn config(&self, asked: Option<&Arc<ClientPolicy>>) -> Option<&Arc<ServerConfig>> {
        let digest = asked.map(|asked| asked.digest);
        if digest == self.policy.as_ref().map(|own| own.digest) {
            return Some(&self.own);
        }
        self.of_names.get(&digest?)
    }
}

/// What was made for the library, so that it is made once for as long as it is used.
pub(crate) struct TlsCache {
    policies: HashMap<Digest, Weak<ClientPolicy>>,
    configs: HashMap<(SocketAddr, Digest, Option<Digest>), Weak<ServerConfig>>,
    tickets: Box<dyn TicketKeys>,
}

impl Default for TlsCache {
    fn default() -> Self {
        Self {
            policies: HashMap::new(),
            configs: HashMap::new(),
            tickets: Box::new(OwnTicketKeys::default()),
        }
    }
}

impl TlsCache {
    /// What `asked` means.
    ///
    /// # Errors
    /// When an authority cannot be read.
    pub(crate) fn policy(
        &mut self,
        asked: &ClientCertificates,
    ) -> Result<Arc<ClientPolicy>, ClientPolicyError> {
        let digest = Digest::of([canonical::to_bytes(asked).as_slice()]);
        if let Some(known) = self.policies.get(&digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let policy = Arc::new(ClientPolicy::new(digest, asked)?);
        self.policies.retain(|_, policy| policy.strong_count() > 0);
        self.policies.insert(digest, Arc::downgrade(&policy));
        Ok(policy)
    }

    fn config(
        &mut self,
        shared: &Weak<Shared>,
        socket: SocketAddr,
        tls: &ListenerTls,
        policy: Option<&Arc<ClientPolicy>>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let key = (socket, options_digest(tls), policy.map(|policy| policy.digest));
        if let Some(known) = self.configs.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let builder = ServerConfig::builder_with_provider(provider_of(tls));
        let builder = match tls.version_min {
            TlsVersion::V1_2 => builder.with_protocol_versions(&[&TLS13, &TLS12]),
            TlsVersion::V1_3 => builder.with_protocol_versions(&[&TLS13]),
        }?;
        let builder = match policy {
            Some(policy) => builder.with_client_cert_verifier(policy.verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(BySocket::new(shared, socket)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.send_tls13_tickets = 1;
        let scope = policy.map_or_else(|| Digest::of([]), |policy| policy.digest);
        if let Some(ticketer) = self.tickets.ticketer(scope) {
            config.ticketer = ticketer;
        }
        let config = Arc::new(config);
        self.configs.retain(|_, config| config.strong_count() > 0);
        self.configs.insert(key, Arc::downgrade(&config));
        Ok(config)
    }
}

fn options_digest(tls: &ListenerTls) -> Digest {
    Digest::of([canonical::to_bytes(tls).as_slice()])
}

/// The provider with the suites that `tls` names, in the order of the provider.
fn provider_of(tls: &ListenerTls) -> Arc<CryptoProvider> {
    let all = provider();
    if tls.suites.is_empty() {
        return all;
    }
    let mut some = CryptoProvider::clone(&all);
    some.cipher_suites
        .retain(|offered| tls.suites.iter().any(|&named| suite(named) == offered.suite()));
    Arc::new(some)
}

fn suite(named: CipherSuite) -> rustls::CipherSuite {
    use rustls::CipherSuite as Suite;
    match named {
        CipherSuite::Aes128Gcm => Suite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::Aes256Gcm => Suite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::Chacha20 => Suite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdsaAes128Gcm => Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256Gcm => Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChacha20 => Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128Gcm => Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256Gcm => Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChacha20 => Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_model_is_one_of_the_provider_and_none_is_missing() {
        let offered: Vec<_> = provider().cipher_suites.iter().map(|one| one.suite()).collect();
        for &named in CipherSuite::ALL {
            assert!(offered.contains(&suite(named)), "{}", named.name());
            let tls = ListenerTls { suites: vec![named], ..ListenerTls::default() };
            let left = &provider_of(&tls).cipher_suites;
            assert_eq!(left.len(), 1);
            let is_13 = left[0].version() == &rustls::version::TLS13;
            assert_eq!(is_13, named.version() == TlsVersion::V1_3, "{}", named.name());
        }
        assert_eq!(offered.len(), CipherSuite::ALL.len());
    }
}
