//! What certificates say about whom they are for.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kubeng_config::label;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::distribution::line::Identified;

/// Why somebody cannot be named in a certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{what} is named {name:?}: a name in a certificate has 1 to 253 of the characters a-z, A-Z, \
     0-9, '.', '-' and '_'"
)]
pub struct NameFault {
    what: &'static str,
    name: String,
}

/// Checks that a name can stand in a certificate, and in the name of a file.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), NameFault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=253).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(NameFault { what, name: name.chars().take(300).collect() })
    }
}

/// How a replica is named in its certificate: a URI as subject alternative name.
pub(crate) fn identity_uri(of: &Identified) -> Result<String, NameFault> {
    let (fleet, replica) = (of.fleet.as_str(), of.replica.as_str());
    check_name("the fleet", fleet)?;
    check_name("the replica", replica)?;
    Ok(format!("kubeng://fleet/{fleet}/replica/{replica}"))
}

fn read_identity_uri(uri: &str) -> Option<Identified> {
    let (fleet, replica) = uri.strip_prefix("kubeng://fleet/")?.split_once("/replica/")?;
    let identified = Identified { fleet: fleet.parse().ok()?, replica: replica.parse().ok()? };
    // It must be exactly what would be written.
    (identity_uri(&identified).ok()? == uri).then_some(identified)
}

/// How a label of a replica stands in its certificate: a URI as subject alternative name.
pub(crate) fn label_uri(name: &str, value: &str) -> String {
    format!("{LABEL}{name}={value}")
}

/// The labels that are among the URIs of a certificate.
fn read_labels<'a>(
    uris: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for written in uris.filter_map(|uri| uri.strip_prefix(LABEL)) {
        let label = written.split_once('=');
        let (name, value) = label
            .filter(|(name, value)| label::is_name(name) && label::is_value(value))
            .ok_or_else(|| format!("{written:.200?} is no label NAME=VALUE"))?;
        // Of two values nobody could say which one is meant.
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("it has the label {name} for the second time"));
        }
        if labels.len() > label::LABELS_MAX {
            return Err(format!("it has more than {} labels", label::LABELS_MAX));
        }
    }
    Ok(labels)
}

/// In front of a label.
const LABEL: &str = "kubeng://label/";

/// What a certificate says.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The replica that it is for; none for other certificates.
    pub(crate) replica: Option<Identified>,
    /// Its labels, which it cannot choose.
    pub(crate) labels: BTreeMap<String, String>,
    /// When it begins.
    pub(crate) begins: SystemTime,
    /// When it ends.
    pub(crate) ends: SystemTime,
}

impl Facts {
    /// Reads a certificate, which may be anything.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| format!("not a certificate: {error}"))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("its names cannot be read: {error}"))?;
        let uri_of = |name| if let &GeneralName::URI(uri) = name { Some(uri) } else { None };
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let uris: Vec<&str> = names.filter_map(uri_of).collect();
        let labels = read_labels(uris.iter().copied())?;
        let mut replicas = uris.into_iter().filter_map(read_identity_uri);
        // Of two names nobody could say which one is meant.
        let replica = replicas.next().filter(|_| replicas.next().is_none());
        let validity = parsed.validity();
        let moment = |seconds: i64| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let begins = moment(validity.not_before.timestamp());
        let ends = moment(validity.not_after.timestamp());
        Ok(Self { replica, labels, begins, ends })
    }

    /// When it is to be renewed: after two thirds of its life.
    pub(crate) fn renew_at(&self) -> SystemTime {
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        self.begins + life * 2 / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_written_and_nothing_else_is_taken_for_one() {
        let read = |uris: &[String]| read_labels(uris.iter().map(String::as_str));
        let zone = label_uri("topology.kubernetes.io/zone", "bj-1");
        let uris = [zone.clone(), label_uri("canary", ""), "kubeng://fleet/a/replica/b".into()];
        let labels = read(&uris).unwrap();
        assert_eq!(labels.len(), 2);
        assert_eq!(labels["topology.kubernetes.io/zone"], "bj-1");
        assert_eq!(labels["canary"], "");
        for wrong in
            ["kubeng://label/", "kubeng://label/a", "kubeng://label/a b=c", "kubeng://label/a=b=c"]
        {
            assert!(read(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(read(&[zone.clone(), zone]).is_err(), "twice");
        let many: Vec<String> =
            (0..=label::LABELS_MAX).map(|nth| label_uri(&format!("l{nth}"), "x")).collect();
        assert!(read(&many).is_err());
        assert_eq!(read(&many[1..]).unwrap().len(), label::LABELS_MAX);
    }
}
