//! Backends: what a Service port or an Upstream became.

use std::net::SocketAddr;
use std::sync::Arc;

use kubeng_config::address::{AddressRule, Gate};
use kubeng_config::backend::{Backend, HostOrIp};
use kubeng_config::delta::AnyPart;
use kubeng_config::name::{BackendId, ObjectKind};
use kubeng_config::part::Part;
use kubeng_config::problem::{BACKEND_NOT_FOUND, Problem};

use super::refusal::Refused;
use super::{overrides, service, upstream};
use crate::kind::Body;
use crate::object::Author;
use crate::settings::TranslateSettings;
use crate::world::view::View;

/// What a Service port or an Upstream became.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A Backend.
    Usable {
        /// Its name.
        id: BackendId,
        /// The Part.
        part: AnyPart,
        /// What is wrong with it although it can be used.
        problems: Vec<Problem>,
    },
    /// Nothing that requests could be sent to.
    Refused {
        /// Why, in words for those who lead there.
        because: Arc<Refused>,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
}

impl Target {
    pub(crate) fn usable(id: &BackendId, backend: Backend, problems: Vec<Problem>) -> Self {
        let part = AnyPart::Backend(id.clone(), Part::new(backend));
        Self::Usable { id: id.clone(), part, problems }
    }

    /// Refused for a reason that is told to those who lead there only.
    pub(crate) fn refused(because: Refused) -> Self {
        Self::Refused { because: Arc::new(because), problems: Vec::new() }
    }

    pub(crate) fn part(&self) -> Option<&AnyPart> {
        match self {
            Self::Usable { part, .. } => Some(part),
            Self::Refused { .. } => None,
        }
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        match self {
            Self::Usable { problems, .. } | Self::Refused { problems, .. } => problems,
        }
    }

    /// Whether its Endpoints are spoken to over TLS.
    pub(crate) fn wants_tls(&self) -> bool {
        match self {
            Self::Usable { part: AnyPart::Backend(_, part), .. } => part.value().tls.is_some(),
            Self::Usable { .. } | Self::Refused { .. } => false,
        }
    }

    /// What those see who lead there.
    pub(crate) fn outcome(&self) -> Result<(), &Refused> {
        match self {
            Self::Usable { .. } => Ok(()),
            Self::Refused { because, .. } => Err(because),
        }
    }
}

/// What the Service port or Upstream of `id` became.
pub(crate) fn target(view: &mut View<'_>, id: &BackendId) -> Target {
    let settings = view.settings();
    let Some(object) = view.object(&id.object) else { return missing(id) };
    let target = match (&object.body, id.port) {
        (Body::Service(written), Some(port)) => {
            service::target(settings, &object, written, id, port)
        }
        (Body::Upstream(written), None) => upstream::target(view, &object, written, id),
        (Body::Service(_) | Body::Upstream(_), _)
        | (
            Body::Ingress(_)
            | Body::IngressClass(_)
            | Body::EndpointSlice(_)
            | Body::Secret(_)
            | Body::ConfigMap(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_),
            _,
        ) => missing(id),
    };
    let target = overrides::defaults::balance(settings, &object, target);
    overrides::balance::on(view, id, target)
}

fn missing(id: &BackendId) -> Target {
    Target::refused(not_found(id.object.kind, &id.object.name))
}

/// The Refusal of a Service or Upstream that does not exist.
pub(crate) fn not_found(kind: ObjectKind, name: &str) -> Refused {
    let message = format!("{kind} {name:?} does not exist in this namespace");
    Refused::new(BACKEND_NOT_FOUND, message, format!("create the {kind}, or name another one"))
}

/// Which addresses somebody may name.
pub(crate) fn address_rule(author: Author) -> AddressRule {
    match author {
        Author::Operator => AddressRule::Operator,
        Author::Tenant => AddressRule::Tenant,
    }
}

/// Why `author` may not name `address`; `None` when it may.
///
/// Other names are judged by each replica after it has resolved them.
pub(crate) fn forbids(
    settings: &TranslateSettings,
    author: Author,
    address: &HostOrIp,
    port: u16,
) -> Option<&'static str> {
    match (address, author) {
        (HostOrIp::Ip(address), author) => {
            let gate = Gate { rule: address_rule(author), reserved: &settings.reserved };
            gate.forbids(SocketAddr::new(*address, port))
        }
        (HostOrIp::Name(_), Author::Operator) => None,
        (HostOrIp::Name(name), Author::Tenant) => {
            let top = name.as_str().rsplit('.').next();
            let is_loopback = matches!(top, Some("localhost" | "localdomain"));
            is_loopback.then_some("a name of the machine itself")
        }
    }
}
