//! Which Ingresses are ours: by class, default class, and the limits of the settings.

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{CLASS_NOT_FOUND, FLEET_NOT_FOUND, FLEET_NOT_PERMITTED, NO_CLASS};
use kubeng_config::provenance::Provenance;

use super::refusal::Refused;
use crate::kind::Body;
use crate::kind::ingress::Ingress;
use crate::kind::ingress_class::{ClassParameters, IngressClass};
use crate::kind::upstream::Upstream;
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
    let namespace = &object.key.namespace;
    if !allows(&settings.namespaces, namespace) {
        return Claim::Foreign.into();
    }
    let is_class_unread = ingress.doubt.as_ref().is_some_and(|doubt| doubt.is_class_unread);
    let claimed = if is_class_unread {
        // It may be ours, so what it may have meant is refused.
        Claim::Ours.into()
    } else if let Some(name) = filled(ingress.class.as_deref()) {
        by_name(view, name)
    } else if let Some(name) = filled(ingress.class_annotation.as_deref()) {
        // Controllers are chosen by annotation without any IngressClass, so a missing one is no mistake.
        let Claimed { claim, problem } = by_name(view, name);
        Claimed { claim, problem: problem.filter(|problem| problem.code != CLASS_NOT_FOUND) }
    } else {
        match settings.without_class {
            WithoutClass::Serve => Claim::Ours.into(),
            WithoutClass::Ignore => view.classless().into(),
        }
    };
    match claimed.claim {
        Claim::Ours if !allows(&settings.allowed, namespace) => {
            Claimed { claim: Claim::Foreign, problem: Some(not_permitted(settings, namespace)) }
        }
        Claim::Ours | Claim::Foreign => claimed,
    }
}

/// That an Ingress names no class and nobody serves it.
///
/// Of files only: in a cluster it may be meant for the default class of another controller, or for
/// one that is still to come, and is nobody's mistake.
pub(crate) fn unclaimed(
    view: &mut View<'_>,
    object: &Object,
    ingress: &Ingress,
) -> Option<Refused> {
    let settings = view.settings();
    let names =
        [&ingress.class, &ingress.class_annotation].map(|written| filled(written.as_deref()));
    let is_of_file = match object.provenance {
        Provenance::File { .. } => true,
        Provenance::Cluster { .. } | Provenance::Product => false,
    };
    let is_meant = is_of_file
        && names == [None, None]
        && settings.without_class == WithoutClass::Ignore
        && allows(&settings.namespaces, &object.key.namespace);
    if !is_meant || view.members(Group::DefaultClasses).next().is_some() {
        return None;
    }
    let class = settings.classes.first().unwrap_or(&settings.class);
    let message = "the Ingress names no class, so it is not served".to_owned();
    let remedy = format!("set ingressClassName: {class}, or start Kubeng with --without-class");
    Some(Refused::new(NO_CLASS, message, remedy))
}

/// Whether the routes of an Upstream are ours: those of fleets that it names, or else all that allow
/// its namespace.
pub(crate) fn claim_of_routes(
    settings: &TranslateSettings,
    object: &Object,
    upstream: &Upstream,
) -> Claim {
    let namespace = &object.key.namespace;
    let is_meant = upstream.fleets.is_empty()
        || upstream.fleets.iter().any(|name| name == settings.fleet.as_str());
    let is_allowed =
        allows(&settings.namespaces, namespace) && allows(&settings.allowed, namespace);
    if is_meant && is_allowed { Claim::Ours } else { Claim::Foreign }
}

/// Why an Object of `namespace` cannot be served by the fleet of `name` that it asks for.
pub(crate) fn misplaced(view: &mut View<'_>, namespace: &str, name: &str) -> Option<Refused> {
    let settings = view.settings();
    if name == settings.fleet.as_str() {
        return (!allows(&settings.allowed, namespace)).then(|| not_permitted(settings, namespace));
    }
    (!exists(view, name)).then(|| not_found(format!("there is no Fleet {name:?}")))
}

/// Whom a class belongs to that the Fleet of this World lists; none if that is this one.
pub(crate) fn other_owner(view: &mut View<'_>, class: &str) -> Option<String> {
    let object = view.object(&ObjectKey::new(ObjectKind::IngressClass, "", class));
    let written = object.as_deref().and_then(class_of);
    if let Some(written) = written.filter(|class| class.controller != view.settings().controller) {
        return Some(format!("controller {:?}", written.controller));
    }
    let this = view.settings().fleet.as_str();
    match owner(view, class, written) {
        Owner::Fleet(name) => (*name != *this).then(|| format!("Fleet/{name}")),
        Owner::Home | Owner::Nobody => None,
        Owner::Unknown(what) => Some(what),
    }
}

/// Who serves a class that a Fleet lists, or that names it, as a process of settings sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// The fleet of the settings.
    Settings,
    /// That Fleet.
    Fleet,
    /// Another fleet, another controller, or a class that the settings leave out.
    Other,
}

