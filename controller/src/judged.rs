//! The Ingresses and Upstreams of a cluster and what became of them, for those who write there.

use std::sync::Arc;

use kubeng_config::name::ObjectKey;
use kubeng_config::problem::Problem;
use kubeng_config::provenance::Provenance;

use crate::control::ControlState;
use crate::object::Object;
use crate::translate::verdict::Verdict;

/// One Ingress that was read from an API server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) object: &'a Arc<Object>,
    /// The `resourceVersion` that was read.
    pub(crate) version: &'a Arc<str>,
    pub(crate) verdict: Verdict<'a>,
}

/// All of them, by key. What was read from a manifest folder is in no cluster.
pub(crate) fn judged(state: &ControlState) -> impl Iterator<Item = Judged<'_>> {
    state.verdicts().filter_map(|(key, verdict)| of(state, key, verdict))
}

/// The one of `key`.
pub(crate) fn judged_one<'a>(state: &'a ControlState, key: &'a ObjectKey) -> Option<Judged<'a>> {
    of(state, key, state.verdict(key)?)
}

/// The Upstreams of a cluster and what is wrong with them, by key.
pub(crate) fn upstreams(
    state: &ControlState,
) -> impl Iterator<Item = (&Arc<Object>, Vec<Problem>)> {
    let of_cluster = |object: &&Arc<Object>| match object.provenance {
        Provenance::Cluster { .. } => true,
        Provenance::File { .. } | Provenance::Product => false,
    };
    state
        .world()
        .upstreams()
        .filter(of_cluster)
        .map(|object| (object, state.problems_of_upstream(&object.key)))
}

fn of<'a>(state: &'a ControlState, key: &'a ObjectKey, verdict: Verdict<'a>) -> Option<Judged<'a>> {
    let object = state.world().object(key)?;
    match &object.provenance {
        Provenance::Cluster { version } => Some(Judged { key, object, version, verdict }),
        Provenance::File { .. } | Provenance::Product => None,
    }
}
