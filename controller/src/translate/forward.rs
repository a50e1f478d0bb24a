//! Listeners that read no requests: the settings say where their connections go.

use kubeng_config::delta::AnyPart;
use kubeng_config::listener::Protocol;
use kubeng_config::matching::{Match, PathMatch};
use kubeng_config::name::RouteId;
use kubeng_config::part::Part;
use kubeng_config::problem::{NOT_AS_BYTES, Problem};
use kubeng_config::route::{Attachment, Rank, Route};

use super::fragment::LAST;
use super::refusal::Refused;
use super::{fleet, fragment};
use crate::settings::Forward;
use crate::world::view::View;

/// The Route of one such Listener; refused where its target cannot be honoured.
pub(super) fn route(
    view: &mut View<'_>,
    forward: &Forward,
    problems: &mut Vec<Problem>,
) -> AnyPart {
    let settings = view.settings();
    let Forward { listener, host, to } = forward;
    let is_tcp = settings
        .listeners
        .iter()
        .any(|(id, spoken)| id == listener && spoken.protocol == Protocol::Tcp);
    let action = match view.backend_and_tls(to.clone()) {
        // Over plain TCP what should be encrypted would go in clear.
        Ok((backend, true)) if is_tcp => {
            let message = format!("{backend} wants TLS, and plain TCP passes bytes on as they are");
            let remedy = "let it lead to a port that speaks no TLS, or pass TLS on by server name";
            let refused = Refused::new(NOT_AS_BYTES, message, remedy);
            problems.push(fleet::problem(view, &to.object, &refused));
            refused.action()
        }
        Ok((backend, _)) => fragment::forward(backend),
        Err(refused) => {
            problems.push(fleet::problem(view, &to.object, &refused));
            refused.action()
        }
    };
    let value = Route {
        rank: Rank { created: LAST, rule: u32::MAX },
        attached: vec![Attachment { listener: listener.clone(), hosts: vec![host.clone()] }],
        matches: vec![Match::of_path(PathMatch::Otherwise)],
        filters: Vec::new(),
        policy: settings.policy().clone(),
        action,
    };
    AnyPart::Route(RouteId::new(to.object.clone(), listener.as_str()), Part::new(value))
}
