//! `/api/v1/drift`: deviations of replicas, and what is done about them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kubeng_controller::replicas::record::{DriftRecord, RecordError};
use kubeng_controller::replicas::{ActError, Replicas};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{computed, replicas_of};
use crate::problem::ErrorResponse;
use crate::server::Context;

pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Value>, ErrorResponse> {
    let replicas = replicas_of(&context)?.clone();
    computed(move || {
        let drift: Vec<Value> = replicas.drift().iter().map(told).collect();
        Json(json!({ "drift": drift }))
    })
    .await
}

pub(crate) async fn read(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Response, ErrorResponse> {
    let record = replicas_of(&context)?.drift_record(&id);
    let record = record.ok_or_else(|| ErrorResponse::from(RecordError::Unknown(id)))?;
    Ok(tagged(&record, told(&record)))
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
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, ErrorResponse> {
    let replicas: Replicas = replicas_of(&context)?.clone();
    let etag = required_tag(&headers)?;
    let Act { reason, by } = parse(&body)?;
    let by = if by.is_empty() { "admin".to_owned() } else { by };
    let etag = Some(etag.as_str());
    match verb.as_str() {
        "heal" => {
            let record = replicas.heal(&id, etag, &by).await?;
            Ok(tagged(&record, told(&record)))
        }
        "adopt" => {
            let (record, adoption) = replicas.adopt(&id, etag, &by, &reason).await?;
            let value = json!({ "record": told(&record), "adoption": adoption });
            Ok(tagged(&record, value))
        }
        "dismiss" => {
            if reason.trim().is_empty() {
                return Err(invalid("reason is missing; say why the deviation is well".into()));
            }
            let record = replicas.dismiss(&id, etag, &by, &reason)?;
            Ok(tagged(&record, told(&record)))
        }
        other => Err(ErrorResponse::not_found(format!(
            "nothing is called {other:?} here; write heal, adopt or dismiss"
        ))),
    }
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
