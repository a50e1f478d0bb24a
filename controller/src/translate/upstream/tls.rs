//! How an Upstream is reached over TLS. What cannot be honoured refuses it: nothing is sent unverified.

use std::sync::Arc;

use kubeng_config::backend::tls::{AUTHORITIES_MAX, BackendTls, Roots, Subject};
use kubeng_config::backend::{HostOrIp, WrittenEndpoint};
use kubeng_config::bounded::{AtMost, TextAtMost};
use kubeng_config::certificate::Der;
use kubeng_config::listener::TlsVersion;
use kubeng_config::name::{CertificateId, Hostname, ObjectKey, ObjectKind};
use kubeng_config::problem::{Problem, TLS_NAME_MISSING};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{bad, roots};
use crate::kind::upstream::UpstreamTls;
use crate::object::Object;
use crate::translate::refusal::Refused;
use crate::world::view::View;

/// The name that the certificate must cover, which is the one that is written, else the one DNS name
/// that all endpoints have; whom it must come from; and what is presented.
pub(super) fn of(
    view: &mut View<'_>,
    object: &Object,
    written: &UpstreamTls,
    endpoints: &[WrittenEndpoint],
    problems: &mut Vec<Problem>,
) -> Option<BackendTls> {
    let UpstreamTls {
        server_name,
        ca_bundle: _,
        roots: _,
        subject_alt_names,
        client_certificate,
        min_version,
    } = written;
    let roots = roots::of(view, object, written, problems)?;
    let mut refuse = |field: &str, message: String, remedy: &str| {
        bad(object, field, message, remedy, problems);
    };
    let server_name = match server_name {
        Some(written) => match Hostname::parse(written) {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("serverName cannot be used: {error}");
                refuse(SERVER_NAME, message, "write a DNS name");
                return None;
            }
        },
        None => single_name(endpoints),
    };
    let subjects = match subjects(subject_alt_names) {
        Ok(subjects) => subjects,
        Err(why) => {
            let remedy = "write at most 16 DNS names or URIs";
            refuse("/spec/tls/subjectAltNames", why, remedy);
            return None;
        }
    };
    let version_min = match min_version.as_deref() {
        None | Some("1.2") => TlsVersion::V1_2,
        Some("1.3") => TlsVersion::V1_3,
        Some(other) => {
            let message = format!("minVersion {other:?} is unknown");
            refuse("/spec/tls/minVersion", message, "write 1.2 or 1.3");
            return None;
        }
    };
    let client_certificate = match client_certificate {
        None => None,
        Some(named) => Some(presented(view, object, &named.name, problems)?),
    };
    let Some(server_name) = server_name else {
        if !endpoints.is_empty() {
            let message = "TLS is wanted, but no name is known that the certificate must cover";
            let refused = Refused::new(TLS_NAME_MISSING, message.to_owned(), "set tls.serverName");
            problems.push(refused.problem(object, SERVER_NAME.to_owned()));
        }
        return None;
    };
    Some(BackendTls { server_name, roots, subjects, client_certificate, version_min })
}

/// The certificate of a Secret, which the endpoints are shown.
fn presented(
    view: &mut View<'_>,
    object: &Object,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<CertificateId> {
    let key = ObjectKey::new(ObjectKind::Secret, &object.key.namespace, name);
    match view.certificate(&key).certificate() {
        Ok((id, _)) => Some(id.clone()),
        Err(refused) => {
            problems.push(refused.problem(object, "/spec/tls/clientCertificate".to_owned()));
            None
        }
    }
}

/// Those that are written: a URI has a scheme, a DNS name has no colon.
fn subjects(written: &[String]) -> Result<AtMost<Subject, 16>, String> {
    let read = |text: &String| {
        if text.contains(':') {
            let uri = TextAtMost::new(text.clone());
            return uri.map(Subject::Uri).map_err(|error| format!("a URI is too long: {error}"));
        }
        let name = Hostname::parse(text);
        name.map(Subject::Hostname).map_err(|error| format!("a name cannot be used: {error}"))
    };
    let subjects = written.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    AtMost::new(subjects).map_err(|error| error.to_string())
}

fn single_name(endpoints: &[WrittenEndpoint]) -> Option<Hostname> {
    let (first, rest) = endpoints.split_first()?;
    match &first.address {
        HostOrIp::Name(name) if rest.iter().all(|other| other.address == first.address) => {
            Some(name.clone())
        }
        HostOrIp::Name(_) | HostOrIp::Ip(_) => None,
    }
}

/// All of a bundle or nothing: with what is left of it nobody knows what would be verified.
pub(crate) fn bundle(pem: &str) -> Result<Roots, String> {
    let mut ders = Vec::new();
    let mut store = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|error| format!("it is no PEM: {error}"))?;
        let number = ders.len() + 1;
        let is_whole = X509Certificate::from_der(&der).is_ok_and(|(rest, _)| rest.is_empty());
        if !is_whole || store.add(der.clone()).is_err() {
            return Err(format!("certificate {number} cannot be read"));
        }
        ders.push(Der(Arc::from(der.as_ref())));
    }
    match ders.len() {
        0 => Err("it holds no certificate".to_owned()),
        count if count > AUTHORITIES_MAX => {
            Err(format!("it holds {count} certificates, more than {AUTHORITIES_MAX}"))
        }
        _ => Ok(Roots::Bundle(ders)),
    }
}

const SERVER_NAME: &str = "/spec/tls/serverName";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_taken_as_a_whole_or_not_at_all() {
        let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        let pem = made.cert.pem();
        assert!(matches!(bundle(&pem.repeat(2)), Ok(Roots::Bundle(ders)) if ders.len() == 2));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bad in [String::new(), "junk".to_owned(), format!("{pem}{broken}"), pem.repeat(65)] {
            assert!(bundle(&bad).is_err(), "{bad:.40}");
        }
    }
}
