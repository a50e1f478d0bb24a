//! How an Upstream is reached over TLS. What cannot be honoured refuses it: nothing is sent unverified.

use std::sync::Arc;

use kubeng_config::backend::tls::{AUTHORITIES_MAX, BackendTls, Roots};
use kubeng_config::backend::{HostOrIp, WrittenEndpoint};
use kubeng_config::certificate::Der;
use kubeng_config::name::Hostname;
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
/// that all endpoints have; and whom it must come from.
pub(super) fn of(
    view: &mut View<'_>,
    object: &Object,
    written: &UpstreamTls,
    endpoints: &[WrittenEndpoint],
    problems: &mut Vec<Problem>,
) -> Option<BackendTls> {
    let UpstreamTls { server_name, ca_bundle: _, roots: _ } = written;
    let field = "/spec/tls/serverName";
    let server_name = match server_name {
        Some(written) => match Hostname::parse(written) {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("serverName cannot be used: {error}");
                bad(object, field, message, "write a DNS name", problems);
                return None;
            }
        },
        None => single_name(endpoints),
    };
    let roots = roots::of(view, object, written, problems)?;
    if let Some(server_name) = server_name {
        return Some(BackendTls { server_name, roots });
    }
    if !endpoints.is_empty() {
        let message = "TLS is wanted, but no name is known that the certificate must cover";
        let refused = Refused::new(TLS_NAME_MISSING, message.to_owned(), "set tls.serverName");
        problems.push(refused.problem(object, field.to_owned()));
    }
    None
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
