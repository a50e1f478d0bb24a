//! Objects to Fragments: pure functions from what a query reads to what it gives.

pub(crate) mod authorities;
pub(crate) mod backend;
pub(crate) mod certificate;
pub(crate) mod claims;
pub(crate) mod clients;
pub(crate) mod credential;
mod elsewhere;
pub(crate) mod fleet;
pub(crate) mod forward;
pub(crate) mod fragment;
pub(crate) mod host;
pub(crate) mod ingress;
pub(crate) mod ingress_class;
pub(crate) mod ingress_tls;
pub(crate) mod nginx;
pub(crate) mod overrides;
pub(crate) mod quantity;
pub(crate) mod refusal;
pub(crate) mod service;
pub(crate) mod upstream;
pub mod verdict;

use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};

use crate::kind::Body;
use crate::world::objects::Group;
use crate::world::query::{Answer, Claim, Query};
use crate::world::view::View;
use fragment::Fragment;

/// The answer to `query`: one arm for each, in order of level.
pub(crate) fn answer(query: &Query, view: &mut View<'_>) -> Answer {
    match query {
        Query::Classless => Answer::Classless(ingress_class::classless(view)),
        Query::Certificate(secret) => {
            Answer::Certificate(Arc::new(certificate::chain(view, secret)))
        }
        Query::Authorities(map) => Answer::Authorities(Arc::new(authorities::roots(view, map))),
        Query::Credentials(secret) => {
            Answer::Credentials(Arc::new(credential::credentials(view, secret)))
        }
        Query::PortNumber(service, name) => {
            Answer::PortNumber(service::port_number(view, service, name).map_err(Arc::new))
        }
        Query::Backend(id) => Answer::Backend(Arc::new(backend::target(view, id))),
        Query::Winner(claim) => Answer::Winner(winner(view, claim).map(Arc::new)),
        Query::Oldest(host) => Answer::Oldest(host::oldest(view, host).map(Arc::new)),
        Query::Host(host) => Answer::Host(Arc::new(host::settings(view, host))),
        Query::Fleet => Answer::Fleet(Arc::new(fleet::parts(view))),
        Query::Override(key) => Answer::Override(overrides::review::review(view, key).into()),
        Query::Fragment(key) => Answer::Fragment(Arc::new(fragment(view, key))),
    }
}

fn winner(view: &mut View<'_>, claim: &Arc<str>) -> Option<ObjectKey> {
    view.first_of(Group::Claim(Arc::clone(claim)), |view, object| {
        let claim = match &object.body {
            Body::Ingress(ingress) => ingress_class::claim(view, object, ingress).claim,
            Body::Upstream(upstream) => {
                ingress_class::claim_of_routes(view.settings(), object, upstream)
            }
            Body::IngressClass(_)
            | Body::Service(_)
            | Body::EndpointSlice(_)
            | Body::Secret(_)
            | Body::ConfigMap(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_) => Claim::Foreign,
        };
        match claim {
            Claim::Ours => Some(object.key.clone()),
            Claim::Foreign => None,
        }
    })
}

fn fragment(view: &mut View<'_>, key: &ObjectKey) -> Fragment {
    debug_assert!(
        matches!(key.kind, ObjectKind::Ingress | ObjectKind::Upstream),
        "{key} has no Fragment"
    );
    let Some(object) = view.object(key) else { return Fragment::foreign(None) };
    match &object.body {
        Body::Ingress(ingress) => ingress::fragment(view, &object, ingress),
        Body::Upstream(written) => upstream::routes::fragment(view, &object, written),
        Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => Fragment::foreign(None),
    }
}

#[cfg(test)]
mod tests;
