//! `/api/v1/drift`: deviations of replicas, and what is done about them. With `local` other controllers
//! are not asked.

mod elsewhere;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kubeng_controller::replicas::record::{DriftRecord, RecordError};
use kubeng_controller::replicas::{ActError, AskError, Replicas};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{computed, parameter, replicas_of};
use crate::problem::ErrorResponse;
use crate::server::Context;

pub(crate) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorResponse> {
    let replicas = replicas_of(&context)?.clone();
    let (others, peers) = if is_local(query.as_deref()) {
        (Vec::new(), Vec::new())
    } else {
        elsewhere::list(&replicas).await
    };
    computed(move || {
        let mut drift: Vec<Value> = replicas.drift().iter().map(told).collect();
        drift.extend(others);
        // The newest first, whoever keeps it.
        let age = |record: &Value| (record["sinceSeconds"].as_u64(), record["id"].to_string());
        drift.sort_by_cached_key(|record| std::cmp::Reverse(age(record)));
        Json(json!({ "drift": drift, "peers": peers }))
    })
    .await
}

pub(crate) async fn read(
    State(context): State<Context>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let replicas = replicas_of(&context)?;
    match replicas.drift_record(&id) {
        Some(record) => Ok(tagged(&record, told(&record))),
        None if is_local(query.as_deref()) => Err(RecordError::Unknown(id).into()),
        None => elsewhere::read(replicas, &id).await,
    }
}

fn is_local(query: Option<&str>) -> bool {
    parameter(query, "local").is_some_and(|value| value == "true")
}

/// What is said about an act.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Act {
    /// Why.
    #[serde(default)]
    reason: String,
    /// Who. There is no login, so it is believed as it stands.
    #[serde(default)]
    by: String,
}

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 500;

/// The longest name, in bytes.
const BY_BYTES_MAX: usize = 100;

