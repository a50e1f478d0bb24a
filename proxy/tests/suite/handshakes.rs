//! What a handshake agrees on: versions, suites, stapled answers, tickets, certificates of clients.

use std::io;
use std::process::Command;

use kubeng_config::certificate::{ClientCertificateMode, ClientCertificates, Der, ServerName};
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::listener::{CipherSuite, ListenerTls, Protocol, TlsVersion};
use kubeng_config::part::Part;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::listening::*;
use crate::support::{Replica, certificate, serve_echo, serve_text};
use crate::tls_client::{Client, Identity, get};

/// An authority that vouches for clients.
struct Authority {
    root: Der,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let made = params.self_signed(&key).unwrap();
        Self { root: Der(made.der().to_vec().into()), issuer: Issuer::new(params, key) }
    }

    /// A client that it vouches for.
    fn client(&self, name: &str) -> Client {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Fin");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(vec![0x0a, 0xbc].into());
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity { chain: vec![made.der().clone()], key: key.serialize_der() };
        Client { identity: Some(identity), ..Client::default() }
    }

    fn asked(&self, mode: ClientCertificateMode) -> Option<ClientCertificates> {
        Some(ClientCertificates { mode, roots: vec![self.root.clone()] })
    }
}

/// A certificate for `name`, under which clients are asked for theirs.
fn put_name(replica: &mut Replica, name: &str, asked: Option<ClientCertificates>) {
    let (mut parts, key) = certificate(name);
    let Some(AnyPart::ServerName(id, part)) = parts.pop() else { unreachable!() };
    let named =
        ServerName { certificate: part.value().certificate.clone(), client_certificates: asked };
    parts.push(AnyPart::ServerName(id, Part::new(named)));
    replica.change_with(parts, [], [], [key]);
}

/// As before, with the certificate that is there.
fn ask_under(replica: &mut Replica, name: &str, asked: Option<ClientCertificates>) {
    let certificate = format!("Secret/test/{name}").parse().unwrap();
    let named = ServerName { certificate, client_certificates: asked };
    let id = format!("https/{name}").parse().unwrap();
    replica.change([AnyPart::ServerName(id, Part::new(named))]);
}

async fn status(client: &Client, replica: &Replica, name: &str, host: &str) -> io::Result<u16> {
    get(client, replica.https, name, host, "").await.map(|answer| answer.status)
}

#[tokio::test]
async fn versions_and_suites_are_those_of_the_listener() {
    let mut replica = Replica::start();
    let mut listener = on(2, Protocol::Https);
    let agreed = async |replica: &Replica, version| {
        let client = Client { versions: vec![version], ..Client::default() };
        let stream = client.connect(replica.https, "a.example").await.ok()?;
        let session = stream.get_ref().1;
        Some(session.negotiated_cipher_suite().unwrap().suite().as_str().unwrap())
    };
    assert!(agreed(&replica, &TLS12).await.is_some());
    listener.tls = Some(ListenerTls { version_min: TlsVersion::V1_3, suites: vec![] });
    assert_eq!(put(&mut replica, "https", &listener), replica.https);
    assert_eq!(agreed(&replica, &TLS12).await, None);
    assert!(agreed(&replica, &TLS13).await.is_some());
    listener.tls = Some(ListenerTls {
        version_min: TlsVersion::V1_2,
        suites: vec![CipherSuite::EcdsaChacha20, CipherSuite::Aes256Gcm],
    });
    put(&mut replica, "https", &listener);
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    assert_eq!(agreed(&replica, &TLS12).await, Some(suite));
    assert_eq!(agreed(&replica, &TLS13).await, Some("TLS13_AES_256_GCM_SHA384"));
}

#[tokio::test]
async fn a_stapled_answer_comes_with_the_certificate() {
    let mut replica = Replica::start();
    let (mut parts, key) = certificate("a.example");
    let AnyPart::Certificate(id, part) = parts.remove(0) else { unreachable!() };
    let mut value = (**part.value()).clone();
    value.ocsp = Some(Der((*b"an answer of its authority").into()));
    parts.push(AnyPart::Certificate(id, Part::new(value)));
    replica.change_with(parts, [], [], [key]);
    let client = Client::default();
    for (name, expected) in [("a.example", &b"an answer of its authority"[..]), ("b.example", b"")]
    {
        let (config, seen) = client.config();
        client.connect_with(config, replica.https, name).await.unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.ocsp, expected);
        assert!(!seen.certificate.is_empty());
    }
}

