//! TLS to Backends that want to know who connects, or are believed under other names.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kubeng_config::backend::BackendProtocol;
use kubeng_config::backend::tls::{BackendTls, Subject};
use kubeng_config::bounded::{AtMost, TextAtMost};
use kubeng_config::certificate::{Certificate, Der, Secret};
use kubeng_config::delta::AnyPart;
use kubeng_config::listener::TlsVersion;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{CertificateId, SecretId};
use kubeng_config::part::Part;
use kubeng_config::route::Action;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::backend_tls::{Authority, authority, bundle};
use crate::support::*;

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
}

pub(crate) fn identity(
    authority: &Authority,
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut params);
    let issuer: &Issuer<'_, KeyPair> = authority;
    let certificate = params.signed_by(&key, issuer).unwrap();
    Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A Backend that says how long a body it got, who sent it (the length of the client's certificate),
/// and whether the session was resumed.
pub(crate) async fn serve_as(
    identity: Identity,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> SocketAddr {
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivatePkcs8KeyDer::from(identity.key).into();
    let config = Arc::new(builder.with_single_cert(identity.chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(config.clone());
            spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let session = stream.get_ref().1;
                let who = session.peer_certificates().map_or(0, |chain| chain[0].len());
                let kind = format!("{:?}", session.handshake_kind().unwrap());
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let kind = kind.clone();
                    async move {
                        let length = request.into_body().collect().await?.to_bytes().len();
                        let text = format!("{length} {who} {kind}");
                        let answer = Response::builder().header("connection", "close");
                        Ok::<_, hyper::Error>(
                            answer.body(Full::<bytes::Bytes>::from(text)).unwrap(),
                        )
                    }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// The Part of a certificate, and its key.
pub(crate) fn presented(id: &str, identity: &Identity) -> (AnyPart, (SecretId, Secret)) {
    let id: CertificateId = id.parse().unwrap();
    let key: SecretId = format!("{:?}", identity.chain[0].len()).parse().unwrap();
    let value = Certificate {
        chain: identity.chain.iter().map(|der| Der(der.to_vec().into())).collect(),
        key: key.clone(),
        names: vec![],
        not_after: 4_102_444_800,
        ocsp: None,
    };
    (AnyPart::Certificate(id, Part::new(value)), (key, Secret::new(identity.key.clone())))
}

/// Serves everything from one Backend that is reached so.
pub(crate) fn serve_over(
    replica: &mut Replica,
    address: SocketAddr,
    tls: BackendTls,
    protocol: BackendProtocol,
    certificate: Option<(AnyPart, (SecretId, Secret))>,
) {
    let mut parts = vec![
        backend_with("web", |backend| {
            (backend.tls, backend.protocol) = (Some(tls), protocol);
        }),
        route("all", HostMatch::Any, "/", vec![], Action::Forward(vec![to("web")])),
    ];
    let (part, secret) = certificate.unzip();
    parts.extend(part);
    replica.change_with(parts, [], [(backend_id("web"), endpoint_set(&[address]))], secret);
}

pub(crate) const BOTH: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn a_backend_that_asks_who_connects_is_shown_our_certificate_in_either_version() {
    let (ours, clients, strangers) = (authority(), authority(), authority());
    for version in BOTH {
        let own = identity(&ours, "billing.example", |_| {});
        let address = serve_as(own, Some(&clients), &[version]).await;
        let mut replica = Replica::start();
        let plain = BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]));
        let id: CertificateId = "Secret/test/client".parse().unwrap();
        let asked = BackendTls { client_certificate: Some(id), ..plain.clone() };

        let known = identity(&clients, "kubeng", |_| {});
        let who = known.chain[0].len();
        let shown = presented("Secret/test/client", &known);
        serve_over(&mut replica, address, asked, BackendProtocol::Http1, Some(shown));
        let answer = get(replica.http, "a", "/").await;
        assert_eq!((answer.status, answer.body), (200, format!("0 {who} Full")), "{version:?}");
        // The certificate of one Backend is renewed under its name: only that changes.
        let renewed = identity(&clients, "kubeng.renewed.example", |_| {});
        let who = renewed.chain[0].len();
        let (part, secret) = presented("Secret/test/client", &renewed);
        replica.change_with([part], [], [], [secret]);
        let answer = get(replica.http, "a", "/").await;
        assert_eq!((answer.status, answer.body), (200, format!("0 {who} Full")), "{version:?}");

        let unknown = identity(&strangers, "kubeng.unknown.to.all.example", |_| {});
        let (part, secret) = presented("Secret/test/client", &unknown);
        replica.change_with([part], [], [], [secret]);
        assert_eq!(get(replica.http, "a", "/").await.status, 502, "{version:?}");
        serve_over(&mut replica, address, plain, BackendProtocol::Http1, None);
        assert_eq!(get(replica.http, "a", "/").await.status, 502, "{version:?}");
        replica.until_failures("tls_failed", 2).await;
    }
}

#[tokio::test]
async fn a_session_is_resumed_only_by_those_who_verify_alike() {
    let ours = authority();
    let address = serve_as(identity(&ours, "billing.example", |_| {}), None, &BOTH).await;
    let mut replica = Replica::start();
    let tls = || BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]));
    serve_over(&mut replica, address, tls(), BackendProtocol::Http1, None);
    assert_eq!(get(replica.http, "a", "/").await.body, "0 0 Full");
    assert_eq!(get(replica.http, "a", "/").await.body, "0 0 Resumed");
    let stranger = authority();
    let other = BackendTls { roots: bundle(&[&stranger]), ..tls() };
    serve_over(&mut replica, address, other, BackendProtocol::Http1, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
}

