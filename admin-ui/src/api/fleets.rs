//! `GET /api/v1/fleets`, `/fleets/{fleet}` and `/fleets/{fleet}/export`: what fleets should serve.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use kubeng_config::canonical::Digest;
use kubeng_config::compare;
use kubeng_config::fleet::{FleetCare, FleetClass, FleetFacts, OnDrift};
use kubeng_config::name::FleetName;
use kubeng_controller::control::ControlState;
use kubeng_controller::fleet_status;
use kubeng_controller::replicas::{FleetView, Replicas};
use serde_json::{Value, json};

use super::{computed, export, parameter, replicas_of};
use crate::problem::ErrorResponse;
use crate::server::Context;

pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Value>, ErrorResponse> {
    let replicas = replicas_of(&context)?.clone();
    let state = context.control.now();
    computed(move || {
        let fleets: Vec<Value> =
            replicas.fleets().values().map(|view| told(&replicas, &state, view)).collect();
        Json(json!({
            "fleets": fleets,
            "turnedAway": replicas.strangers(),
            "peers": *replicas.peers(),
        }))
    })
    .await
}

pub(crate) async fn read(
    State(context): State<Context>,
    Path(fleet): Path<String>,
) -> Result<Json<Value>, ErrorResponse> {
    let replicas = replicas_of(&context)?.clone();
    let view = find(&replicas, &fleet)?;
    let state = context.control.now();
    computed(move || Json(told(&replicas, &state, &view))).await
}

pub(crate) async fn write(
    State(context): State<Context>,
    Path(fleet): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let replicas = replicas_of(&context)?.clone();
    let format = parameter(query.as_deref(), "format").unwrap_or_else(|| "json".to_owned());
    let name = find(&replicas, &fleet)?.facts.name.clone();
    let state = context.control.now();
    computed(move || {
        let mut side = replicas.intended(&name).ok_or_else(|| unknown(name.as_str()))?;
        side.endpoints = Some(state.endpoints_of_parts(&side.parts));
        export::write(&side, &format)
    })
    .await?
}

/// The fleet of this name.
pub(crate) fn find(replicas: &Replicas, fleet: &str) -> Result<FleetView, ErrorResponse> {
    let name = fleet.parse::<FleetName>().ok();
    name.and_then(|name| replicas.fleet(&name)).ok_or_else(|| unknown(fleet))
}

/// There is no such fleet.
pub(crate) fn unknown(fleet: &str) -> ErrorResponse {
    ErrorResponse::not_found(format!("there is no fleet {fleet:?}; see /api/v1/fleets"))
}

fn told(replicas: &Replicas, state: &ControlState, view: &FleetView) -> Value {
    let FleetView { facts, snapshot, position } = view;
    let FleetFacts { name, display_name, class, environment, labels, care } = &**facts;
    let (class, tenant) = match class {
        FleetClass::Shared => ("shared", None),
        FleetClass::Dedicated { tenant } => ("dedicated", Some(tenant)),
    };
    let digest = snapshot.digest();
    let views = replicas.views(name);
    let refused = fleet_status::refused(state, name);
    let problems = fleet_status::problems(state, replicas, name);
    let status = fleet_status::told::status(Some(digest), &views, refused, problems);
    json!({
        "name": name,
        "displayName": display_name,
        "class": class,
        "tenant": tenant,
        "environment": environment.as_str(),
        "labels": labels,
        "digest": digest,
        "position": position,
        "routes": snapshot.routes().len(),
        "replicas": status.replicas.known,
        "states": status.replicas.states,
        "conditions": status.conditions,
        "running": status.running,
        "summary": compare::summary(&fleet_status::told::groups(&views)),
        "problems": status.problems,
        "elsewhere": elsewhere(replicas, name, digest),
        "care": care_of(care),
    })
}

/// What other controllers intend for the fleet.
fn elsewhere(replicas: &Replicas, fleet: &FleetName, digest: Digest) -> Vec<Value> {
    let peers = replicas.peers();
    let intents =
        peers.iter().flat_map(|peer| peer.fleets.iter().map(move |intent| (peer, intent)));
    let of_it = intents.filter(|(_, intent)| intent.name == *fleet);
    of_it
        .map(|(peer, intent)| {
            json!({
                "controller": peer.url,
                "digest": intent.digest,
                "position": intent.position,
                "same": intent.digest == digest,
            })
        })
        .collect()
}

fn care_of(care: &FleetCare) -> Value {
    let FleetCare {
        heartbeat_every,
        apply_timeout,
        table_check_every,
        probe_every,
        on_drift,
        builds,
    } = care;
    json!({
        "heartbeatEveryMs": millis(*heartbeat_every),
        "applyTimeoutMs": millis(*apply_timeout),
        "tableCheckEveryMs": millis(*table_check_every),
        "probeEveryMs": probe_every.map(millis),
        "onDrift": match on_drift {
            OnDrift::Report => "report",
            OnDrift::Heal => "heal",
        },
        "builds": builds,
    })
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
