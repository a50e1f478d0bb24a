//! Client certificates: who decides what is asked under a host, and where nothing can be served.
//!
//! What is asked belongs to the host. The oldest Ingress of the namespace to which the host belongs
//! decides it for all: that of the oldest Ingress that names it in a rule. Nothing fails open: where
//! clients cannot be asked as somebody wants, what leads there is refused.

pub(crate) mod guard;
pub(crate) mod written;

use kubeng_config::backend::tls::Roots;
use kubeng_config::certificate::{ClientCertificateMode, ClientCertificates};
use kubeng_config::listener::Protocol;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{ListenerId, ObjectKey};
use kubeng_config::problem::{CLIENTS_CLOSED, CLIENTS_CONFLICT, CLIENTS_OVER_TLS};

use super::ingress_class;
use super::refusal::Refused;
use crate::world::objects::Group;
use crate::world::query::Claim;
use crate::world::view::View;
use written::Written;

/// What is asked of the clients of one host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostClients {
    /// Who decides it; None where nobody asks for anything.
    decided: Option<Box<Decided>>,
    /// Listeners that do something else than they do for hosts that say nothing.
    stands: Vec<(ListenerId, Stand)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Decided {
    by: ObjectKey,
    asked: Result<ClientCertificates, Refused>,
}

/// What a Listener does under a host.
#[derive(Clone, Debug, PartialEq)]
enum Stand {
    Asks(ClientCertificates),
    Closed(Refused),
}

impl HostClients {
    /// What the host itself asks on a Listener.
    pub(crate) fn asked_on(&self, listener: &ListenerId) -> Option<&ClientCertificates> {
        self.stands.iter().find_map(|(id, stand)| match stand {
            Stand::Asks(asked) if id == listener => Some(asked),
            Stand::Asks(_) | Stand::Closed(_) => None,
        })
    }

    /// Why nothing is served there.
    fn closed_on(&self, listener: &ListenerId) -> Option<&Refused> {
        self.closed().find(|(id, _)| *id == listener).map(|(_, refused)| refused)
    }

    fn closed(&self) -> impl Iterator<Item = (&ListenerId, &Refused)> {
        self.stands.iter().filter_map(|(id, stand)| match stand {
            Stand::Closed(refused) => Some((id, refused)),
            Stand::Asks(_) => None,
        })
    }

    /// What is asked cannot be: no certificate could be presented under the name.
    pub(crate) fn close_without_certificate(&mut self, listener: &ListenerId, host: &HostMatch) {
        let message = format!(
            "clients of {host} are asked for certificates, but it has none of its own to present"
        );
        let remedy = "name the host and a Secret in a tls section";
        let refused = Refused::new(CLIENTS_CLOSED, message, remedy);
        for (_, stand) in self.stands.iter_mut().filter(|(id, _)| id == listener) {
            *stand = Stand::Closed(refused.clone());
        }
    }
}

/// What is asked under `host`, whatever certificate it presents.
pub(crate) fn of_host(view: &mut View<'_>, host: &HostMatch) -> HostClients {
    let settings = view.settings();
    let decided = if view.asks_clients(host) { decided(view, host) } else { None };
    if decided.is_none() && settings.clients.is_empty() {
        return HostClients::default();
    }
    let mut stands = Vec::new();
    for (id, listener) in &settings.listeners {
        let asked = decided.as_ref().map(|decided| &decided.asked);
        let stand = match listener.protocol {
            Protocol::Http => asked.and_then(|asked| in_clear(host, asked)),
            Protocol::Https => {
                let of_all = of_listener(view, id);
                over_tls(asked, of_all)
            }
            Protocol::Tcp | Protocol::TlsPassthrough => None,
        };
        stands.extend(stand.map(|stand| (id.clone(), stand)));
    }
    HostClients { decided: decided.map(Box::new), stands }
}

/// What a Listener asks under all hosts that say nothing.
///
/// # Errors
/// When that cannot be carried out.
pub(crate) fn of_listener(
    view: &mut View<'_>,
    listener: &ListenerId,
) -> Option<Result<ClientCertificates, Refused>> {
    let settings = view.settings();
    let (_, asked) = settings.clients.iter().find(|(id, _)| id == listener)?;
    Some(read(view, asked.mode, &asked.authorities))
}

