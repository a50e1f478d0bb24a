//! What the modules share: a running product with manifests, and short ways to write them.

use std::path::Path;
use std::time::Duration;

use kubeng_harness::backend::Backend;
use kubeng_harness::client::{Answer, Client};
use kubeng_harness::process::{Kubeng, Launch};

/// Longest wait for something that takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The program under test.
pub(crate) fn launch() -> Launch {
    Launch::new(env!("CARGO_BIN_EXE_kubeng")).arg("--workers").arg("2")
}

/// Starts it on a folder of its own with these files in it.
pub(crate) async fn serve(files: &[(&str, String)]) -> (Kubeng, tempfile::TempDir) {
    serve_with(launch, files).await
}

/// Starts it as `make` says, on a folder with these files in it.
pub(crate) async fn serve_with(
    make: impl Fn() -> Launch,
    files: &[(&str, String)],
) -> (Kubeng, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        save(folder.path(), name, text);
    }
    let started = Launch::start_until_ready(|| make().manifests(folder.path()), SOON).await;
    (started.unwrap(), folder)
}

/// Saves a file as editors do: beside it, then renamed into its place.
pub(crate) fn save(folder: &Path, name: &str, text: &str) {
    let scratch = folder.join(format!(".{name}.swp"));
    std::fs::write(&scratch, text).unwrap();
    std::fs::rename(scratch, folder.join(name)).unwrap();
}

/// A Service with one EndpointSlice of these backends, which share a port.
pub(crate) fn service(name: &str, backends: &[&Backend]) -> String {
    let port = backends.first().map_or(1, |backend| backend.address.port());
    let endpoints: String = backends
        .iter()
        .map(|backend| format!("- addresses: [\"{}\"]\n", backend.address.ip()))
        .collect();
    let endpoints = if endpoints.is_empty() { " []\n".into() } else { format!("\n{endpoints}") };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ports:\n  - {{name: http, port: 80}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata:\n  name: {name}-1\n  namespace: shop\n\
         \x20 labels: {{kubernetes.io/service-name: {name}}}\n\
         addressType: IPv4\nports:\n- {{name: http, port: {port}}}\nendpoints:{endpoints}---\n"
    )
}

/// One path of an Ingress: path, type, Service.
pub(crate) type PathRule<'a> = (&'a str, &'a str, &'a str);

/// An Ingress of class `kubeng` with one host, or none if it is empty.
pub(crate) fn ingress(name: &str, host: &str, paths: &[PathRule<'_>]) -> String {
    let host = if host.is_empty() { String::new() } else { format!("host: \"{host}\"\n    ") };
    let paths: String = paths
        .iter()
        .map(|(path, kind, service)| {
            format!(
                "      - path: \"{path}\"\n        pathType: {kind}\n        backend: \
                 {{service: {{name: {service}, port: {{number: 80}}}}}}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ingressClassName: kubeng\n  rules:\n  - {host}http:\n      paths:\n{paths}---\n"
    )
}

/// A Secret with a self-signed certificate for `host`.
pub(crate) fn secret(name: &str, host: &str) -> String {
    secret_until(name, host, 2099)
}

/// The same with a certificate that ends with the beginning of `year`.
pub(crate) fn secret_until(name: &str, host: &str, year: i32) -> String {
    let mut params = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    let indented = |pem: String| pem.trim_end().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\n\
         type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n",
        indented(cert.pem()),
        indented(key.serialize_pem())
    )
}

/// Asks once over a new connection.
pub(crate) async fn get(kubeng: &Kubeng, host: &str, path: &str) -> Answer {
    Client::plain(kubeng.http).get(host, path).await.unwrap()
}

/// Asks until the answer is as it should be: changes take milliseconds, not none.
#[track_caller]
pub(crate) fn until<'a>(
    kubeng: &'a Kubeng,
    host: &'a str,
    path: &'a str,
    is_wanted: impl Fn(&Answer) -> bool + 'a,
) -> impl Future<Output = Answer> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let began = std::time::Instant::now();
        loop {
            let answer = get(kubeng, host, path).await;
            if is_wanted(&answer) {
                return answer;
            }
            assert!(
                began.elapsed() < SOON,
                "{caller}: {host}{path} still answers {} from {:?}\n{}",
                answer.status,
                answer.backend(),
                kubeng.log().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
