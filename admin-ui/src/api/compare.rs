//! `GET /api/v1/compare?fleet=` groups replicas by what they run; with `left=` and `right=` it says in
//! what two sides differ. A side is `replica:FLEET/NAME` or `intended:FLEET`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use kubeng_config::compare::{self, Side};
use kubeng_config::name::FleetName;
use kubeng_controller::replicas::Replicas;
use serde_json::{Value, json};

use super::{computed, fleets, parameter, replicas, replicas_of};
use crate::problem::ErrorResponse;
use crate::server::Context;

/// How much rendered text is sent, in bytes; what is longer is cut off at a line.
const TEXT_BYTES_MAX: usize = 1 << 20;

pub(crate) async fn ask(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorResponse> {
    let all = replicas_of(&context)?.clone();
    let query = query.as_deref();
    match (parameter(query, "left"), parameter(query, "right")) {
        (Some(left), Some(right)) => {
            let (left, right) = tokio::join!(side(&all, &left), side(&all, &right));
            let (left, right) = (left?, right?);
            computed(move || Json(difference(&left, &right))).await
        }
        (None, None) => {
            let fleet = parameter(query, "fleet").ok_or_else(|| {
                ErrorResponse::malformed("write left= and right=, or fleet=".to_owned())
            })?;
            let name = fleets::find(&all, &fleet)?.facts.name.clone();
            Ok(Json(grouped(&all, &name)))
        }
        (Some(_), None) | (None, Some(_)) => {
            Err(ErrorResponse::malformed("write both left= and right=".to_owned()))
        }
    }
}

async fn side(all: &Replicas, written: &str) -> Result<Side, ErrorResponse> {
    let malformed = || {
        ErrorResponse::malformed(format!(
            "{written:?} is no side; write replica:FLEET/NAME or intended:FLEET"
        ))
    };
    match written.split_once(':') {
        Some(("replica", id)) => {
            let (fleet, name) = id.split_once('/').ok_or_else(malformed)?;
            replicas::running(all, &replicas::id(fleet, name)?).await
        }
        Some(("intended", fleet)) => {
            let name = fleet.parse::<FleetName>().ok();
            name.and_then(|name| all.intended(&name)).ok_or_else(|| fleets::unknown(fleet))
        }
        Some(_) | None => Err(malformed()),
    }
}

fn difference(left: &Side, right: &Side) -> Value {
    let found = compare::compare(left, right);
    let mut text = if found.equal { String::new() } else { compare::text(left, right) };
    if text.len() > TEXT_BYTES_MAX {
        let cut = text.floor_char_boundary(TEXT_BYTES_MAX);
        let cut = text.get(..cut).and_then(|text| text.rfind('\n')).map_or(0, |at| at + 1);
        text.truncate(cut);
        text.push_str("... the rest is left out\n");
    }
    let mut value = json!(found);
    value["text"] = text.into();
    value
}

fn grouped(all: &Replicas, fleet: &FleetName) -> Value {
    let located = all.located(Some(fleet));
    let states: BTreeMap<String, &str> =
        located.iter().map(|one| (one.view.name.to_string(), one.view.state.as_str())).collect();
    let running = located.iter().map(|one| (one.view.name.to_string(), one.view.running));
    let groups = compare::groups(running);
    let intended = all.fleet(fleet).map(|view| view.snapshot.digest());
    json!({
        "fleet": fleet,
        "summary": compare::summary(&groups),
        "intended": intended,
        "groups": groups,
        "states": states,
    })
}
