//! Client certificates and OCSP responses, as curl and openssl see them.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use kubeng_harness::backend::{Backend, Reply};
use kubeng_harness::fleet::FleetRig;
use kubeng_harness::process::Kubeng;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::{SOON, get, ingress, launch, save, secret, serve, serve_with, service};

/// What a program writes, and whether it ended well; None where there is no such program.
fn run(program: &str, arguments: &[&str]) -> Option<(String, bool)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let Ok(output) = command.output() else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    let text = [&output.stdout[..], &output.stderr].concat();
    Some((String::from_utf8_lossy(&text).into_owned(), output.status.success()))
}

/// An authority with its files, and clients that it vouches for.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        std::fs::write(folder.path().join("ca.key"), key.serialize_pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key), pem }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Chain and key in PEM, for a server or a client.
    fn vouch(&self, host: &str, name: &str, serial: u8) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Fin");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(vec![0x0a, serial].into());
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// The file with the certificate and key of a client.
    fn client(&self, name: &str) -> PathBuf {
        let (chain, key) = self.vouch("client.example", name, 1);
        let path = self.folder.path().join(format!("{name}.pem"));
        std::fs::write(&path, chain + &key).unwrap();
        path
    }

    /// A ConfigMap that holds it.
    fn config_map(&self, name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\n\
             data:\n  ca.crt: |\n    {}\n---\n",
            indented(&self.pem)
        )
    }
}

fn indented(pem: &str) -> String {
    pem.trim_end().replace('\n', "\n    ")
}

/// An Ingress for all paths of `host` with its certificate, and annotations if it asks for anything.
fn tls_ingress(host: &str, asks: Option<(&str, &str)>) -> String {
    let name = host.split('.').next().unwrap();
    let text = ingress(name, host, &[("/", "Prefix", "web")]);
    let text = text.trim_end_matches("---\n");
    let text = format!("{text}  tls: [{{hosts: [{host}], secretName: {name}}}]\n---\n");
    let Some((mode, authorities)) = asks else { return text };
    let annotations = format!(
        "namespace: shop, annotations: {{kubeng.io/client-certificates: {mode}, \
         kubeng.io/client-authorities: {authorities}}}}}\n"
    );
    text.replacen("namespace: shop}\n", &annotations, 1)
}

/// Answers with the headers that it got.
async fn echo() -> Backend {
    let answer = |request: http::Request<Bytes>| {
        let lines = request.headers().iter().map(|(name, value)| {
            format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
        });
        Reply::now(Response::new(lines.collect::<String>().into()))
    };
    Backend::start_with("echo", ([127, 0, 0, 1], 0).into(), answer).await.unwrap()
}

/// What curl makes of a request for `host` over TLS; None where there is no curl.
fn curl(https: SocketAddr, name: &str, more: &[&str]) -> Option<(String, bool)> {
    let port = https.port();
    let connect = format!("{name}:{port}:127.0.0.1");
    let url = format!("https://{name}:{port}/");
    let common = ["-sS", "-k", "-i", "-m", "20", "--resolve", &connect];
    run("curl", &[&common, more, &[&url]].concat())
}

