//! Upstreams over TLS: authorities of a ConfigMap, and a certificate of our own that they ask for.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{kubeng_says, upstream};
use crate::support::{save, serve, until};

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Speaks TLS as `name`, asks for certificates of `authority`, and answers every request with 200.
async fn serve_tls(authority: &Authority, name: &str) -> (SocketAddr, JoinSet<()>) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    serve_config(config).await
}

/// Answers every request over TLS like this with 200.
pub(super) async fn serve_config(config: ServerConfig) -> (SocketAddr, JoinSet<()>) {
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let config = Arc::clone(&config);
            let tcp = tcp.into_std().unwrap();
            connections.spawn_blocking(move || {
                tcp.set_nonblocking(false).unwrap();
                tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
                answer(tls);
            });
        }
    });
    (address, tasks)
}

/// One request, one answer; what a peer that is not trusted does is for the peer to see.
fn answer(mut tls: StreamOwned<ServerConnection, std::net::TcpStream>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return,
        }
    }
    let shown = tls.conn.peer_certificates().map_or(0, <[_]>::len);
    let text = format!(
        "HTTP/1.1 200 OK\r\nx-shown: {shown}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    );
    let _ = tls.write_all(text.as_bytes());
    tls.conn.send_close_notify();
    let _ = tls.flush();
}

fn indented(pem: &str) -> String {
    pem.trim_end().replace('\n', "\n    ")
}

pub(super) fn config_map(authority: &Authority) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{namespace: fin, name: corporate}}\n\
         data:\n  ca.crt: |\n    {}\n---\n",
        indented(&authority.pem())
    )
}

#[tokio::test]
async fn authorities_and_the_certificate_that_is_presented_follow_their_objects() {
    let (right, wrong) = (authority("right"), authority("wrong"));
    let (address, _tasks) = serve_tls(&right, "erp.internal").await;
    let key = KeyPair::generate().unwrap();
    let shown = CertificateParams::new(vec!["kubeng.internal".to_owned()]).unwrap();
    let shown = shown.signed_by(&key, &right).unwrap();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{namespace: fin, name: kubeng}}\n\
         type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n",
        indented(&shown.pem()),
        indented(&key.serialize_pem())
    );
    let spec = format!(
        "{{protocol: https, endpoints: [{{address: 127.0.0.1, port: {}}}], \
         tls: {{serverName: erp.internal, roots: {{namespace: fin, name: corporate}}, \
         clientCertificate: {{name: kubeng}}, minVersion: \"1.3\"}}, \
         routes: [{{name: all, hostnames: [erp.example]}}]}}",
        address.port()
    );
    // Neither ConfigMap nor Secret exist: nothing is sent.
    let (kubeng, folder) = serve(&[("a.yaml", upstream("erp", &spec))]).await;
    until(&kubeng, "erp.example", "/", |answer| answer.status == 503).await;
    let problems = kubeng.admin("/api/v1/problems").await.unwrap();
    let problems = String::from_utf8(problems.body.to_vec()).unwrap();
    assert!(problems.contains("KNG-1120"), "{problems}");

    save(folder.path(), "b.yaml", &secret);
    save(folder.path(), "c.yaml", &config_map(&wrong));
    until(&kubeng, "erp.example", "/", |answer| answer.status == 502).await;
    save(folder.path(), "c.yaml", &config_map(&right));
    let answer = until(&kubeng, "erp.example", "/", |answer| answer.status == 200).await;
    assert_eq!(answer.headers["x-shown"], "1", "it presents its certificate");

    let path = folder.path().to_str().unwrap();
    let private: Vec<String> =
        key.serialize_pem().lines().skip(1).take(1).map(str::to_owned).collect();
    for format in ["yaml", "json", "nginx"] {
        let exported = kubeng_says(&["export", "--manifests", path, "--format", format]);
        assert!(exported.contains("Upstream/fin/erp"), "{exported}");
        assert!(!exported.contains("PRIVATE") && !exported.contains(&private[0]), "{exported}");
    }
    let log = kubeng.log().join("\n");
    assert!(!log.contains("PRIVATE") && !log.contains(&private[0]), "{log}");

    save(folder.path(), "c.yaml", "");
    until(&kubeng, "erp.example", "/", |answer| answer.status == 503).await;
}
