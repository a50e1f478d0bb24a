//! TLS to Backends: who is believed, and who is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeng_config::backend::health::{HealthCheck, Probe};
use kubeng_config::backend::resilience::Resilience;
use kubeng_config::backend::tls::{BackendTls, Roots};
use kubeng_config::backend::{Backend, BackendProtocol};
use kubeng_config::certificate::Der;
use kubeng_proxy::Health;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::*;

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn bundle(authorities: &[&Authority]) -> Roots {
    let ders = authorities.iter().map(|authority| Der(authority.der().to_vec().into()));
    Roots::Bundle(ders.collect())
}

/// A Backend over TLS whose certificate is for `name`; counts its connections.
async fn serve_tls(authority: &Authority, name: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let version = format!("{:?}", request.version());
                    request.into_body().collect().await?;
                    Ok::<_, hyper::Error>(Response::new(Full::<bytes::Bytes>::from(version)))
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, connections)
}

fn tls(name: &str, roots: Roots, protocol: BackendProtocol) -> impl FnOnce(&mut Backend) {
    let tls = BackendTls::new(name.parse().unwrap(), roots);
    move |backend| (backend.tls, backend.protocol) = (Some(tls), protocol)
}

#[tokio::test]
async fn a_backend_is_believed_when_its_own_authority_says_who_it_is() {
    let (ours, other) = (authority(), authority());
    let (address, connections) = serve_tls(&ours, "billing.example").await;
    let mut replica = Replica::start();
    let mut ask = async |name: &str, roots: Roots, protocol: BackendProtocol| {
        replica.serve_with(&[address], tls(name, roots, protocol), |_| {});
        let answer = get(replica.http, "a", "/").await;
        (answer.status, answer.body)
    };
    let (http1, http2, grpc) =
        (BackendProtocol::Http1, BackendProtocol::Http2, BackendProtocol::Grpc);
    let ok = |version: &str| (200, version.to_owned());
    assert_eq!(ask("billing.example", bundle(&[&ours]), http1).await, ok("HTTP/1.1"));
    assert_eq!(ask("billing.example", bundle(&[&other, &ours]), http1).await, ok("HTTP/1.1"));
    assert_eq!(ask("billing.example", bundle(&[&ours]), http2).await, ok("HTTP/2.0"));
    assert_eq!(ask("billing.example", bundle(&[&ours]), grpc).await, ok("HTTP/2.0"));
    let before = connections.load(Ordering::SeqCst);
    // Pooled connections of those who believe it are there, and not used.
    assert_eq!(ask("billing.example", bundle(&[&other]), http1).await.0, 502);
    assert_eq!(ask("billing.example", bundle(&[&other]), http2).await.0, 502);
    assert_eq!(ask("billing.example", Roots::System, http1).await.0, 502);
    assert_eq!(ask("other.example", bundle(&[&ours]), http1).await.0, 502);
    assert_eq!(connections.load(Ordering::SeqCst), before);
    replica.until_failures("tls_failed", 4).await;
}

#[tokio::test]
async fn what_cannot_be_verified_is_never_opened() {
    let ours = authority();
    let (address, connections) = serve_tls(&ours, "billing.example").await;
    let mut replica = Replica::start();
    let whole = Der(ours.der().to_vec().into());
    let broken = Der(whole.0[..whole.0.len() - 9].into());
    for roots in [Roots::Bundle(vec![]), Roots::Bundle(vec![whole, broken])] {
        let change = tls("billing.example", roots, BackendProtocol::Http1);
        replica.serve_with(&[address], change, |_| {});
        assert_eq!(get(replica.http, "a", "/").await.status, 503);
    }
    replica.until_failures("tls_unusable", 2).await;
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn questions_are_asked_over_the_same_tls() {
    let (ours, other) = (authority(), authority());
    let (address, _) = serve_tls(&ours, "billing.example").await;
    for (roots, expected) in [(bundle(&[&ours]), Health::Well), (bundle(&[&other]), Health::Unwell)]
    {
        let mut replica = Replica::start();
        let interval = Duration::from_millis(30);
        let health = HealthCheck { interval, ..HealthCheck::new(Probe::Tcp) };
        let resilience = Resilience { health: Some(health), ..Resilience::default() };
        let change = |backend: &mut Backend| {
            tls("billing.example", roots, BackendProtocol::Http1)(backend);
            backend.resilience = Some(Box::new(resilience));
        };
        replica.serve_with(&[address], change, |_| {});
        let found = async {
            loop {
                let all = replica.proxy.facts().health();
                if let Some(one) = all.iter().find(|one| one.health != Health::Unknown) {
                    return one.health;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
        assert_eq!(found, expected);
    }
}
