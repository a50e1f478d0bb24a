//! Spans to a collector over TLS: nothing is sent to one that is not believed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kubeng_proxy::{Collector, ObserveSettings, ProxySettings, TraceSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::support::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A collector over TLS, and what each handshake with it led to: the text that came, or nothing.
async fn collector(authority: &Authority) -> (SocketAddr, Arc<Mutex<Vec<Option<String>>>>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut text = Vec::new();
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                kept.lock().unwrap().push(None);
                continue;
            };
            while !String::from_utf8_lossy(&text).ends_with("}]}]}]}") {
                let read = stream.read_buf(&mut text).await;
                if !matches!(read, Ok(1..)) {
                    break;
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            kept.lock().unwrap().push(Some(String::from_utf8_lossy(&text).into_owned()));
        }
    });
    (address, seen)
}

/// What came of the first handshake with a collector that is believed by `trusted`.
async fn export(to: SocketAddr, trusted: &Authority) -> (Replica, TraceSettings) {
    let to: Collector = format!("https://{to}").parse().unwrap();
    let to = to.trusting(trusted.pem().as_bytes()).unwrap();
    let tracing = TraceSettings { to, sample: 1.0 };
    let observe = ObserveSettings { tracing: Some(tracing.clone()), ..Default::default() };
    let mut replica = Replica::with(ProxySettings { observe, ..settings() });
    replica.serve(&[serve_text("hello").await]);
    assert_eq!(get(replica.http, "a", "/traced").await.status, 200);
    (replica, tracing)
}

async fn first(seen: &Mutex<Vec<Option<String>>>) -> Option<String> {
    let some = async {
        loop {
            if let Some(first) = seen.lock().unwrap().first() {
                return first.clone();
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), some).await.expect("the collector is spoken to")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_go_over_tls_to_who_is_believed_and_to_nobody_else() {
    let (ours, other) = (authority(), authority());
    let (address, seen) = collector(&ours).await;
    let _running = export(address, &ours).await;
    let text = first(&seen).await.expect("the handshake succeeds");
    assert!(text.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("/traced"), "{text}");

    let (address, seen) = collector(&other).await;
    let _running = export(address, &ours).await;
    assert_eq!(first(&seen).await, None, "it ends before a byte of spans");
}
