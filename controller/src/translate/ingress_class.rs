//! Which Ingresses are ours: by class, default class, and the limits of the settings.

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::CLASS_NOT_FOUND;

use super::refusal::Refused;
use crate::kind::Body;
use crate::kind::ingress::Ingress;
use crate::kind::ingress_class::IngressClass;
use crate::object::Object;
use crate::settings::{TranslateSettings, WithoutClass};
use crate::world::objects::Group;
use crate::world::query::Claim;
use crate::world::view::View;

/// Whether an Ingress is ours, and what is wrong with its class.
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    pub(crate) problem: Option<Refused>,
}

impl From<Claim> for Claimed {
    fn from(claim: Claim) -> Self {
        Self { claim, problem: None }
    }
}

/// Whether `ingress` is ours. The deprecated annotation counts only without `ingressClassName`.
pub(crate) fn claim(view: &mut View<'_>, object: &Object, ingress: &Ingress) -> Claimed {
    let settings = view.settings();
    if !allows(&settings.namespaces, &object.key.namespace) {
        return Claim::Foreign.into();
    }
    if let Some(name) = filled(ingress.class.as_deref()) {
        by_name(view, name)
    } else if let Some(name) = filled(ingress.class_annotation.as_deref()) {
        // Controllers are chosen by annotation without any IngressClass, so a missing one is no mistake.
        Claimed { problem: None, ..by_name(view, name) }
    } else {
        match settings.without_class {
            WithoutClass::Serve => Claim::Ours.into(),
            WithoutClass::Ignore => view.classless().into(),
        }
    }
}

fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn by_name(view: &mut View<'_>, name: &str) -> Claimed {
    let settings = view.settings();
    if !allows(&settings.classes, name) {
        return Claim::Foreign.into();
    }
    let class = view.object(&ObjectKey::new(ObjectKind::IngressClass, "", name));
    match class.as_deref().and_then(class_of) {
        Some(class) => is_ours(settings, class).into(),
        None if name == settings.class => Claim::Ours.into(),
        None => {
            let message = format!("IngressClass {name:?} does not exist");
            let remedy = "create the IngressClass, or name another one";
            let problem = Refused::new(CLASS_NOT_FOUND, message, remedy);
            Claimed { claim: Claim::Foreign, problem: Some(problem) }
        }
    }
}

/// Whether Ingresses without a class are ours: whether the default class is.
///
/// Of several default classes the youngest counts, as for the API server.
pub(crate) fn classless(view: &mut View<'_>) -> Claim {
    let mut youngest: Option<(i64, Claim)> = None;
    for key in view.members(Group::DefaultClasses) {
        let Some(object) = view.object(&key) else { continue };
        let Some(class) = class_of(&object) else { continue };
        if youngest.is_some_and(|(created, _)| created >= object.created) {
            continue;
        }
        let settings = view.settings();
        let claim = if allows(&settings.classes, &key.name) {
            is_ours(settings, class)
        } else {
            Claim::Foreign
        };
        youngest = Some((object.created, claim));
    }
    youngest.map_or(Claim::Foreign, |(_, claim)| claim)
}

fn class_of(object: &Object) -> Option<&IngressClass> {
    match &object.body {
        Body::IngressClass(class) => Some(class),
        Body::Ingress(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_) => None,
    }
}

fn is_ours(settings: &TranslateSettings, class: &IngressClass) -> Claim {
    if class.controller == settings.controller { Claim::Ours } else { Claim::Foreign }
}

/// Whether a limit allows `name`; an empty limit allows all.
/// Whether routes of Objects in `namespace` are served.
pub(crate) fn serves_namespace(settings: &TranslateSettings, namespace: &str) -> bool {
    allows(&settings.namespaces, namespace)
}

fn allows(limit: &[String], name: &str) -> bool {
    limit.is_empty() || limit.iter().any(|allowed| allowed == name)
}