/// Who serves `class` that the Fleet of the name `fleet` lists, or whose parameters name it.
pub(crate) fn standing(view: &mut View<'_>, class: &str, fleet: &str) -> Standing {
    let settings = view.settings();
    let object = view.object(&ObjectKey::new(ObjectKind::IngressClass, "", class));
    let written = object.as_deref().and_then(class_of);
    let is_others = written.is_some_and(|class| class.controller != settings.controller);
    if is_others || !allows(&settings.classes, class) {
        return Standing::Other;
    }
    match owner(view, class, written) {
        Owner::Home => Standing::Settings,
        Owner::Fleet(name) if *name == *fleet => Standing::Fleet,
        Owner::Fleet(_) | Owner::Unknown(_) | Owner::Nobody => Standing::Other,
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
    let object = view.object(&ObjectKey::new(ObjectKind::IngressClass, "", name));
    let class = object.as_deref().and_then(class_of);
    if class.is_some_and(|class| class.controller != settings.controller) {
        return Claim::Foreign.into();
    }
    let foreign = |refused| Claimed { claim: Claim::Foreign, problem: Some(refused) };
    match owner(view, name, class) {
        Owner::Fleet(fleet) if *fleet == *settings.fleet.as_str() => Claim::Ours.into(),
        Owner::Fleet(fleet) if exists(view, &fleet) => Claim::Foreign.into(),
        Owner::Fleet(fleet) => foreign(not_found(format!(
            "class {name:?} is for Fleet {fleet:?}, which does not exist"
        ))),
        Owner::Home => of_home(settings).into(),
        Owner::Unknown(what) => {
            foreign(not_found(format!("class {name:?} has parameters that are no Fleet: {what}")))
        }
        Owner::Nobody if class.is_none() && name != settings.class => {
            let message = format!("IngressClass {name:?} does not exist");
            let remedy = "create the IngressClass, or name another one";
            foreign(Refused::new(CLASS_NOT_FOUND, message, remedy))
        }
        Owner::Nobody => foreign(not_found(format!("class {name:?} belongs to no fleet"))),
    }
}

/// Whom a class belongs to that is ours, or that no IngressClass describes.
enum Owner {
    /// The fleet of this name, whether it exists or not.
    Fleet(Box<str>),
    /// The fleet that settings describe.
    Home,
    /// Its parameters name something else, in words.
    Unknown(String),
    /// No fleet.
    Nobody,
}

/// Parameters come first, then the fleet of the settings, then the oldest Fleet that lists the class.
///
/// A process that serves what its settings say is its own only fleet: a Fleet that comes takes nothing
/// from it that it serves. A class whose parameters name a Fleet may be meant for that one's tenant
/// alone, so it is never served by another.
fn owner(view: &mut View<'_>, name: &str, class: Option<&IngressClass>) -> Owner {
    match class.map(|class| &class.parameters) {
        Some(ClassParameters::Fleet(fleet)) => return Owner::Fleet(fleet.clone()),
        Some(ClassParameters::Unknown(what)) => return Owner::Unknown(what.to_string()),
        Some(ClassParameters::Absent) | None => {}
    }
    let settings = view.settings();
    let is_known = class.is_some() || name == settings.class;
    if is_known && settings.home.is_some() {
        return Owner::Home;
    }
    match view.members(Group::Serving(name.into())).next() {
        Some(first) => Owner::Fleet((*first.name).into()),
        None => Owner::Nobody,
    }
}

/// Whether what belongs to the fleet of the settings is ours.
fn of_home(settings: &TranslateSettings) -> Claim {
    if settings.home.as_ref() == Some(&settings.fleet) { Claim::Ours } else { Claim::Foreign }
}

fn exists(view: &mut View<'_>, fleet: &str) -> bool {
    view.settings().home.as_ref().is_some_and(|home| home.as_str() == fleet)
        || view.object(&TranslateSettings::fleet_key(fleet)).is_some()
}

fn not_found(message: String) -> Refused {
    let remedy = "create the Fleet, or name one that exists";
    Refused::new(FLEET_NOT_FOUND, message, remedy)
}

fn not_permitted(settings: &TranslateSettings, namespace: &str) -> Refused {
    let message = format!("fleet {} does not allow namespace {namespace:?}", settings.fleet);
    let remedy = "name a fleet that allows it, or add it to namespaces of the Fleet";
    Refused::new(FLEET_NOT_PERMITTED, message, remedy)
}

/// Whether Ingresses without a class are ours: whether the default class is.
///
/// Of several default classes the youngest counts, as for the API server.
pub(crate) fn classless(view: &mut View<'_>) -> Claim {
    let mut youngest: Option<(i64, ObjectKey)> = None;
    for key in view.members(Group::DefaultClasses) {
        let Some(object) = view.object(&key) else { continue };
        if class_of(&object).is_none() {
            continue;
        }
        if youngest.as_ref().is_some_and(|(created, _)| *created >= object.created) {
            continue;
        }
        youngest = Some((object.created, key));
    }
    youngest.map_or(Claim::Foreign, |(_, key)| by_name(view, &key.name).claim)
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
        | Body::RouteOverride(_)
        | Body::Fleet(_) => None,
    }
}

/// Whether a limit allows `name`; an empty limit allows all.
fn allows(limit: &[String], name: &str) -> bool {
    limit.is_empty() || limit.iter().any(|allowed| allowed == name)
}
