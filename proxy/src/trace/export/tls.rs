//! TLS to a collector: its name, and by whom its certificate is believed.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a collector is spoken to over TLS. Nothing is ever sent to one that was not verified.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    name: ServerName<'static>,
    /// None: the authorities of the machine.
    authorities: Option<Arc<RootCertStore>>,
    /// Made at the first connection, for reading the authorities of the machine takes a while.
    made: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// To a collector of this name or address; None when it is neither.
    pub(super) fn to(host: &str) -> Option<Self> {
        let name = ServerName::try_from(host.to_owned()).ok()?;
        Some(Self { name, authorities: None, made: OnceLock::new() })
    }

    /// Believes these authorities in PEM and no others; None when one of them cannot be read.
    pub(super) fn trust(&mut self, pem: &[u8]) -> Option<()> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            store.add(certificate.ok()?).ok()?;
        }
        if store.is_empty() {
            return None;
        }
        self.authorities = Some(Arc::new(store));
        Some(())
    }

    /// # Errors
    /// When the handshake fails; the text says why.
    pub(super) async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = match self.made.get() {
            Some(config) => config.clone(),
            None => {
                let config = self.config().map_err(io::Error::other)?;
                self.made.get_or_init(|| config).clone()
            }
        };
        TlsConnector::from(config).connect(self.name.clone(), tcp).await
    }

    fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?;
        let authorities = self.authorities.clone().unwrap_or_else(of_the_machine);
        let mut config = builder.with_root_certificates(authorities).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Without any, nothing is verified, so nothing is sent.
fn of_the_machine() -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    let (_, ignored) = store.add_parsable_certificates(loaded.certs);
    if store.is_empty() || ignored > 0 {
        tracing::warn!(known = store.len(), ignored, "authorities of the machine");
    }
    Arc::new(store)
}
