//! `/api/v1/replicas`: every replica with its state, what it says of itself, and what it runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use form_urlencoded::byte_serialize;
use kubeng_config::compare::Side;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::export::Export;
use kubeng_config::name::FleetName;
use kubeng_controller::replicas::entry::ReplicaId;
use kubeng_controller::replicas::peers::Located;
use kubeng_controller::replicas::{AskError, DUMP_WITHIN, Replicas};
use serde_json::{Value, json};

use super::{computed, export, fleets, parameter, replicas_of};
use crate::client::AdminClient;
use crate::problem::ErrorResponse;
use crate::server::Context;

/// All replicas that this controller or another one tells of; with `local` its own only.
pub(crate) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorResponse> {
    let replicas = replicas_of(&context)?.clone();
    let query = query.as_deref();
    let is_local = parameter(query, "local").is_some_and(|value| value == "true");
    let fleet: Option<FleetName> = match parameter(query, "fleet") {
        Some(fleet) => Some(fleet.parse().map_err(|_| fleets::unknown(&fleet))?),
        None => None,
    };
    computed(move || {
        let located = if is_local {
            let own = replicas.list(fleet.as_ref()).into_iter();
            own.map(|view| Located { controller: None, view }).collect()
        } else {
            replicas.located(fleet.as_ref())
        };
        let mut turned_away = replicas.strangers();
        turned_away.retain(|one| fleet.as_ref().is_none_or(|fleet| one.fleet == *fleet));
        Json(json!({
            "replicas": located,
            "turnedAway": turned_away,
            "peers": *replicas.peers(),
        }))
    })
    .await
}

pub(crate) async fn read(
    State(context): State<Context>,
    Path((fleet, name)): Path<(String, String)>,
) -> Result<Json<Value>, ErrorResponse> {
    let replicas = replicas_of(&context)?;
    let id = id(&fleet, &name)?;
    let all = replicas.located(Some(&id.fleet));
    let found = all.into_iter().find(|one| one.view.name == id.name);
    found.map(|one| Json(json!(one))).ok_or_else(|| unknown(&id))
}

/// What it runs, from its Table. With `local` other controllers are not asked.
pub(crate) async fn write(
    State(context): State<Context>,
    Path((fleet, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let replicas = replicas_of(&context)?;
    let query = query.as_deref();
    let format = parameter(query, "format").unwrap_or_else(|| "json".to_owned());
    let id = id(&fleet, &name)?;
    let is_local = parameter(query, "local").is_some_and(|value| value == "true");
    let side = if is_local { replicas.running(&id).await? } else { running(replicas, &id).await? };
    computed(move || export::write(&side, &format)).await?
}

/// What a replica runs. Where it has no line to this controller the one is asked to which it has.
pub(super) async fn running(all: &Replicas, id: &ReplicaId) -> Result<Side, ErrorResponse> {
    match all.running(id).await {
        Ok(side) => Ok(side),
        Err(error @ (AskError::Away(_) | AskError::Unknown(_))) => match all.elsewhere(id) {
            Some(url) => elsewhere(&url, id).await,
            None => Err(error.into()),
        },
        Err(error @ (AskError::Busy(_) | AskError::Silent { .. } | AskError::Refused { .. })) => {
            Err(error.into())
        }
    }
}

/// The same from the controller at `url`.
async fn elsewhere(url: &str, id: &ReplicaId) -> Result<Side, ErrorResponse> {
    let failed = |why: &dyn std::fmt::Display| ErrorResponse {
        status: StatusCode::BAD_GATEWAY,
        slug: "controller-unreachable",
        title: "Another controller does not tell",
        detail: format!("replica {id} is connected to {url}: {why}"),
    };
    let segment = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    // A space is "%20" in a path.
    let (fleet, name) = (segment(id.fleet.as_str()), segment(id.name.as_str()));
    let (fleet, name) = (fleet.replace('+', "%20"), name.replace('+', "%20"));
    let path = format!("/replicas/{fleet}/{name}/export?format=json&local=true");
    let client = AdminClient::new(url).map_err(|error| failed(&error))?;
    let answer = client.ask(Method::GET, &path, None, None, DUMP_WITHIN).await;
    let answer = answer.map_err(|error| failed(&error))?;
    let mut export = Export::read(&answer.body).map_err(|error| failed(&error))?;
    let set = |(id, endpoints)| (id, Arc::new(EndpointSet::new(endpoints)));
    let endpoints = export.endpoints.take().map(|sets| sets.into_iter().map(set).collect());
    Ok(Side { name: format!("replica:{id}"), parts: export.into_parts(), endpoints })
}

/// Forgets a replica that is not there.
pub(crate) async fn forget(
    State(context): State<Context>,
    Path((fleet, name)): Path<(String, String)>,
) -> Result<StatusCode, ErrorResponse> {
    let replicas: &Replicas = replicas_of(&context)?;
    let id = id(&fleet, &name)?;
    if replicas.get(&id).is_none() {
        let mut located = replicas.located(Some(&id.fleet)).into_iter();
        let known = located.find(|one| one.view.name == id.name).and_then(|one| one.controller);
        return Err(known.map_or_else(
            || unknown(&id),
            |url| ErrorResponse {
                status: StatusCode::CONFLICT,
                slug: "elsewhere",
                title: "Another controller knows it",
                detail: format!(
                    "replica {id} is known to the controller at {url}: forget it there"
                ),
            },
        ));
    }
    if replicas.forget(&id) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ErrorResponse {
        status: StatusCode::CONFLICT,
        slug: "replica-connected",
        title: "The replica is there",
        detail: format!("replica {id} is connected; stop it first, then it can be forgotten"),
    })
}

/// The replica that is meant.
pub(super) fn id(fleet: &str, name: &str) -> Result<ReplicaId, ErrorResponse> {
    match (fleet.parse(), name.parse()) {
        (Ok(fleet), Ok(name)) => Ok(ReplicaId { fleet, name }),
        (Err(_), _) | (_, Err(_)) => Err(ErrorResponse::not_found(format!(
            "{fleet:?}/{name:?} names no replica; see /api/v1/replicas"
        ))),
    }
}

fn unknown(id: &ReplicaId) -> ErrorResponse {
    ErrorResponse::not_found(format!("there is no replica {id}; see /api/v1/replicas"))
}

impl From<AskError> for ErrorResponse {
    fn from(error: AskError) -> Self {
        let detail = error.to_string();
        let (status, slug, title) = match error {
            AskError::Unknown(id) => return unknown(&id),
            AskError::Away(_) | AskError::Silent { .. } => {
                (StatusCode::BAD_GATEWAY, "replica-unreachable", "The replica cannot be reached")
            }
            AskError::Busy(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "replica-busy", "The replica is busy")
            }
            AskError::Refused { .. } => {
                (StatusCode::BAD_GATEWAY, "replica-rejected", "The replica refuses")
            }
        };
        Self { status, slug, title, detail }
    }
}
