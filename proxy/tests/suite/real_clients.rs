//! What curl and openssl make of it, where the machine has them; and the fourth mode of slowhttptest.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes};
use kubeng_config::certificate::{ClientCertificateMode, ClientCertificates, Der, ServerName};
use kubeng_config::delta::AnyPart;
use kubeng_config::listener::{Protocol, ProxyProtocol};
use kubeng_config::part::Part;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::listening::{forward, on, put, put_backend};
use crate::support::*;

/// What a program writes, and whether it ended well; None where there is no such program.
fn run(program: &str, arguments: &[&str], input: &str) -> Option<(String, bool)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    // Whoever wants no input has closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [&output.stdout[..], &output.stderr].concat();
    Some((String::from_utf8_lossy(&text).into_owned(), output.status.success()))
}

#[track_caller]
fn check(program: &str, arguments: &[&str], input: &str, words: &[&str]) {
    let Some((text, _)) = run(program, arguments, input) else { return };
    for word in words {
        assert!(text.contains(word), "{program} {arguments:?}: no {word:?} in {text}");
    }
}

/// A Backend with 26 bytes, of which it gives any one range.
async fn serve_ranges() -> SocketAddr {
    const ALL: &str = "abcdefghijklmnopqrstuvwxyz";
    serve(|request: Request<Bytes>| {
        let asked = request.headers().get("range").and_then(|range| range.to_str().ok());
        let ends = asked.and_then(|asked| asked.strip_prefix("bytes=")?.split_once('-'));
        let ends = ends.and_then(|(a, b)| Some((a.parse().ok()?, b.parse::<usize>().ok()?)));
        let answer = Response::builder().header("accept-ranges", "bytes");
        match ends {
            Some((from, to)) => answer
                .status(206)
                .header("content-range", format!("bytes {from}-{to}/26"))
                .body(Full::from(&ALL[from..=to])),
            None => answer.body(Full::from(ALL)),
        }
        .unwrap()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_ranges_and_is_told_to_go_on() {
    let mut replica = Replica::start();
    replica.serve(&[serve_ranges().await]);
    let url = format!("http://{}/file", replica.http);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let common = ["-sS", "-m", "20", "-i", version];
        let all = [&common[..], &["-r", "2-5", &url]].concat();
        check("curl", &all, "", &[" 206", "ange: bytes 2-5/26", "\r\n\r\ncdef"]);
        let all = [&common[..], &["-I", &url]].concat();
        check("curl", &all, "", &[" 200", "anges: bytes"]);
    }
    let upload = ["-sS", "-m", "20", "-v", "-T", "-", "-H", "Expect: 100-continue", &url];
    check("curl", &upload, "some text", &["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_the_proxy_protocol_where_it_must() {
    let mut replica = Replica::start();
    let mut listener = on(3, Protocol::Http);
    listener.proxy_protocol = Some(ProxyProtocol { from: vec!["127.0.0.0/8".parse().unwrap()] });
    let to_there = put(&mut replica, "heard", &listener);
    put_backend(&mut replica, "echo", &[serve_echo().await], None);
    replica.change([forward("echo", "heard", "*", vec![to("echo")])]);
    let url = format!("http://{to_there}/");
    let arguments = ["-sS", "-m", "20", "-i", "--haproxy-protocol", &url];
    check("curl", &arguments, "", &["HTTP/1.1 200 OK", "x-forwarded-for: 127.0.0."]);
    if let Some((text, is_well)) = run("curl", &["-sS", "-m", "20", "-i", &url], "") {
        assert!(!is_well && !text.contains("HTTP/1.1"), "without it nothing is answered: {text}");
    }
}

/// A certificate for `a.example` with a staple, under which clients are asked for theirs.
fn put_name(replica: &mut Replica, asked: Option<ClientCertificates>) {
    let (mut parts, key) = certificate("a.example");
    let Some(AnyPart::ServerName(id, named)) = parts.pop() else { unreachable!() };
    let Some(AnyPart::Certificate(of, part)) = parts.pop() else { unreachable!() };
    let mut value = (**part.value()).clone();
    // "tryLater" (RFC 6960 section 4.2.1): the shortest answer that is one.
    value.ocsp = Some(Der((*b"\x30\x03\x0a\x01\x03").into()));
    let certificate = named.value().certificate.clone();
    let named = ServerName { certificate, client_certificates: asked };
    let parts =
        [AnyPart::Certificate(of, Part::new(value)), AnyPart::ServerName(id, Part::new(named))];
    replica.change_with(parts, [], [], [key]);
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_sees_the_staple_and_takes_its_sessions_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let session = path(folder.path(), "session.pem");
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    put_name(&mut replica, None);
    let to = replica.https.to_string();
    let common = ["s_client", "-connect", &to, "-servername", "a.example"];
    let with = |more: &[&'static str]| [&common[..], more].concat();
    let staple = ["OCSP Response Status: trylater"];
    check("openssl", &with(&["-tls1_2", "-status"]), "", &staple);
    check("openssl", &with(&["-tls1_3", "-status"]), "", &staple);
    check("openssl", &with(&["-tls1_2", "-reconnect"]), "", &["Reused, TLSv1.2"]);
    // Tickets of TLS 1.3 come behind the handshake, so something has to be read.
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let out = [&common[..], &["-tls1_3", "-ign_eof", "-sess_out", &session]].concat();
    check("openssl", &out, request, &["New, TLSv1.3", "HTTP/1.1 200 OK"]);
    let again = [&common[..], &["-tls1_3", "-ign_eof", "-sess_in", &session]].concat();
    check("openssl", &again, request, &["Reused, TLSv1.3", "HTTP/1.1 200 OK"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_brings_a_client_certificate_and_is_refused_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = Der(params.self_signed(&authority).unwrap().der().to_vec().into());
    let issuer = Issuer::new(params, authority);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bob");
    let client = params.signed_by(&key, &issuer).unwrap();
    let (chain, own) = (path(folder.path(), "chain.pem"), path(folder.path(), "key.pem"));
    std::fs::write(&chain, client.pem()).unwrap();
    std::fs::write(&own, key.serialize_pem()).unwrap();

    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let mode = ClientCertificateMode::Require;
    put_name(&mut replica, Some(ClientCertificates { mode, roots: vec![root] }));
    let to = replica.https.to_string();
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Client-Cert-Subject: CN=root\r\n\
                   Connection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let common = ["s_client", "-connect", &to, "-servername", "a.example", version, "-ign_eof"];
        let with = [&common[..], &["-cert", &chain, "-key", &own]].concat();
        let words = ["HTTP/1.1 200 OK", "x-client-cert-subject: CN=bob"];
        check("openssl", &with, request, &words);
        if let Some((text, _)) = run("openssl", &common, request) {
            assert!(!text.contains("HTTP/1.1"), "{version}: {text}");
            assert!(text.contains("alert"), "{version}: {text}");
        }
    }
}

/// As `slowhttptest -R`: thousands of ranges that overlap, which some servers put together in memory.
#[tokio::test]
async fn a_request_for_thousands_of_ranges_is_a_field_like_any_other() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let ranges: Vec<String> = (0..1_300).map(|end| format!("5-{end}")).collect();
    let field = format!("bytes=0-,{}", ranges.join(","));
    let request = |field: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nRange: {field}\r\nConnection: close\r\n\r\n")
    };
    let answer = Answer::read(&talk(replica.http, request(&field).as_bytes()).await);
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains(&format!("range: {field}\n")), "it passes as it came");
    let more = [field.as_str(); 6].join(",");
    let answer = Answer::read(&talk(replica.http, request(&more).as_bytes()).await);
    assert_eq!(answer.status, 431, "longer than a field may be: {} bytes", more.len());
}
