//! Whom the certificate of an Upstream must come from.

use kubeng_config::backend::tls::Roots;
use kubeng_config::name::ObjectKind;
use kubeng_config::problem::{BAD_AUTHORITIES, NOT_PERMITTED, Problem};

use super::fields::bad;
use super::tls::bundle;
use crate::kind::upstream::{UpstreamRoots, UpstreamTls};
use crate::object::Object;
use crate::translate::refusal::Refused;
use crate::world::view::View;

/// The authorities; None when they are not those that were meant.
pub(super) fn of(
    view: &mut View<'_>,
    object: &Object,
    tls: &UpstreamTls,
    problems: &mut Vec<Problem>,
) -> Option<Roots> {
    let field = "/spec/tls/roots";
    match (&tls.roots, tls.ca_bundle.as_deref()) {
        (Some(_), Some(_)) => {
            let message = "roots and caBundle exclude each other".to_owned();
            bad(object, field, message, "remove one of the two", problems);
            None
        }
        (None, None) => Some(Roots::System),
        (None, Some(pem)) => match bundle(pem) {
            Ok(roots) => Some(roots),
            Err(why) => {
                let message = format!("caBundle cannot be used: {why}");
                let remedy = "write the certificates of the authorities in PEM";
                let refused = Refused::new(BAD_AUTHORITIES, message, remedy);
                problems.push(refused.problem(object, "/spec/tls/caBundle".to_owned()));
                None
            }
        },
        (Some(UpstreamRoots::Word(word)), None) if word == "system" => Some(Roots::System),
        (Some(UpstreamRoots::Word(word)), None) => {
            let message = format!("roots {word:.80?} is unknown");
            let remedy = "write system, or namespace and name of a ConfigMap";
            bad(object, field, message, remedy, problems);
            None
        }
        (Some(UpstreamRoots::ConfigMap(named)), None) => {
            let own = &object.key.namespace;
            if named.namespace.as_deref().is_some_and(|namespace| *namespace != **own) {
                let message = "a ConfigMap of another namespace may not be named".to_owned();
                let remedy = format!("copy it to namespace {own}, and name that one");
                let refused = Refused::new(NOT_PERMITTED, message, remedy);
                problems.push(refused.problem(object, format!("{field}/namespace")));
                return None;
            }
            let key = object.key.beside(ObjectKind::ConfigMap, &named.name);
            match &*view.authorities(&key) {
                Ok(roots) => Some(roots.clone()),
                Err(refused) => {
                    problems.push(refused.problem(object, field.to_owned()));
                    None
                }
            }
        }
    }
}
