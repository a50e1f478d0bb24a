//! The replica as who asks it on its own machine sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use kubeng_admin::{EmergencyChange, Later, LocalReplica, StandaloneReplica};
use kubeng_config::heartbeat::{Emergency, Heartbeat, Origin};
use kubeng_config::name::{BackendId, RouteId};
use kubeng_config::observed::{EndpointHealth, KeyQuery, RecordQuery};
use kubeng_controller::distribution::subscriber::LinkState;
use kubeng_proxy::ProxyFacts;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::agent::Change;
use super::super::observe;
use super::follow::{Command, Seen};
use super::{is_set, status};
use crate::settings::replica::ReplicaSettings;

/// The replica, for the admin listener.
pub(super) struct OnMachine {
    pub(super) facts: ProxyFacts,
    pub(super) is_leaving: Arc<AtomicBool>,
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) link: watch::Receiver<LinkState>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) replica: ReplicaSettings,
}

impl LocalReplica for OnMachine {
    fn metrics(&self) -> String {
        self.facts.metrics()
    }

    fn connections(&self) -> usize {
        self.facts.connections()
    }

    fn is_leaving(&self) -> bool {
        is_set(&self.is_leaving)
    }

    fn requests(&self, query: &RecordQuery) -> Vec<Value> {
        self.facts.requests(query)
    }

    fn request_keys(&self, query: &KeyQuery) -> Value {
        self.facts.request_keys(query)
    }

    fn last_hit(&self, route: &RouteId) -> Option<SystemTime> {
        self.facts.last_hit(route)
    }

    fn health(&self) -> BTreeMap<BackendId, Vec<EndpointHealth>> {
        observe::health(&self.facts)
    }
}

impl StandaloneReplica for OnMachine {
    fn status(&self) -> String {
        let (seen, link) = (self.seen.borrow().clone(), self.link.borrow().clone());
        status::screen(&self.replica, &seen, &link, self.facts.connections(), self.is_leaving())
    }

    fn readiness(&self) -> Result<String, String> {
        let seen = self.seen.borrow();
        if self.is_leaving() {
            return Err("stopping".to_owned());
        }
        if !seen.is_ready {
            let problems = seen.problems.iter().map(|problem| format!("\n{problem}"));
            let nothing = match seen.serves {
                None => "nothing is served yet",
                Some(_) => "a port is not open",
            };
            return Err(nothing.to_owned() + &problems.collect::<String>());
        }
        Ok(match seen.origin {
            Origin::Disk => "ok: serving from disk, no controller heard\n".to_owned(),
            Origin::Controller | Origin::Nothing => "ok\n".to_owned(),
        })
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        self.seen.borrow().heartbeat.clone()
    }

    fn refuse(&self, change: EmergencyChange) -> Later<Result<Emergency, String>> {
        let commands = self.commands.clone();
        Box::pin(async move {
            let lasts = change.lasts();
            let EmergencyChange { route, by, reason, seconds: _ } = change;
            let (reply, replied) = oneshot::channel();
            let command = Command::Refuse(Change { route, by, reason, lasts }, reply);
            let gone = || "the replica is about to end".to_owned();
            commands.send(command).await.map_err(|_| gone())?;
            replied.await.map_err(|_| gone())?
        })
    }

    fn end_emergency(&self) -> Later<bool> {
        let commands = self.commands.clone();
        Box::pin(async move {
            let (reply, replied) = oneshot::channel();
            commands.send(Command::End(reply)).await.is_ok() && replied.await.unwrap_or(false)
        })
    }
}
