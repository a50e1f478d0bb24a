//! What belongs to the fleet and to no Object: Listeners, the default Policy, the default backend.

use kubeng_config::delta::AnyPart;
use kubeng_config::listener::Listener;
use kubeng_config::matching::{HostMatch, PathMatch};
use kubeng_config::name::{ListenerId, ObjectKey, ObjectKind, RouteId};
use kubeng_config::part::Part;
use kubeng_config::problem::{CLASS_TAKEN, DEFINED_TWICE, Problem, Subject};
use kubeng_config::provenance::Provenance;
use kubeng_config::route::{Action, Rank};

use super::clients::guard::Guard;
use super::fragment::{LAST, route};
use super::refusal::Refused;
use super::{clients, elsewhere, forward, ingress_class};
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
        let everything = [HostMatch::Any];
        if let Some(part) = route(settings, id, rank, &everything, PathMatch::Otherwise, action) {
            Guard::of(view, &everything).put(settings, part, &mut parts);
        }
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
    let mut parts = Vec::new();
    for (id, listener) in &settings.listeners {
        let default_certificate = default_secret(settings, id).and_then(|secret| {
            let chain = view.certificate(secret);
            let found = chain.certificate().map(|(id, _)| id.clone());
            found.map_err(|refused| tell(problems, problem(view, secret, refused))).ok()
        });
        // One that cannot be carried out closes all Routes of the Listener: see `clients`.
        let client_certificates = clients::of_listener(view, id).and_then(|asked| {
            let named = settings.clients.iter().find(|(of, _)| of == id);
            let authorities = named.map(|(_, clients)| &clients.authorities);
            asked
                .map_err(|refused| {
                    let told = authorities.map(|key| problem(view, key, &refused));
                    told.into_iter().for_each(|problem| tell(problems, problem));
                })
                .ok()
        });
        let listener = Listener { default_certificate, client_certificates, ..listener.clone() };
        parts.push(AnyPart::Listener(id.clone(), Part::new(listener)));
    }
    parts
}

/// What several Listeners name is told once.
fn tell(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// The Secret of what a Listener presents under names that have no certificate of their own.
pub(crate) fn default_secret<'a>(
    settings: &'a TranslateSettings,
    listener: &ListenerId,
) -> Option<&'a ObjectKey> {
    if !settings.https_listeners().any(|id| id == listener) {
        return None;
    }
    let own = settings.certificates.iter().find(|(of, _)| of == listener);
    own.map(|(_, secret)| secret).or(settings.default_certificate.as_ref())
}

/// Tells of a fleet that is described twice, of Fleets that are not served here, and of classes that
/// belong to another.
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
            elsewhere::tell(view, problems);
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
