//! Fragments: what one Object became.

use kubeng_config::delta::AnyPart;
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::name::RouteId;
use kubeng_config::part::Part;
use kubeng_config::problem::Problem;
use kubeng_config::route::{Action, Attachment, Rank, Route, Target, TargetAction};

use crate::settings::TranslateSettings;
use crate::world::query::Claim;

/// The Routes and Problems of one Object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fragment {
    pub(crate) claim: Claim,
    /// Routes only.
    pub(crate) routes: Box<[AnyPart]>,
    /// Policies of its own that they name.
    pub(crate) policies: Box<[AnyPart]>,
    pub(crate) problems: Box<[Problem]>,
}

impl Fragment {
    /// Of an Object that is not ours.
    pub(crate) fn foreign(problems: impl IntoIterator<Item = Problem>) -> Self {
        let problems = problems.into_iter().collect();
        let (routes, policies) = (Box::default(), Box::default());
        Self { claim: Claim::Foreign, routes, policies, problems }
    }
}

/// A Rank behind all others, so that it takes nothing from anybody; the end of the year 9999.
pub(crate) const LAST: i64 = 253_402_300_799;

/// One Route of `hosts` on every Listener that reads requests; none where there is no such Listener
/// or no host.
pub(crate) fn route(
    settings: &TranslateSettings,
    id: RouteId,
    rank: Rank,
    hosts: &[HostMatch],
    path: PathMatch,
    action: Action,
) -> Option<AnyPart> {
    let attached = attachments(settings, hosts);
    if attached.is_empty() {
        return None;
    }
    let route = Route {
        rank,
        attached,
        matches: vec![Match::of_path(path)],
        filters: Vec::new(),
        policy: settings.policy().clone(),
        action,
    };
    Some(AnyPart::Route(id, Part::new(route)))
}

/// Every Listener that reads requests, for these hosts; none without hosts.
pub(crate) fn attachments(settings: &TranslateSettings, hosts: &[HostMatch]) -> Vec<Attachment> {
    let reads_requests =
        settings.listeners.iter().filter(|(_, listener)| listener.protocol.reads_requests());
    reads_requests
        .filter(|_| !hosts.is_empty())
        .map(|(listener, _)| Attachment { listener: listener.clone(), hosts: hosts.to_vec() })
        .collect()
}

/// All requests to one Backend.
pub(crate) fn forward(backend: kubeng_config::name::BackendId) -> Action {
    Action::Forward(vec![Target { to: TargetAction::Backend(backend), weight: 1 }])
}
