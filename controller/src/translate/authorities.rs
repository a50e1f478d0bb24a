//! Authorities of a ConfigMap, parsed and checked once, however many name it.

use kubeng_config::backend::tls::Roots;
use kubeng_config::name::ObjectKey;
use kubeng_config::problem::{BAD_AUTHORITIES, CONFIG_MAP_NOT_FOUND};

use super::refusal::Refused;
use super::upstream::tls::bundle;
use crate::kind::Body;
use crate::world::view::View;

/// The authorities of the ConfigMap of `key`, all of them or none.
pub(crate) fn roots(view: &mut View<'_>, key: &ObjectKey) -> Result<Roots, Refused> {
    let Some(object) = view.object(key) else {
        let message = format!("ConfigMap {:?} does not exist in this namespace", key.name);
        let remedy = "create the ConfigMap with the authorities in ca.crt, or name another one";
        return Err(Refused::new(CONFIG_MAP_NOT_FOUND, message, remedy));
    };
    let Body::ConfigMap(written) = &object.body else {
        unreachable!("{key} is a key of kind ConfigMap, so its body is one");
    };
    let read = match written.authorities.as_deref() {
        Some(pem) => bundle(pem),
        None => Err("it has no ca.crt".to_owned()),
    };
    read.map_err(|why| {
        let message = format!("ConfigMap {:?} cannot be used: {why}", key.name);
        let remedy = "store the certificates of the authorities in PEM in ca.crt";
        Refused::new(BAD_AUTHORITIES, message, remedy)
    })
}