pub(crate) async fn act(
    State(context): State<Context>,
    Path((id, verb)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, ErrorResponse> {
    let replicas: Replicas = replicas_of(&context)?.clone();
    let verb = Verb::parse(&verb)?;
    let etag = required_tag(&headers)?;
    let act = parse(&body)?;
    if replicas.drift_record(&id).is_none() && !is_local(query.as_deref()) {
        return elsewhere::act(&replicas, (&id, verb.as_str()), &etag, body).await;
    }
    carry_out(&replicas, (&id, verb), &etag, act).await
}

/// What is done about a deviation.
#[derive(Clone, Copy)]
enum Verb {
    Heal,
    Adopt,
    Dismiss,
}

impl Verb {
    fn parse(verb: &str) -> Result<Self, ErrorResponse> {
        match verb {
            "heal" => Ok(Self::Heal),
            "adopt" => Ok(Self::Adopt),
            "dismiss" => Ok(Self::Dismiss),
            other => Err(ErrorResponse::not_found(format!(
                "nothing is called {other:.80?} here; write heal, adopt or dismiss"
            ))),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Heal => "heal",
            Self::Adopt => "adopt",
            Self::Dismiss => "dismiss",
        }
    }
}

/// Does it to a record that this controller keeps.
async fn carry_out(
    replicas: &Replicas,
    (id, verb): (&str, Verb),
    etag: &str,
    Act { reason, by }: Act,
) -> Result<Response, ErrorResponse> {
    let by = if by.is_empty() { "admin".to_owned() } else { by };
    let etag = Some(etag);
    let refused = |error| located(replicas, error);
    match verb {
        Verb::Heal => {
            let record = replicas.heal(id, etag, &by).await.map_err(refused)?;
            Ok(tagged(&record, told(&record)))
        }
        Verb::Adopt => {
            let adopted = replicas.adopt(id, etag, &by, &reason).await;
            let (record, adoption) = adopted.map_err(refused)?;
            let value = json!({ "record": told(&record), "adoption": adoption });
            Ok(tagged(&record, value))
        }
        Verb::Dismiss => {
            if reason.trim().is_empty() {
                return Err(invalid("reason is missing; say why the deviation is well".into()));
            }
            let record = replicas.dismiss(id, etag, &by, &reason)?;
            Ok(tagged(&record, told(&record)))
        }
    }
}

/// Says which controller a replica is connected to that this one does not reach.
fn located(replicas: &Replicas, error: ActError) -> ErrorResponse {
    let away = match &error {
        ActError::Ask(AskError::Away(id)) => replicas.elsewhere(id),
        ActError::Ask(
            AskError::Unknown(_)
            | AskError::Busy(_)
            | AskError::Silent { .. }
            | AskError::Refused { .. },
        )
        | ActError::Record(_)
        | ActError::Unhealed { .. }
        | ActError::Program
        | ActError::FleetGone => None,
    };
    let mut response = ErrorResponse::from(error);
    if let Some(url) = away {
        response.detail.push_str(&format!(
            ": {url}, which keeps a record of its own of what it finds; see kubeng drift list"
        ));
    }
    response
}

fn parse(body: &[u8]) -> Result<Act, ErrorResponse> {
    if body.trim_ascii().is_empty() {
        return Ok(Act::default());
    }
    let act: Act = serde_json::from_slice(body)
        .map_err(|error| ErrorResponse::malformed(error.to_string()))?;
    let has_controls = |text: &str| text.chars().any(char::is_control);
    if act.reason.len() > REASON_BYTES_MAX || has_controls(&act.reason) {
        return Err(invalid(format!("reason has at most {REASON_BYTES_MAX} bytes on one line")));
    }
    if act.by.len() > BY_BYTES_MAX || has_controls(&act.by) {
        return Err(invalid(format!("by has at most {BY_BYTES_MAX} bytes on one line")));
    }
    Ok(act)
}

fn required_tag(headers: &HeaderMap) -> Result<String, ErrorResponse> {
    let tag = headers.get(header::IF_MATCH).and_then(|tag| tag.to_str().ok());
    tag.map(str::to_owned).ok_or_else(|| ErrorResponse {
        status: StatusCode::PRECONDITION_REQUIRED,
        slug: "precondition-required",
        title: "If-Match is missing",
        detail: "read the record, and send its ETag as If-Match".into(),
    })
}

fn told(record: &DriftRecord) -> Value {
    let mut value = json!(record);
    value["etag"] = record.etag().into();
    // That this controller keeps it, as for replicas.
    value["controller"] = Value::Null;
    value
}

fn tagged(record: &DriftRecord, value: Value) -> Response {
    ([(header::ETAG, record.etag())], Json(value)).into_response()
}

fn invalid(detail: String) -> ErrorResponse {
    ErrorResponse {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        slug: "validation",
        title: "A value cannot be used",
        detail,
    }
}

impl From<RecordError> for ErrorResponse {
    fn from(error: RecordError) -> Self {
        let detail = error.to_string();
        let (status, slug, title) = match error {
            RecordError::Unknown(_) => {
                return Self::not_found(format!("{detail}; see /api/v1/drift"));
            }
            RecordError::Stale { .. } => {
                (StatusCode::PRECONDITION_FAILED, "stale", "It has changed since it was read")
            }
            RecordError::Over { .. } => (StatusCode::CONFLICT, "over", "It is not open any more"),
        };
        Self { status, slug, title, detail }
    }
}

impl From<ActError> for ErrorResponse {
    fn from(error: ActError) -> Self {
        let detail = error.to_string();
        let (status, slug, title) = match error {
            ActError::Record(error) => return error.into(),
            ActError::Ask(error) => return error.into(),
            ActError::Unhealed { .. } => {
                (StatusCode::BAD_GATEWAY, "unhealed", "The replica runs something else")
            }
            ActError::Program => (StatusCode::CONFLICT, "program", "It cannot be healed"),
            ActError::FleetGone => (StatusCode::CONFLICT, "fleet-gone", "There is no such fleet"),
        };
        Self { status, slug, title, detail }
    }
}