/// The status of curl's answer; 0 when there was none.
fn status(answer: &str) -> u16 {
    let line = answer.lines().rfind(|line| line.starts_with("HTTP/")).unwrap_or_default();
    line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Asks until curl gets `wanted`; whatever comes before must be among `before`.
#[track_caller]
fn until(https: SocketAddr, name: &str, more: &[&str], wanted: u16, before: &[u16]) -> String {
    let began = Instant::now();
    loop {
        let (answer, _) = curl(https, name, more).unwrap();
        let status = status(&answer);
        if status == wanted {
            return answer;
        }
        assert!(before.contains(&status), "{status} on the way to {wanted}: {answer}");
        assert!(began.elapsed() < SOON, "{answer}");
    }
}

async fn problems(kubeng: &Kubeng) -> String {
    String::from_utf8(kubeng.admin("/api/v1/problems").await.unwrap().body.to_vec()).unwrap()
}

/// Waits until the Problems say it, or say it no more.
async fn until_problems(kubeng: &Kubeng, word: &str, is_told: bool) {
    let began = Instant::now();
    loop {
        let text = problems(kubeng).await;
        if text.contains(word) == is_told {
            return;
        }
        assert!(began.elapsed() < SOON, "{word} {is_told}: {text}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

const FORGED: [&str; 4] =
    ["-H", "X-Client-Cert-Subject: CN=root", "-H", "x_client_cert_issuer: CN=root"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_requires_certificates_and_its_neighbour_does_not() {
    let echo = echo().await;
    let (authority, stranger) = (Authority::new("Clients"), Authority::new("Clients"));
    let asks = Some(("require", "ConfigMap/clients"));
    let files = [
        ("web.yaml", service("web", &[&echo]) + &secret("a", "a.example")),
        ("b.yaml", secret("b", "b.example") + &tls_ingress("b.example", None)),
        ("a.yaml", tls_ingress("a.example", asks)),
        ("ca.yaml", authority.config_map("clients")),
    ];
    let (kubeng, _folder) = serve(&files).await;
    let [good, bad] = [authority.client("bob"), stranger.client("eve")];
    let [good, bad] = [good, bad].map(|path| path.display().to_string());
    let Some((refused, is_well)) = curl(kubeng.https, "a.example", &[]) else { return };
    assert!(!is_well && status(&refused) == 0, "{refused}");
    let (refused, is_well) = curl(kubeng.https, "a.example", &["--cert", &bad]).unwrap();
    assert!(!is_well && status(&refused) == 0, "{refused}");

    for version in ["--http1.1", "--http2"] {
        let with = ["--cert", &good, version];
        let (told, _) = curl(kubeng.https, "a.example", &[&with[..], &FORGED].concat()).unwrap();
        assert_eq!(status(&told), 200, "{told}");
        for line in [
            "x-client-cert-subject: CN=bob,O=Fin\n",
            "x-client-cert-issuer: CN=Clients\n",
            "x-client-cert-serial: 0a01\n",
            "x-client-cert-fingerprint: ",
        ] {
            assert!(told.contains(line), "{line} in {told}");
        }
        assert!(!told.contains("root"), "{told}");
    }
    let (neighbour, _) = curl(kubeng.https, "b.example", &FORGED).unwrap();
    assert_eq!(status(&neighbour), 200, "{neighbour}");
    assert!(!neighbour.contains("client-cert") && !neighbour.contains("root"), "{neighbour}");

    // Nobody reaches it by a handshake for another name, nor without one.
    for more in [&["-H", "Host: a.example"][..], &["-H", "Host: a.example", "--cert", &good]] {
        let (misdirected, _) = curl(kubeng.https, "b.example", more).unwrap();
        assert_eq!(status(&misdirected), 421, "{misdirected}");
    }
    assert_eq!(get(&kubeng, "a.example", "/").await.status, 403);
    assert_eq!(get(&kubeng, "b.example", "/").await.status, 200);

    let explained = kubeng.admin("/api/v1/explain?request=GET+https://a.example/").await.unwrap();
    let explained = String::from_utf8(explained.body.to_vec()).unwrap();
    assert!(explained.contains("\"clientCertificates\":\"require\""), "{explained}");
    let exported = kubeng.admin("/api/v1/snapshot?format=nginx").await.unwrap();
    let exported = String::from_utf8(exported.body.to_vec()).unwrap();
    assert!(exported.contains("ssl_verify_client on; # of 1 authorities"), "{exported}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_counts_at_once_and_a_broken_one_never_opens() {
    let echo = echo().await;
    let authority = Authority::new("Clients");
    let asks = |mode| Some((mode, "ConfigMap/clients"));
    let files = [
        ("web.yaml", service("web", &[&echo]) + &secret("a", "a.example")),
        ("a.yaml", tls_ingress("a.example", None)),
        ("ca.yaml", authority.config_map("clients")),
    ];
    let (kubeng, folder) = serve(&files).await;
    if curl(kubeng.https, "a.example", &[]).is_none() {
        return;
    }
    let put = |text: &str| save(folder.path(), "a.yaml", text);
    let good = authority.client("bob").display().to_string();
    let with = ["--cert", &good[..]];
    until(kubeng.https, "a.example", &[], 200, &[]);
    put(&tls_ingress("a.example", asks("require")));
    until(kubeng.https, "a.example", &[], 0, &[200]);
    until(kubeng.https, "a.example", &with, 200, &[]);

    // Without its authorities it answers nobody, and it heals by itself.
    save(folder.path(), "ca.yaml", "# empty\n");
    until_problems(&kubeng, "KNG-1120", true).await;
    until(kubeng.https, "a.example", &[], 503, &[0]);
    until(kubeng.https, "a.example", &with, 503, &[]);
    assert_eq!(get(&kubeng, "a.example", "/").await.status, 503);
    save(folder.path(), "ca.yaml", &authority.config_map("clients"));
    until(kubeng.https, "a.example", &with, 200, &[503]);
    until(kubeng.https, "a.example", &[], 0, &[503]);
    until_problems(&kubeng, "KNG-1120", false).await;

    put(&tls_ingress("a.example", asks("requires")));
    until(kubeng.https, "a.example", &[], 503, &[0]);
    assert!(problems(&kubeng).await.contains("write require or request"));
    put(&tls_ingress("a.example", asks("request")));
    until(kubeng.https, "a.example", &[], 200, &[503, 0]);
    let told = until(kubeng.https, "a.example", &with, 200, &[]);
    assert!(told.contains("x-client-cert-subject: CN=bob,O=Fin"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_ask_for_certificates_under_every_host() {
    let echo = echo().await;
    let authority = Authority::new("Clients");
    let files = [
        ("web.yaml", service("web", &[&echo]) + &secret("a", "a.example")),
        ("a.yaml", tls_ingress("a.example", None)),
        ("ca.yaml", authority.config_map("clients")),
    ];
    let make = || launch().arg("--client-certificates=require=ConfigMap/shop/clients");
    let (kubeng, folder) = serve_with(make, &files).await;
    if curl(kubeng.https, "a.example", &[]).is_none() {
        return;
    }
    let good = authority.client("bob").display().to_string();
    until(kubeng.https, "a.example", &[], 0, &[]);
    until(kubeng.https, "a.example", &["--cert", &good], 200, &[]);
    assert_eq!(
        get(&kubeng, "a.example", "/").await.status,
        200,
        "a Listener asks for itself alone"
    );
    // It serves nobody while it does not know whom.
    save(folder.path(), "ca.yaml", "# empty\n");
    until(kubeng.https, "a.example", &[], 503, &[0]);
    until_problems(&kubeng, "named by the settings", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_of_a_fleet_asks_and_speaks_as_it_says() {
    let echo = echo().await;
    let authority = Authority::new("Clients");
    let rig = FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap();
    let listener = "  - {name: https, port: 443, protocol: HTTPS, tls: {minVersion: \"1.3\"}, \
                    clientCertificates: {mode: require, authoritiesFrom: \
                    {namespace: shop, name: clients}}}\n";
    rig.write_fleet("prod", listener).unwrap();
    let put = |name: &str, text: &str| save(&rig.manifests(), name, text);
    put("web.yaml", &(service("web", &[&echo]) + &secret("a", "a.example")));
    put("a.yaml", &tls_ingress("a.example", None));
    put("ca.yaml", &authority.config_map("clients"));
    let mut controller = rig.controller("c1", &[]).unwrap();
    controller.until_ready(SOON).await.unwrap();
    let https = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = format!("https={https}");
    let mut replica = rig.replica("r1", "prod", &[&controller], &["--listen", &at]).await.unwrap();
    replica.until_ready(SOON).await.unwrap();
    if curl(https, "a.example", &[]).is_none() {
        return;
    }
    let good = authority.client("bob").display().to_string();
    let with = ["--cert", &good[..]];
    let told = until(https, "a.example", &with, 200, &[0]);
    assert!(told.contains("x-client-cert-subject: CN=bob,O=Fin"), "{told}");
    until(https, "a.example", &[], 0, &[]);
    until(https, "a.example", &["--cert", &good, "--tls-max", "1.2"], 0, &[]);
    put("ca.yaml", "# empty\n");
    until(https, "a.example", &[], 503, &[0]);
    put("ca.yaml", &authority.config_map("clients"));
    until(https, "a.example", &with, 200, &[503]);
    until(https, "a.example", &[], 0, &[503]);
}

/// A Secret whose certificate has this serial number, with a response if there is one.
fn stapled(authority: &Authority, serial: u8, response: Option<&[u8]>) -> String {
    let (chain, key) = authority.vouch("a.example", "a.example", serial);
    let response = response.map(|bytes| {
        let base64 = serde_json::to_string(&k8s_openapi::ByteString(bytes.to_vec())).unwrap();
        format!("data:\n  tls.ocsp-staple: {base64}\n")
    });
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: a, namespace: shop}}\n\
         type: kubernetes.io/tls\n{}stringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n",
        response.unwrap_or_default(),
        indented(&chain),
        indented(&key)
    )
}

/// What a responder says of certificate 0x0a02: that it is good for a day.
fn response(authority: &Authority) -> Option<Vec<u8>> {
    let [index, ca, key, out] =
        ["index", "ca.pem", "ca.key", "out"].map(|name| authority.path(name));
    std::fs::write(&index, "V\t400101000000Z\t\t0A02\tunknown\t/CN=a.example\n").unwrap();
    let signer = ["-CA", &ca, "-rsigner", &ca, "-rkey", &key, "-issuer", &ca];
    let asked = ["-serial", "0x0a02", "-ndays", "1", "-respout", &out];
    let (text, _) = run("openssl", &[&["ocsp", "-index", &index], &signer[..], &asked].concat())?;
    Some(std::fs::read(&out).unwrap_or_else(|_| panic!("no response: {text}")))
}

/// The same with another nextUpdate, which the signature does not cover any more.
fn ending(response: &[u8], at: k8s_openapi::jiff::Timestamp) -> Vec<u8> {
    const MARK: &[u8] = b"\xa0\x11\x18\x0f";
    let mut response = response.to_vec();
    let place = response.windows(MARK.len()).position(|window| window == MARK).unwrap();
    let text = at.strftime("%Y%m%d%H%M%SZ").to_string();
    response[place + MARK.len()..][..text.len()].copy_from_slice(text.as_bytes());
    response
}

/// Waits until `openssl s_client -status` says it.
#[track_caller]
fn until_status(kubeng: &Kubeng, word: &str) {
    let began = Instant::now();
    let to = kubeng.https.to_string();
    let ask = ["s_client", "-connect", &to, "-servername", "a.example", "-status"];
    loop {
        let (text, _) = run("openssl", &ask).unwrap();
        if text.contains(word) {
            return;
        }
        assert!(began.elapsed() < SOON, "no {word:?} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_is_stapled_for_as_long_as_it_holds() {
    let echo = echo().await;
    let authority = Authority::new("Servers");
    let Some(response) = response(&authority) else { return };
    let files = [
        ("web.yaml", service("web", &[&echo]) + &tls_ingress("a.example", None)),
        ("a.yaml", stapled(&authority, 2, Some(&response))),
    ];
    let (kubeng, folder) = serve(&files).await;
    until_status(&kubeng, "OCSP Response Status: successful");
    let put = |text: &str| save(folder.path(), "a.yaml", text);

    // At its end it is left out, and the certificate goes on.
    let soon = k8s_openapi::jiff::Timestamp::now() + std::time::Duration::from_secs(2);
    put(&stapled(&authority, 2, Some(&ending(&response, soon))));
    until_problems(&kubeng, "KNG-1307", true).await;
    until_status(&kubeng, "OCSP response: no response sent");
    put(&stapled(&authority, 2, Some(&response)));
    until_problems(&kubeng, "KNG-1307", false).await;
    until_status(&kubeng, "OCSP Response Status: successful");

    for (text, why) in [
        (stapled(&authority, 3, Some(&response)), "another certificate"),
        (stapled(&authority, 2, Some(b"junk")), "no OCSP response in DER"),
        // As `tryLater` is written.
        (stapled(&authority, 2, Some(b"\x30\x03\x0a\x01\x03")), "the error 3"),
    ] {
        put(&text);
        until_problems(&kubeng, why, true).await;
        until_status(&kubeng, "OCSP response: no response sent");
        assert!(problems(&kubeng).await.contains("KNG-1306"));
    }
    put(&stapled(&authority, 2, None));
    until_problems(&kubeng, "KNG-1306", false).await;
    if let Some((served, _)) = curl(kubeng.https, "a.example", &[]) {
        assert_eq!(status(&served), 200, "{served}");
    }
}