#[tokio::test]
async fn a_name_asks_for_certificates_and_others_do_not() {
    let (authority, stranger) = (Authority::new("CA"), Authority::new("CA"));
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    put_name(&mut replica, "a.example", authority.asked(ClientCertificateMode::Require));
    put_name(&mut replica, "b.example", None);
    put_name(&mut replica, "*.c.example", authority.asked(ClientCertificateMode::Request));
    let (none, good, bad) = (Client::default(), authority.client("bob"), stranger.client("bob"));

    assert!(status(&none, &replica, "a.example", "a.example").await.is_err());
    assert!(status(&bad, &replica, "a.example", "a.example").await.is_err());
    assert_eq!(status(&none, &replica, "b.example", "b.example").await.unwrap(), 200);
    assert_eq!(status(&none, &replica, "x.c.example", "x.c.example").await.unwrap(), 200);
    assert!(status(&bad, &replica, "x.c.example", "x.c.example").await.is_err());

    let forged = "X-Client-Cert-Subject: CN=root\r\nx_client_cert_subject: CN=root\r\n\
                  X-Client-Cert-Other: 1\r\n";
    let told = |name| get(&good, replica.https, name, name, forged);
    for name in ["a.example", "x.c.example"] {
        let body = told(name).await.unwrap().body;
        for line in [
            "x-client-cert-subject: CN=bob,O=Fin\n",
            "x-client-cert-issuer: ",
            "x-client-cert-serial: 0abc\n",
            "x-client-cert-fingerprint: ",
        ] {
            assert!(body.contains(line), "{line} in {body}");
        }
        assert!(!body.contains("root") && !body.contains("cert-other"), "{body}");
    }
    let body = get(&none, replica.https, "b.example", "b.example", forged).await.unwrap().body;
    assert!(!body.contains("cert"), "{body}");
    let text = format!("GET / HTTP/1.1\r\nHost: b\r\n{forged}Connection: close\r\n\r\n");
    let body = crate::support::talk(replica.http, text.as_bytes()).await;
    assert!(body.starts_with("HTTP/1.1 200") && !body.contains("cert"), "{body}");
}

#[tokio::test]
async fn nobody_reaches_a_name_by_a_handshake_for_another() {
    let (authority, other) = (Authority::new("CA"), Authority::new("Other"));
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    put_name(&mut replica, "a.example", authority.asked(ClientCertificateMode::Require));
    put_name(&mut replica, "also-a.example", authority.asked(ClientCertificateMode::Require));
    put_name(&mut replica, "open.example", None);
    put_name(&mut replica, "other.example", other.asked(ClientCertificateMode::Require));
    put_name(&mut replica, "maybe.example", authority.asked(ClientCertificateMode::Request));
    let (none, good) = (Client::default(), authority.client("bob"));
    let misdirected = 421;
    for (client, name, host, expected) in [
        (&none, "open.example", "a.example", misdirected),
        (&none, "127.0.0.1", "a.example", misdirected),
        (&none, "unknown.example", "a.example", misdirected),
        (&good, "open.example", "a.example", misdirected),
        (&good, "a.example", "open.example", misdirected),
        (&good, "a.example", "other.example", misdirected),
        (&none, "maybe.example", "a.example", misdirected),
        // It asks for the same, but presents another certificate.
        (&good, "a.example", "also-a.example", misdirected),
        (&good, "a.example", "A.EXAMPLE.", 200),
        (&none, "127.0.0.1", "open.example", 200),
        (&none, "open.example", "open.example:443", 200),
        (&none, "unknown.example", "another.example", 200),
    ] {
        let status = status(client, &replica, name, host).await.unwrap();
        assert_eq!(status, expected, "{host} under {name}");
    }
}