/// A host that no rule names belongs to whoever serves it by a wildcard.
fn decided(view: &mut View<'_>, host: &HostMatch) -> Option<Decided> {
    if let Some(oldest) = view.oldest(host) {
        return decided_in(view, host, &oldest.ingress);
    }
    let wildcard = wildcard_of(host)?;
    let oldest = view.oldest(&wildcard)?;
    decided_in(view, &wildcard, &oldest.ingress)
}

/// The wildcard that stands for a name.
pub(crate) fn wildcard_of(host: &HostMatch) -> Option<HostMatch> {
    match host {
        HostMatch::Exact(name) => name.parent()?.parse().ok().map(HostMatch::OneLabelBelow),
        HostMatch::Any | HostMatch::OneLabelBelow(_) | HostMatch::AnyLabelsBelow(_) => None,
    }
}

fn decided_in(view: &mut View<'_>, host: &HostMatch, owner: &ObjectKey) -> Option<Decided> {
    let group = Group::Clients(host.clone());
    let (by, written) = view.first_in(group, |view, object, ingress| {
        if object.key.namespace != owner.namespace {
            return None;
        }
        let written = written::of(&object.key, ingress)?;
        match ingress_class::claim(view, object, ingress).claim {
            Claim::Ours => Some((object.key.clone(), written)),
            Claim::Foreign => None,
        }
    })?;
    let asked = match written {
        Err(fault) => Err(fault.refused),
        Ok(Written { mode, authorities }) => read(view, mode, &authorities),
    };
    Some(Decided { by, asked })
}

fn read(
    view: &mut View<'_>,
    mode: ClientCertificateMode,
    authorities: &ObjectKey,
) -> Result<ClientCertificates, Refused> {
    match &*view.authorities(authorities) {
        Ok(Roots::Bundle(roots)) => Ok(ClientCertificates { mode, roots: roots.clone() }),
        Ok(Roots::System) => unreachable!("an Object holds authorities of its own"),
        Err(refused) => Err(refused.clone()),
    }
}

/// What is done over plain HTTP, where nobody can present a certificate.
fn in_clear(host: &HostMatch, asked: &Result<ClientCertificates, Refused>) -> Option<Stand> {
    match asked {
        Err(refused) => Some(Stand::Closed(refused.clone())),
        Ok(ClientCertificates { mode: ClientCertificateMode::Request, .. }) => None,
        Ok(ClientCertificates { mode: ClientCertificateMode::Require, .. }) => {
            let message = format!("{host} requires client certificates, which need HTTPS");
            let refused = Refused::new(CLIENTS_OVER_TLS, message, "ask over HTTPS");
            Some(Stand::Closed(refused))
        }
    }
}

/// The Listener belongs to the operator: a host may ask for more than it does, never for less.
fn over_tls(
    asked: Option<&Result<ClientCertificates, Refused>>,
    of_listener: Option<Result<ClientCertificates, Refused>>,
) -> Option<Stand> {
    match (asked, of_listener) {
        (None, None | Some(Ok(_))) => None,
        (_, Some(Err(refused))) => Some(Stand::Closed(refused)),
        (Some(Err(refused)), _) => Some(Stand::Closed(refused.clone())),
        (Some(Ok(asked)), None) => Some(Stand::Asks(asked.clone())),
        (Some(Ok(asked)), Some(Ok(of_all))) if asked.roots == of_all.roots => match asked.mode {
            ClientCertificateMode::Require => Some(Stand::Asks(asked.clone())),
            ClientCertificateMode::Request => None,
        },
        (Some(Ok(_)), Some(Ok(_))) => {
            let message = "the listener asks for certificates of other authorities".to_owned();
            let remedy = "name the authorities of the listener, or remove the annotations";
            Some(Stand::Closed(Refused::new(CLIENTS_CONFLICT, message, remedy)))
        }
    }
}

#[cfg(test)]
mod tests;
