//! TLS to an endpoint that fails: the log says of what, and what to do, and does not fill up with it.

use std::net::SocketAddr;
use std::sync::Arc;

use kubeng_harness::process::Kubeng;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::task::JoinSet;

use super::tls::{Authority, authority, config_map, serve_config};
use super::upstream;
use crate::support::{SOON, get, serve, until};

/// An endpoint with a certificate of `authority` for `erp.internal`, as it is changed.
async fn endpoint(
    authority: &Authority,
    asks: Option<&Authority>,
    change: impl FnOnce(&mut CertificateParams),
) -> (SocketAddr, JoinSet<()>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["erp.internal".to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    serve_config(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()).await
}

/// An Upstream that is asked under its own name.
fn of(name: &str, protocol: &str, to: SocketAddr, server_name: &str, more: &str) -> String {
    let spec = format!(
        "{{protocol: {protocol}, endpoints: [{{address: 127.0.0.1, port: {}}}], \
         tls: {{serverName: {server_name}, roots: {{namespace: fin, name: corporate}}}}, \
         routes: [{{name: all, hostnames: [{name}.example]}}]{more}}}",
        to.port()
    );
    upstream(name, &spec)
}

/// The lines about an Upstream that hold `word`.
fn lines(kubeng: &Kubeng, name: &str, word: &str) -> Vec<String> {
    let subject = format!("Upstream/fin/{name}");
    let log = kubeng.log().into_iter();
    log.filter(|line| line.contains(&subject) && line.contains(word)).collect()
}

const FAILED: &str = "TLS to a backend failed";

#[tokio::test]
async fn the_log_says_of_what_tls_failed_and_what_to_do_once_for_each_backend() {
    let (ours, strangers) = (authority("ours"), authority("strangers"));
    let (right, _a) = endpoint(&ours, None, |_| {}).await;
    let (unknown, _b) = endpoint(&strangers, None, |_| {}).await;
    let (asking, _c) = endpoint(&ours, Some(&ours), |_| {}).await;
    let old = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    };
    let (expired, _d) = endpoint(&ours, None, old).await;
    let plain = kubeng_harness::backend::Backend::start("plain").await.unwrap();
    let named = "erp.internal";
    let text = [
        config_map(&ours),
        of("right", "https", right, named, ""),
        of("unknown", "https", unknown, named, ""),
        of("misnamed", "https", right, "other.internal", ""),
        of("expired", "https", expired, named, ""),
        of("asking", "https", asking, named, ""),
        of("plain", "https", plain.address, named, ""),
        of("unagreed", "grpcs", right, named, ""),
    ];
    let (mut kubeng, _folder) = serve(&[("a.yaml", text.concat())]).await;
    until(&kubeng, "right.example", "/", |answer| answer.status == 200).await;
    for (name, cause, remedy) in [
        ("unknown", "UnknownIssuer", "tls.roots"),
        ("misnamed", "not valid for name", "tls.serverName"),
        ("expired", "expired", "renew"),
        ("asking", "CertificateRequired", "tls.clientCertificate"),
        ("plain", "InvalidContentType", "the port at which it speaks TLS"),
        ("unagreed", "ALPN", "protocol"),
    ] {
        let host = format!("{name}.example");
        for _ in 0..5 {
            assert_eq!(get(&kubeng, &host, "/").await.status, 502, "{name}");
        }
        let subject = format!("Upstream/fin/{name}");
        let is_wanted = |line: &str| line.contains(&subject) && line.contains(FAILED);
        let line = kubeng.wait_for_line(SOON, is_wanted).await.unwrap();
        for word in ["WARN", "127.0.0.1:", "internal", cause, remedy] {
            assert!(line.contains(word), "{name}: {word:?} in {line}");
        }
        assert_eq!(get(&kubeng, &host, "/").await.status, 502, "{name}");
    }
    assert_eq!(get(&kubeng, "right.example", "/").await.status, 200);
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    for name in ["unknown", "misnamed", "expired", "asking", "plain", "unagreed"] {
        assert_eq!(lines(&kubeng, name, FAILED).len(), 1, "{name}: {}", kubeng.log().join("\n"));
    }
    assert_eq!(lines(&kubeng, "right", FAILED), [""; 0]);
}

#[tokio::test]
async fn an_endpoint_whose_tls_fails_a_health_check_is_told_with_the_cause() {
    let (ours, strangers) = (authority("ours"), authority("strangers"));
    let (unknown, _a) = endpoint(&strangers, None, |_| {}).await;
    let health = ", health: {probe: tcp, interval: 5s, timeout: 4s, unhealthyAfter: 1}";
    let text = config_map(&ours) + &of("unknown", "https", unknown, "erp.internal", health);
    let (mut kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    let is_wanted = |line: &str| line.contains("Upstream/fin/unknown") && line.contains("unwell");
    let line = kubeng.wait_for_line(SOON, is_wanted).await.unwrap();
    for word in ["WARN", "UnknownIssuer", "tls.roots"] {
        assert!(line.contains(word), "{word:?} in {line}");
    }
}