#[tokio::test]
async fn a_backend_is_believed_under_the_names_that_are_listed_and_no_other() {
    let ours = authority();
    let uri = "spiffe://example.org/billing";
    let own = identity(&ours, "inside.example", |params| {
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    });
    let address = serve_as(own, None, &BOTH).await;
    let mut replica = Replica::start();
    let mut ask = async |names: &[Subject], roots| {
        let tls = BackendTls {
            subjects: AtMost::new(names.to_vec()).unwrap(),
            ..BackendTls::new("billing.example".parse().unwrap(), roots)
        };
        serve_over(&mut replica, address, tls, BackendProtocol::Http1, None);
        get(replica.http, "a", "/").await.status
    };
    let name = |name: &str| Subject::Hostname(name.parse().unwrap());
    let uri = |uri: &str| Subject::Uri(TextAtMost::new(uri.to_owned()).unwrap());
    assert_eq!(ask(&[], bundle(&[&ours])).await, 502, "the name that is asked for");
    assert_eq!(ask(&[name("other.example"), name("inside.example")], bundle(&[&ours])).await, 200);
    assert_eq!(ask(&[uri("spiffe://example.org/billing")], bundle(&[&ours])).await, 200);
    assert_eq!(ask(&[uri("spiffe://example.org/billing/x")], bundle(&[&ours])).await, 502);
    assert_eq!(ask(&[name("billing.example")], bundle(&[&ours])).await, 502);
    let stranger = authority();
    assert_eq!(ask(&[name("inside.example")], bundle(&[&stranger])).await, 502);
}

#[tokio::test]
async fn what_has_expired_or_speaks_too_old_a_version_is_not_believed() {
    let ours = authority();
    let expired = identity(&ours, "billing.example", |params| {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    });
    let mut replica = Replica::start();
    let tls = || BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]));
    let address = serve_as(expired, None, &BOTH).await;
    serve_over(&mut replica, address, tls(), BackendProtocol::Http1, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);

    let old = serve_as(identity(&ours, "billing.example", |_| {}), None, &BOTH[..1]).await;
    serve_over(&mut replica, old, tls(), BackendProtocol::Http1, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 200);
    let newer = BackendTls { version_min: TlsVersion::V1_3, ..tls() };
    serve_over(&mut replica, old, newer, BackendProtocol::Http1, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
    replica.until_failures("tls_failed", 2).await;
}

#[tokio::test]
async fn a_backend_that_accepts_and_never_shakes_hands_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = kubeng_proxy::Limits {
        backend_handshake: std::time::Duration::from_millis(200),
        ..settings().limits
    };
    let mut replica = Replica::with(kubeng_proxy::ProxySettings { limits, ..settings() });
    let tls = BackendTls::new("a.example".parse().unwrap(), bundle(&[&authority()]));
    let address = listener.local_addr().unwrap();
    serve_over(&mut replica, address, tls, BackendProtocol::Http1, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 504);
    replica.until_failures("connect_timeout", 1).await;
}

#[tokio::test]
async fn a_websocket_and_an_upload_pass_over_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ours = authority();
    let own = identity(&ours, "billing.example", |_| {});
    let config = rustls::ServerConfig::builder_with_provider(provider());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivatePkcs8KeyDer::from(own.key).into();
    let config = Arc::new(config.with_single_cert(own.chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut stream = TlsAcceptor::from(config.clone()).accept(tcp).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            if head.contains("\r\nupgrade: websocket\r\n") {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                              Connection: Upgrade\r\n\r\nfirst";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (mut from, mut into) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut from, &mut into).await;
            } else {
                let mut body = vec![0; 1_000_000];
                stream.read_exact(&mut body).await.unwrap();
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    let mut replica = Replica::start();
    let tls = BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]));
    serve_over(&mut replica, address, tls, BackendProtocol::Http1, None);

    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n";
    let text = [head.as_bytes(), &vec![b'x'; 1_000_000]].concat();
    assert_eq!(Answer::read(&talk(replica.http, &text).await).body, "ok");

    let mut client = tokio::net::TcpStream::connect(replica.http).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nfirst") {
        answer.push(client.read_u8().await.unwrap());
    }
    let mut space = [0; 4];
    for number in 0..100_u32 {
        client.write_all(&number.to_be_bytes()).await.unwrap();
        client.read_exact(&mut space).await.unwrap();
        assert_eq!(space, number.to_be_bytes());
    }
}
