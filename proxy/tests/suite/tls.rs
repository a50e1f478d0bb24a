//! TLS towards clients: certificates by server name, swapped live; HTTP/2 by ALPN.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeng_config::backend::BackendProtocol;
use kubeng_config::backend::tls::{BackendTls, Roots};
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::part::Part;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::*;

/// Takes any certificate and remembers it.
#[derive(Debug, Default)]
struct Remember(Mutex<Vec<u8>>);

impl ServerCertVerifier for Remember {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = end_entity.to_vec();
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

/// Connects, and gives the certificate that was presented.
pub(crate) async fn connect(
    replica: &Replica,
    name: &str,
    alpn: &[u8],
) -> (TlsStream<TcpStream>, Vec<u8>) {
    connect_over(TcpStream::connect(replica.https).await.unwrap(), name, alpn).await
}

/// The same over what is connected already.
pub(crate) async fn connect_over<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    name: &str,
    alpn: &[u8],
) -> (TlsStream<S>, Vec<u8>) {
    let seen = Arc::new(Remember::default());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, io).await.unwrap();
    let presented = seen.0.lock().unwrap().clone();
    (stream, presented)
}

async fn presented(replica: &Replica, name: &str) -> Vec<u8> {
    connect(replica, name, b"http/1.1").await.1
}

#[tokio::test]
async fn certificates_follow_the_server_name_and_are_swapped_live() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let fallback = presented(&replica, "a.example").await;

    let (parts, key) = certificate("a.example");
    replica.change_with(parts, [], [], [key]);
    let (parts, key) = certificate("*.b.example");
    replica.change_with(parts, [], [], [key]);
    let first = presented(&replica, "a.example").await;
    assert_ne!(first, fallback);
    assert_eq!(presented(&replica, "A.Example").await, first);
    let wildcard = presented(&replica, "x.b.example").await;
    assert!(wildcard != fallback && wildcard != first);
    assert_eq!(presented(&replica, "x.y.b.example").await, fallback);
    assert_eq!(presented(&replica, "other.example").await, fallback);

    let (mut held, _) = connect(&replica, "a.example", b"http/1.1").await;
    let (parts, key) = certificate("a.example");
    replica.change_with(parts, [], [], [key]);
    let second = presented(&replica, "a.example").await;
    assert!(second != first && second != fallback);
    // The connection from before goes on.
    held.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");

    replica.remove([
        PartKey::ServerName("https/a.example".parse().unwrap()),
        PartKey::Certificate("Secret/test/a.example".parse().unwrap()),
    ]);
    assert_eq!(presented(&replica, "a.example").await, fallback);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_rejected_and_nothing_changes() {
    let mut replica = Replica::start();
    let (parts, _) = certificate("a.example");
    let before = replica.writer.snapshot();
    let delta = before.delta_to(&before.edited(parts, []).unwrap());
    let error = replica.writer.apply(&delta).unwrap_err();
    assert!(error.to_string().contains("Secret/test/a.example"), "{error}");
    assert_eq!(replica.writer.snapshot().digest(), before.digest());
}

#[tokio::test]
async fn http2_is_agreed_by_alpn() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let (stream, _) = connect(&replica, "a.example", b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    spawn(async move { drop(connection.await) });
    let answers = (0..50).map(|number| {
        let uri = format!("https://a.example/{number}");
        client.send_request(Request::get(uri).body(Empty::<Bytes>::new()).unwrap())
    });
    for (number, answer) in answers.collect::<Vec<_>>().into_iter().enumerate() {
        let body = answer.await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.starts_with(&format!("GET /{number}\n")), "{body}");
        assert!(body.contains("\nhost: a.example\n"), "{body}");
        assert!(body.contains("\nx-forwarded-proto: https\n"), "{body}");
    }
}

#[tokio::test]
async fn a_backend_whose_certificate_nobody_vouches_for_is_not_spoken_to() {
    let made = rcgen::generate_simple_self_signed(["back.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(tcp).await {
                assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0, "a request came");
            }
        }
    });
    let mut replica = Replica::start();
    replica.serve(&[address]);
    let AnyPart::Backend(id, part) = backend("web", BackendProtocol::Http1) else { unreachable!() };
    let mut spec = (**part.value()).clone();
    spec.tls =
        Some(BackendTls { server_name: "back.example".parse().unwrap(), roots: Roots::System });
    replica.change([AnyPart::Backend(id, Part::new(spec))]);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
}

#[tokio::test]
async fn http2_over_tls_is_what_the_handshake_chose_and_has_a_deadline() {
    let replica = Replica::start();
    let rest = async |alpn: &[u8], bytes: &[u8]| {
        let (mut stream, _) = connect(&replica, "a.example", alpn).await;
        stream.write_all(bytes).await.unwrap();
        let mut text = Vec::new();
        let end = stream.read_to_end(&mut text);
        let end = tokio::time::timeout(std::time::Duration::from_secs(10), end);
        // How it ends does not matter.
        let _ = end.await.expect("the connection ends");
        String::from_utf8_lossy(&text).into_owned()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let answer = rest(b"http/1.1", preface).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    assert_eq!(rest(b"h2", b"").await, "");
    assert_eq!(rest(b"h2", &preface[..20]).await, "");
}
