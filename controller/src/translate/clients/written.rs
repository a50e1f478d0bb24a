//! What the annotations of an Ingress ask of the clients of its hosts.

use kubeng_config::certificate::ClientCertificateMode;
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{BAD_VALUE, Problem, UNKNOWN_FIELD};

use crate::decode::suggest::nearest;
use crate::kind::ingress::Ingress;
use crate::object::Object;
use crate::translate::nginx;
use crate::translate::refusal::Refused;

/// What is asked, and where the authorities stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Written {
    pub(super) mode: ClientCertificateMode,
    /// A ConfigMap or Secret of the namespace of the Ingress.
    pub(super) authorities: ObjectKey,
}

/// What cannot be understood, and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    annotation: String,
    pub(super) refused: Refused,
}

impl Fault {
    pub(super) fn problem(&self, object: &Object) -> Problem {
        self.refused.problem(object, field(&self.annotation))
    }
}

/// Where an annotation stands (RFC 6901).
pub(crate) fn field(annotation: &str) -> String {
    format!("/metadata/annotations/{}", annotation.replace('~', "~0").replace('/', "~1"))
}

/// Whether it asks for anything, also for what cannot be understood.
pub(crate) fn asks(ingress: &Ingress) -> bool {
    ours(ingress).next().is_some() || nginx::asks_clients(ingress)
}

/// What it asks; None where it asks for nothing.
///
/// # Errors
/// With the first thing that cannot be understood. It may have been meant to protect, so all of it
/// is refused.
pub(super) fn of(key: &ObjectKey, ingress: &Ingress) -> Option<Result<Written, Fault>> {
    asks(ingress).then(|| read(key, ingress))
}

fn ours(ingress: &Ingress) -> impl Iterator<Item = &str> {
    ingress.annotations.keys().map(String::as_str).filter(|name| name.starts_with(FAMILY))
}

fn read(key: &ObjectKey, ingress: &Ingress) -> Result<Written, Fault> {
    if nginx::asks_clients(ingress)
        && let Some((name, refused)) = nginx::of_clients(ingress)
    {
        return Err(fault(name, refused));
    }
    if let Some(name) = ours(ingress).find(|name| ![MODE, AUTHORITIES].contains(name)) {
        let meant = nearest(name, &[MODE, AUTHORITIES]).unwrap_or(MODE);
        let message = format!("there is no annotation {name:?}; did you mean {meant:?}?");
        let remedy = format!("write {meant:?}, or remove it");
        return Err(fault(name, Refused::new(UNKNOWN_FIELD, message, remedy)));
    }
    let value = |name: &str| ingress.annotations.get(name).map(String::as_str);
    let mode = match value(MODE) {
        Some("require") => ClientCertificateMode::Require,
        Some("request") => ClientCertificateMode::Request,
        Some(other) => {
            let message = format!("{other:.80?} is no way to ask for client certificates");
            let refused = Refused::new(BAD_VALUE, message, "write require or request");
            return Err(fault(MODE, refused));
        }
        None => {
            let message = "it names authorities and asks for no client certificates".to_owned();
            let remedy = format!("write {MODE:?} with require or request beside it, or remove it");
            return Err(fault(AUTHORITIES, Refused::new(BAD_VALUE, message, remedy)));
        }
    };
    let authorities = value(AUTHORITIES).and_then(|text| place(key, text)).ok_or_else(|| {
        let message = match value(AUTHORITIES) {
            Some(text) => format!("{text:.80?} is neither ConfigMap/NAME nor Secret/NAME"),
            None => "client certificates are asked for, but from no authority".to_owned(),
        };
        let remedy = format!(
            "write ConfigMap/NAME or Secret/NAME in {AUTHORITIES:?}, of the namespace of the Ingress"
        );
        fault(AUTHORITIES, Refused::new(BAD_VALUE, message, remedy))
    })?;
    Ok(Written { mode, authorities })
}

fn place(key: &ObjectKey, text: &str) -> Option<ObjectKey> {
    let (kind, name) = text.split_once('/')?;
    let kind = match kind {
        "ConfigMap" => ObjectKind::ConfigMap,
        "Secret" => ObjectKind::Secret,
        _ => return None,
    };
    let is_name = !name.is_empty() && !name.contains('/');
    is_name.then(|| key.beside(kind, name))
}

fn fault(annotation: &str, refused: Refused) -> Fault {
    Fault { annotation: annotation.to_owned(), refused }
}

/// What all annotations about clients begin with.
const FAMILY: &str = "kubeng.io/client-";
/// `require` or `request`.
pub(super) const MODE: &str = "kubeng.io/client-certificates";
/// `ConfigMap/NAME` or `Secret/NAME`, with the authorities in `ca.crt`.
pub(super) const AUTHORITIES: &str = "kubeng.io/client-authorities";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(annotations: &[(&str, &str)], expected: Option<Result<&str, &str>>) {
        let pairs = annotations.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let ingress = Ingress { annotations: pairs.collect(), ..Ingress::default() };
        let key = "Ingress/shop/web".parse().unwrap();
        let read = of(&key, &ingress);
        let got = read.map(|read| match read {
            Ok(Written { mode, authorities }) => Ok(format!("{mode:?} {authorities}")),
            Err(fault) => Err(format!("{} {}", field(&fault.annotation), fault.refused.message)),
        });
        match (got, expected) {
            (None, None) => {}
            (Some(Ok(got)), Some(Ok(expected))) => assert_eq!(got, expected),
            (Some(Err(got)), Some(Err(word))) => assert!(got.contains(word), "{got}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn annotations_are_understood_as_a_whole_or_refused() {
        let foreign = ("nginx.ingress.kubernetes.io/auth-tls-secret", "shop/ca");
        check(&[foreign], Some(Err("auth-tls-secret")));
        check(&[foreign, (MODE, "require"), (AUTHORITIES, "ConfigMap/ca")], Some(Err("closed")));
        check(&[foreign, ("kubeng.io/ignore-nginx-annotations", "true")], None);
        check(&[("kubeng.io/other", "x")], None);
        let require = (MODE, "require");
        check(&[require, (AUTHORITIES, "ConfigMap/ca")], Some(Ok("Require ConfigMap/shop/ca")));
        check(&[(MODE, "request"), (AUTHORITIES, "Secret/x")], Some(Ok("Request Secret/shop/x")));
        for (annotations, word) in [
            (&[require][..], "from no authority"),
            (&[(AUTHORITIES, "ConfigMap/ca")], "asks for no client certificates"),
            (&[(MODE, ""), (AUTHORITIES, "ConfigMap/ca")], "\"\""),
            (&[(MODE, "Require"), (AUTHORITIES, "ConfigMap/ca")], "client-certificates"),
            (
                &[require, (AUTHORITIES, "ca")],
                "/metadata/annotations/kubeng.io~1client-authorities",
            ),
            (&[require, (AUTHORITIES, "ConfigMap/")], "neither"),
            (&[require, (AUTHORITIES, "Secret/other/ca")], "neither"),
            (&[require, (AUTHORITIES, "Service/ca")], "neither"),
            (&[("kubeng.io/client-certificate", "require")], "did you mean"),
            (
                &[require, (AUTHORITIES, "Secret/x"), ("kubeng.io/client-depth", "1")],
                "no annotation",
            ),
        ] {
            check(annotations, Some(Err(word)));
        }
    }
}
