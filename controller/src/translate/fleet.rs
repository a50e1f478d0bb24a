//! What belongs to the fleet and to no Object: Listeners, the default Policy, the default backend.

use kubeng_config::delta::AnyPart;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::{HostMatch, PathMatch};
use kubeng_config::name::{ObjectKey, ObjectKind, RouteId};
use kubeng_config::part::Part;
use kubeng_config::problem::{CLASS_TAKEN, DEFINED_TWICE, Problem, Subject};
use kubeng_config::provenance::Provenance;
use kubeng_config::route::{Action, Rank};

use super::fragment::{LAST, route};
use super::refusal::Refused;
use super::{forward, ingress_class};
use crate::kind::Body;
use crate::settings::{DefaultBackend, DescribedBy, TranslateSettings};
use crate::world::view::View;

/// The Parts that belong to the fleet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FleetParts {
    /// Listeners, and the Route to the default backend.
    pub(crate) parts: Vec<AnyPart>,
    /// The default Policy: it stands in the Snapshot as long as a Route names it.
    pub(crate) policy: AnyPart,
    /// What the settings name and does not exist.
    pub(crate) problems: Vec<Problem>,
}

/// Listeners with their default certificate, the default Policy, the default backend.
pub(crate) fn parts(view: &mut View<'_>) -> FleetParts {
    let settings = view.settings();
    let mut problems = Vec::new();
    let mut parts = listeners(view, &mut problems);
    if let Some(default) = &settings.default_backend {
        let service = default_service(default);
        if let Err(refused) = view.service_port(&service, &default.port) {
            problems.push(problem(view, &service, &refused));
        }
        let action = default_action(view, default);
        let id = RouteId::new(service, "default");
        let rank = Rank { created: LAST, rule: u32::MAX };
        parts.extend(route(settings, id, rank, &[HostMatch::Any], PathMatch::Otherwise, action));
    }
    for to_forward in &settings.forwards {
        parts.push(forward::route(view, to_forward, &mut problems));
    }
    tell_taken(view, &mut problems);
    let policy = AnyPart::Policy(settings.policy().clone(), Part::new(settings.defaults.clone()));
    FleetParts { parts, policy, problems }
}

/// The Service of the default backend.
pub(crate) fn default_service(default: &DefaultBackend) -> ObjectKey {
    ObjectKey::new(ObjectKind::Service, &default.namespace, &default.service)
}

/// Where the default backend leads.
pub(crate) fn default_action(view: &mut View<'_>, default: &DefaultBackend) -> Action {
    match view.service_port(&default_service(default), &default.port) {
        Ok(backend) => super::fragment::forward(backend),
        Err(refused) => refused.action(),
    }
}

fn listeners(view: &mut View<'_>, problems: &mut Vec<Problem>) -> Vec<AnyPart> {
    let settings = view.settings();
    let mut certificate = |secret: &ObjectKey| match view.certificate(secret).certificate() {
        Ok((id, _)) => Some(id.clone()),
        Err(refused) => {
            problems.push(problem(view, secret, refused));
            None
        }
    };
    let of_all = settings.default_certificate.as_ref().filter(|_| settings.has_https());
    let of_all = of_all.and_then(&mut certificate);
    let listeners = settings.listeners.iter().map(|(id, listener)| {
        let own = settings.certificates.iter().find(|(of, _)| of == id);
        let default_certificate = match (listener.protocol, own) {
            (Protocol::Https, Some((_, secret))) => certificate(secret),
            (Protocol::Https, None) => of_all.clone(),
            (Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough, _) => None,
        };
        let listener = Listener { default_certificate, ..listener.clone() };
        AnyPart::Listener(id.clone(), Part::new(listener))
    });
    listeners.collect()
}

/// Tells of a fleet that is described twice, and of classes that belong to another.
fn tell_taken(view: &mut View<'_>, problems: &mut Vec<Problem>) {
    let key = match &view.settings().described_by {
        DescribedBy::Object(key) => key,
        DescribedBy::Settings => {
            let key = TranslateSettings::fleet_key(view.settings().fleet.as_str());
            if let Some(object) = view.object(&key) {
                let message =
                    "the settings of the process describe the fleet of this name".to_owned();
                let remedy = "give one of the two another name, or serve it by kubeng controller";
                let refused = Refused::new(DEFINED_TWICE, message, remedy);
                problems.push(refused.problem(&object, String::new()));
            }
            return;
        }
    };
    let Some(object) = view.object(key) else { return };
    let Body::Fleet(fleet) = &object.body else { return };
    for (at, class) in fleet.ingress_classes.iter().enumerate() {
        if let Some(owner) = ingress_class::other_owner(view, class) {
            let message = format!("class {class:?} belongs to {owner}");
            let refused = Refused::new(CLASS_TAKEN, message, "remove it from one of the two");
            problems.push(refused.problem(&object, format!("/spec/serves/ingressClasses/{at}")));
        }
    }
}

/// A Problem of an Object that the fleet names.
pub(super) fn problem(view: &View<'_>, object: &ObjectKey, refused: &Refused) -> Problem {
    Problem {
        subject: Subject::Object(object.clone()),
        field: String::new(),
        code: refused.code,
        message: format!("named by {}: {}", view.settings().described_by, refused.message),
        remedy: refused.remedy.clone(),
        provenance: Some(Provenance::Product),
    }
}
