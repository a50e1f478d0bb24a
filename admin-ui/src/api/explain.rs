//! `GET /api/v1/explain?request=&header=&fleet=`: which Route would serve a request.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kubeng_config::request::RequestKey;
use kubeng_controller::control::ControlState;
use serde_json::{Value, json};

use super::{computed, of_fleet};
use crate::problem::ErrorResponse;
use crate::server::Context;

/// How many headers a question may have.
const HEADERS_MAX: usize = 100;

pub(crate) async fn ask(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorResponse> {
    let request = read(query.as_deref().unwrap_or_default())?;
    let state = of_fleet(&context, query.as_deref())?;
    computed(move || answer(&state, &request)).await
}

fn answer(state: &ControlState, request: &RequestKey) -> Json<Value> {
    let explanation = state.explain(request);
    let from = explanation.route.as_ref().and_then(|id| state.provenance_of(id));
    let overrides = explanation.route.as_ref().map(|id| state.overrides_of(id));
    Json(json!({
        "overrides": overrides.unwrap_or_default(),
        "snapshot": state.snapshot().digest(),
        "explanation": explanation,
        "source": from.map(|from| from.to_string()),
    }))
}

fn read(query: &str) -> Result<RequestKey, ErrorResponse> {
    let mut request = None;
    let mut headers = HeaderMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "request" => request = Some(value.into_owned()),
            "fleet" => {}
            "header" if headers.len() < HEADERS_MAX => {
                let (name, value) = header(&value)?;
                headers.append(name, value);
            }
            other => {
                let detail = format!("the parameter {other:?} is not known or too many");
                return Err(ErrorResponse::malformed(detail));
            }
        }
    }
    let request = request.ok_or_else(|| {
        let example = "request=GET+https://shop.example.com/cart";
        ErrorResponse::malformed(format!(
            "the parameter request is missing, for instance {example}"
        ))
    })?;
    RequestKey::parse(&request, headers)
        .map_err(|error| ErrorResponse::malformed(error.to_string()))
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), ErrorResponse> {
    let wrong = || ErrorResponse::malformed(format!("{line:?} is not a header; write Name: value"));
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?))
}
