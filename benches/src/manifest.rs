//! Manifests as text, and the saving of them as an editor does it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A folder of manifests that the program watches.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Saves `name`: written beside it and then renamed, so that nobody reads half of it.
    ///
    /// Returns when it was in place.
    pub(crate) fn save(&self, name: &str, text: &str) -> io::Result<Instant> {
        let path = self.0.join(name);
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = folder.join(format!(".{file}.tmp"));
        match fs::write(&beside, text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                fs::write(&beside, text)?;
            }
            other => other?,
        }
        fs::rename(&beside, &path)?;
        Ok(Instant::now())
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

/// A Service with the port 80, called `http`.
pub(crate) fn service(namespace: &str, name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec:\n  ports: [{{ name: http, port: 80, targetPort: 8080 }}]\n"
    )
}

/// An EndpointSlice of `service` with these endpoints, each ready or not.
///
/// All have the port of the first, as a slice has it.
pub(crate) fn slice(
    namespace: &str,
    name: &str,
    service: &str,
    endpoints: &[(SocketAddr, bool)],
) -> String {
    let port = endpoints.first().map_or(0, |(address, _)| address.port());
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata:\n  name: {name}\n  namespace: {namespace}\n  \
         labels: {{ kubernetes.io/service-name: {service} }}\n\
         addressType: IPv4\nports: [{{ name: http, port: {port}, protocol: TCP }}]\nendpoints:\n"
    );
    for (address, is_ready) in endpoints {
        let ip = address.ip();
        text += &format!("  - {{ addresses: [\"{ip}\"], conditions: {{ ready: {is_ready} }} }}\n");
    }
    text
}

/// An Ingress of one host: paths by prefix, and the Service of each.
pub(crate) fn ingress(
    namespace: &str,
    name: &str,
    host: &str,
    paths: &[(String, &str)],
    secret: Option<&str>,
) -> String {
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec:\n  ingressClassName: kubeng\n"
    );
    if let Some(secret) = secret {
        text += &format!("  tls: [{{ hosts: [\"{host}\"], secretName: {secret} }}]\n");
    }
    text += &format!("  rules:\n    - host: \"{host}\"\n      http:\n        paths:\n");
    for (path, service) in paths {
        text += &format!(
            "          - path: {path}\n            pathType: Prefix\n            \
             backend: {{ service: {{ name: {service}, port: {{ name: http }} }} }}\n"
        );
    }
    text
}

/// A TLS Secret.
pub(crate) fn secret(namespace: &str, name: &str, pair: &CertificatePair) -> String {
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
         type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indented(&pair.chain),
        indented(&pair.key)
    )
}

/// A certificate and its key as PEM.
#[derive(Debug)]
pub(crate) struct CertificatePair {
    chain: String,
    key: String,
    /// The certificate as a handshake shows it.
    pub(crate) der: Vec<u8>,
}

impl CertificatePair {
    /// Makes one that signs itself.
    pub(crate) fn make(host: &str) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([host.to_owned()])?;
        let der = made.cert.der().to_vec();
        Ok(Self { chain: made.cert.pem(), key: made.signing_key.serialize_pem(), der })
    }
}
