//! The metrics of replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kubeng_config::drift::ReplicaState;
use kubeng_config::name::FleetName;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::entry::ReplicaView;
use crate::metrics::{SECONDS, text};

type Labels = Vec<(String, String)>;

/// What is counted of replicas.
pub(crate) struct ReplicaMetrics {
    registry: Registry,
    replicas: Family<Labels, Gauge>,
    known: Mutex<BTreeSet<FleetName>>,
    propagation: Family<Labels, Histogram, fn() -> Histogram>,
    /// Fleets for which another controller intends something else.
    pub(super) disagreements: Gauge,
    /// Deviations found.
    pub(super) found: Counter,
    /// Replicas healed.
    pub(super) healed: Counter,
}

impl Default for ReplicaMetrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let replicas = Family::<Labels, Gauge>::default();
        registry.register("kubeng_replicas", "Replicas by fleet and state", replicas.clone());
        let propagation =
            Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        registry.register(
            "kubeng_replica_propagation_seconds",
            "From the moment an event had been read until a replica said that it serves its configuration",
            propagation.clone(),
        );
        let (found, healed) = (Counter::default(), Counter::default());
        registry.register("kubeng_drift_found", "Deviations of replicas found", found.clone());
        registry.register("kubeng_drift_healed", "Replicas healed", healed.clone());
        let disagreements = Gauge::default();
        registry.register(
            "kubeng_controllers_disagree",
            "Fleets for which another controller intends something else at the same position",
            disagreements.clone(),
        );
        let known = Mutex::default();
        Self { registry, replicas, known, propagation, disagreements, found, healed }
    }
}

impl ReplicaMetrics {
    /// Counts the replicas of `fleets` by state. Fleets that are gone are not told any more.
    pub(super) fn count(&self, fleets: &BTreeSet<FleetName>, views: &[ReplicaView]) {
        let mut counts: BTreeMap<(&FleetName, ReplicaState), i64> = BTreeMap::new();
        let known = views.iter().map(|view| &view.fleet).chain(fleets);
        let known: BTreeSet<FleetName> = known.cloned().collect();
        for view in views {
            *counts.entry((&view.fleet, view.state)).or_default() += 1;
        }
        for fleet in &known {
            for state in ReplicaState::ALL {
                let count = counts.get(&(fleet, state)).copied().unwrap_or(0);
                self.replicas.get_or_create(&labels(fleet, state)).set(count);
            }
        }
        let mut before = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in before.difference(&known) {
            for state in ReplicaState::ALL {
                self.replicas.remove(&labels(gone, state));
            }
            self.propagation.remove(&of_fleet(gone));
        }
        *before = known;
    }

    /// A replica of `fleet` serves a configuration, `after` its oldest event had been read.
    pub(crate) fn propagated(&self, fleet: &FleetName, after: Duration) {
        self.propagation.get_or_create(&of_fleet(fleet)).observe(after.as_secs_f64());
    }

    pub(super) fn render(&self) -> String {
        text::render(&self.registry)
    }
}

fn labels(fleet: &FleetName, state: ReplicaState) -> Labels {
    vec![("fleet".to_owned(), fleet.to_string()), ("state".to_owned(), state.to_string())]
}

fn of_fleet(fleet: &FleetName) -> Labels {
    vec![("fleet".to_owned(), fleet.to_string())]
}
