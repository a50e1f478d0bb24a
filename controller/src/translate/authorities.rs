//! Authorities of a ConfigMap or Secret, parsed and checked once, however many name it.

use kubeng_config::backend::tls::Roots;
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{BAD_AUTHORITIES, CONFIG_MAP_NOT_FOUND, SECRET_NOT_FOUND};

use super::refusal::Refused;
use super::upstream::tls::bundle;
use crate::kind::Body;
use crate::kind::secret::denied;
use crate::world::view::View;

/// The authorities of the ConfigMap or Secret of `key`, all of them or none.
pub(crate) fn roots(view: &mut View<'_>, key: &ObjectKey) -> Result<Roots, Refused> {
    let Some(object) = view.object(key) else { return Err(missing(key)) };
    if object.is_denied() {
        let (message, remedy) = denied(key);
        return Err(Refused::new(missing(key).code, message, remedy));
    }
    let read = match &object.body {
        Body::ConfigMap(written) => written.authorities.as_deref().map(bundle),
        Body::Secret(written) => written.authorities.as_deref().map(|pem| {
            let pem = std::str::from_utf8(pem).map_err(|_| "ca.crt is no PEM".to_owned())?;
            bundle(pem)
        }),
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Upstream(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => unreachable!("{key} is a key of kind ConfigMap or Secret"),
    };
    read.unwrap_or_else(|| Err("it has no ca.crt".to_owned())).map_err(|why| {
        let message = format!("{} {:?} cannot be used: {why}", key.kind, key.name);
        let remedy = "store the certificates of the authorities in PEM in ca.crt";
        Refused::new(BAD_AUTHORITIES, message, remedy)
    })
}

/// A Secret without entries that are used is not read, and so is as one that does not exist.
fn missing(key: &ObjectKey) -> Refused {
    let ObjectKind::Secret = key.kind else {
        let message = format!("ConfigMap {:?} does not exist in this namespace", key.name);
        let remedy = "create the ConfigMap with the authorities in ca.crt, or name another one";
        return Refused::new(CONFIG_MAP_NOT_FOUND, message, remedy);
    };
    let message =
        format!("Secret {:?} does not exist in this namespace, or has no ca.crt", key.name);
    let remedy = "create the Secret with the authorities in ca.crt, or name another one";
    Refused::new(SECRET_NOT_FOUND, message, remedy)
}
