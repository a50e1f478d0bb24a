//! A TLS client that takes any certificate and remembers what it saw, and an Endpoint that ends TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::spawn;

/// What a client offers.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) identity: Option<Identity>,
    pub(crate) alpn: &'static [u8],
    /// Bytes that are written at once.
    pub(crate) piece: usize,
    /// What stands before TLS.
    pub(crate) before: Vec<u8>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            versions: rustls::ALL_VERSIONS.to_vec(),
            identity: None,
            alpn: b"http/1.1",
            piece: usize::MAX,
            before: Vec::new(),
        }
    }
}

/// A certificate of a client and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
}

/// What was presented.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) certificate: Vec<u8>,
    pub(crate) ocsp: Vec<u8>,
}

impl Client {
    /// The configuration, which keeps sessions, and where it notes what it sees.
    pub(crate) fn config(&self) -> (Arc<ClientConfig>, Arc<Mutex<Seen>>) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(seen.clone())));
        let mut config = match &self.identity {
            Some(Identity { chain, key }) => {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                builder.with_client_auth_cert(chain.clone(), key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![self.alpn.to_vec()];
        (Arc::new(config), seen)
    }

    /// Connects; a name that is an address is not sent.
    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
        name: &str,
    ) -> io::Result<TlsStream<Pieces>> {
        self.connect_with(self.config().0, to, name).await
    }

    pub(crate) async fn connect_with(
        &self,
        config: Arc<ClientConfig>,
        to: SocketAddr,
        name: &str,
    ) -> io::Result<TlsStream<Pieces>> {
        let mut tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        tcp.write_all(&self.before).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let pieces = Pieces { tcp, piece: self.piece };
        TlsConnector::from(config).connect(name, pieces).await
    }

    /// Sends all, ends the half, and reads to the end.
    pub(crate) async fn ask(&self, to: SocketAddr, name: &str, text: &[u8]) -> io::Result<String> {
        let stream = self.connect(to, name).await?;
        talk(stream, text).await
    }
}

/// Sends all, ends the half, and reads to the end.
pub(crate) async fn talk(mut stream: TlsStream<Pieces>, text: &[u8]) -> io::Result<String> {
    stream.write_all(text).await?;
    stream.shutdown().await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// One request for `host` on a connection under `name`: the answer, or how the handshake failed.
pub(crate) async fn get(
    client: &Client,
    to: SocketAddr,
    name: &str,
    host: &str,
    headers: &str,
) -> io::Result<crate::support::Answer> {
    let mut stream = client.connect(to, name).await?;
    let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut all = String::new();
    stream.read_to_string(&mut all).await?;
    Ok(crate::support::Answer::read(&all))
}

#[derive(Debug)]
struct AnyServer(Arc<Mutex<Seen>>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Seen { certificate: end_entity.to_vec(), ocsp: ocsp.to_vec() };
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A socket that writes in pieces.
pub(crate) struct Pieces {
    tcp: TcpStream,
    piece: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, out)
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let piece = self.piece.min(bytes.len());
        Pin::new(&mut self.tcp).poll_write(cx, &bytes[..piece])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// An Endpoint that ends TLS, and answers what it reads with `name`, a colon and the same.
pub(crate) async fn serve_tls(name: &'static str) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["back.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut config = config;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let mut all = Vec::new();
                if stream.read_to_end(&mut all).await.is_ok() {
                    let _ = stream.write_all(&[name.as_bytes(), b":", &all].concat()).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    address
}
