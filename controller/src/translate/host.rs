//! What several Ingresses of one host decide together.

use kubeng_config::certificate::{ServerName, ServerNameId};
use kubeng_config::delta::AnyPart;
use kubeng_config::matching::{HostMatch, PathMatch};
use kubeng_config::name::{CertificateId, ListenerId, ObjectKey, RouteId};
use kubeng_config::part::Part;
use kubeng_config::route::Rank;

use super::clients::{self, HostClients, guard};
use super::fragment::{LAST, route};
use super::{claims, fleet, ingress_class, ingress_tls};
use crate::world::objects::Group;
use crate::world::query::{Claim, DefaultOfIngress, Oldest};
use crate::world::view::View;

/// What several Ingresses of one host decide together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostSettings {
    pub(crate) certificate: Option<HostCertificate>,
    pub(crate) clients: HostClients,
    /// Server names, and the Route to the default backend of the fleet.
    pub(crate) parts: Vec<AnyPart>,
}

/// The certificate of a host, and who brought it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HostCertificate {
    pub(crate) id: CertificateId,
    pub(crate) by: ObjectKey,
}

/// Asked for by Ingresses of ours only, so the host is one that is served.
pub(crate) fn settings(view: &mut View<'_>, host: &HostMatch) -> HostSettings {
    let certificate = certificate(view, host);
    let mut clients = clients::of_host(view, host);
    let mut parts = Vec::new();
    for listener in view.settings().https_listeners() {
        let own = certificate.as_ref().map(|own| own.id.clone());
        // Without a name of its own the host would be asked what the wildcard is, or the Listener.
        let presented = match own {
            None if view.asks_clients(host) => shared(view, listener, host),
            own => own,
        };
        let Some(presented) = presented else {
            if clients.asked_on(listener).is_some() {
                clients.close_without_certificate(listener, host);
            }
            continue;
        };
        let id = ServerNameId { listener: listener.clone(), host: host.clone() };
        let client_certificates = clients.asked_on(listener).cloned();
        let value = ServerName { certificate: presented, client_certificates };
        parts.push(AnyPart::ServerName(id, Part::new(value)));
    }
    if let Some(part) = default_route(view, host) {
        guard::put_of_host(&clients, part, &mut parts);
    }
    HostSettings { certificate, clients, parts }
}

/// What a host without a certificate presents: that of its wildcard, or of the Listener.
fn shared(view: &mut View<'_>, listener: &ListenerId, host: &HostMatch) -> Option<CertificateId> {
    if *host == HostMatch::Any {
        return None;
    }
    let of_wildcard = clients::wildcard_of(host).and_then(|wildcard| certificate(view, &wildcard));
    if let Some(found) = of_wildcard {
        return Some(found.id);
    }
    let secret = fleet::default_secret(view.settings(), listener)?;
    view.certificate(secret).certificate().ok().map(|(id, _)| id.clone())
}

/// That of the oldest Ingress which has a usable one. A host that is every host has none of its own.
fn certificate(view: &mut View<'_>, host: &HostMatch) -> Option<HostCertificate> {
    if *host == HostMatch::Any || !view.settings().has_https() {
        return None;
    }
    view.first_in(Group::Tls(host.clone()), |view, object, ingress| {
        match ingress_class::claim(view, object, ingress).claim {
            Claim::Ours => {
                let id = ingress_tls::choose(view, &object.key, ingress, host)?;
                Some(HostCertificate { id, by: object.key.clone() })
            }
            Claim::Foreign => None,
        }
    })
}

/// What takes the paths of `host` that no Rule takes: the default backend of the fleet.
///
/// There is no way from a host that is known to one that is wider, so every
/// host has such a Route; that of every host belongs to the fleet itself.
fn default_route(view: &mut View<'_>, host: &HostMatch) -> Option<AnyPart> {
    let settings = view.settings();
    let default = settings.default_backend.as_ref()?;
    if *host == HostMatch::Any {
        return None;
    }
    let id = RouteId::new(fleet::default_service(default), &format!("{host}*"));
    let action = fleet::default_action(view, default);
    let rank = Rank { created: LAST, rule: u32::MAX };
    route(settings, id, rank, std::slice::from_ref(host), PathMatch::Otherwise, action)
}

/// The oldest Ingress of ours that names `host` in a rule.
pub(crate) fn oldest(view: &mut View<'_>, host: &HostMatch) -> Option<Oldest> {
    view.first_in(Group::Host(host.clone()), |view, object, ingress| {
        match ingress_class::claim(view, object, ingress).claim {
            Claim::Ours => {
                debug_assert!(claims::rule_hosts(ingress).contains(host));
                let default_backend = match ingress.default_backend {
                    Some(_) => DefaultOfIngress::Given,
                    None => DefaultOfIngress::Absent,
                };
                Some(Oldest { ingress: object.key.clone(), default_backend })
            }
            Claim::Foreign => None,
        }
    })
}