#[tokio::test]
async fn a_listener_asks_under_all_names_that_say_nothing() {
    let authority = Authority::new("CA");
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    put_name(&mut replica, "a.example", None);
    let mut listener = on(2, Protocol::Https);
    listener.client_certificates = authority.asked(ClientCertificateMode::Require);
    put(&mut replica, "https", &listener);
    for name in ["a.example", "unknown.example", "127.0.0.1"] {
        assert!(status(&Client::default(), &replica, name, name).await.is_err(), "{name}");
        assert_eq!(status(&authority.client("bob"), &replica, name, name).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_policy_that_comes_holds_for_connections_and_sessions_from_before() {
    let authority = Authority::new("CA");
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    put_name(&mut replica, "a.example", None);
    for version in [&TLS13, &TLS12] {
        let versions = vec![version];
        ask_under(&mut replica, "a.example", None);
        let client = Client { versions: versions.clone(), ..Client::default() };
        let (config, _) = client.config();
        let connect = || client.connect_with(config.clone(), replica.https, "a.example");
        let ask = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let mut space = [0; 4096];
        let mut held = connect().await.unwrap();
        held.write_all(ask).await.unwrap();
        assert_ne!(held.read(&mut space).await.unwrap(), 0);
        let mut again = connect().await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        again.write_all(ask).await.unwrap();
        assert_ne!(again.read(&mut space).await.unwrap(), 0);

        ask_under(&mut replica, "a.example", authority.asked(ClientCertificateMode::Require));
        held.write_all(ask).await.unwrap();
        let mut answer = Vec::new();
        let _ = held.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        // A session from before says nothing about a certificate.
        let refused = async {
            let mut stream =
                client.connect_with(config.clone(), replica.https, "a.example").await?;
            stream.write_all(ask).await?;
            stream.read_u8().await
        };
        assert!(refused.await.is_err());

        let good = Client { versions, ..authority.client("bob") };
        let (config, _) = good.config();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream =
                good.connect_with(config.clone(), replica.https, "a.example").await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
            stream.write_all(ask).await.unwrap();
            let count = stream.read(&mut space).await.unwrap();
            assert!(space[..count].starts_with(b"HTTP/1.1 200 "));
        }
        // What is not asked for any more does no harm to what was open.
        let mut open = good.connect(replica.https, "a.example").await.unwrap();
        ask_under(&mut replica, "a.example", None);
        open.write_all(ask).await.unwrap();
        let count = open.read(&mut space).await.unwrap();
        assert!(space[..count].starts_with(b"HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_rejected_and_nothing_changes() {
    let mut replica = Replica::start();
    put_name(&mut replica, "a.example", None);
    let before = replica.writer.snapshot();
    let asked = ClientCertificates {
        mode: ClientCertificateMode::Require,
        roots: vec![Der((*b"nothing").into())],
    };
    let named = ServerName {
        certificate: "Secret/test/a.example".parse().unwrap(),
        client_certificates: Some(asked),
    };
    let part = AnyPart::ServerName("https/a.example".parse().unwrap(), Part::new(named));
    let delta = before.delta_to(&before.edited([part], []).unwrap());
    let error = replica.writer.apply(&delta).unwrap_err();
    assert!(error.to_string().contains("https/a.example"), "{error}");
    assert_eq!(replica.writer.snapshot().digest(), before.digest());
    replica.remove([PartKey::ServerName("https/a.example".parse().unwrap())]);
}

/// What `openssl s_client` says of a handshake; None where there is no such program.
fn s_client(replica: &Replica, arguments: &[&str]) -> Option<String> {
    let to = replica.https.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &to, "-servername", "a.example"]).args(arguments);
    let output = match command.stdin(std::process::Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => {
            #[expect(clippy::print_stdout, reason = "a reader must know what was not tested")]
            {
                println!("skipped: openssl cannot be run: {error}");
            }
            return None;
        }
    };
    let (out, err) = (output.stdout, output.stderr);
    Some(String::from_utf8_lossy(&[out, err].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_library_agrees_about_versions_and_tickets() {
    let mut replica = Replica::start();
    put_name(&mut replica, "a.example", None);
    let Some(text) = s_client(&replica, &["-tls1_3", "-alpn", "h2"]) else { return };
    assert!(text.contains("TLSv1.3") && text.contains("ALPN protocol: h2"), "{text}");
    let text = s_client(&replica, &["-tls1_2"]).unwrap();
    assert!(text.contains("TLSv1.2") && text.contains("Cipher is ECDHE-ECDSA"), "{text}");
    let text = s_client(&replica, &["-tls1_1"]).unwrap();
    assert!(!text.contains("Cipher is ECDHE"), "{text}");
    let authority = Authority::new("Some authority");
    ask_under(&mut replica, "a.example", authority.asked(ClientCertificateMode::Require));
    let text = s_client(&replica, &["-tls1_2"]).unwrap();
    assert!(text.contains("Acceptable client certificate CA names"), "{text}");
    assert!(text.contains("CN = Some authority") || text.contains("CN=Some authority"), "{text}");
}
