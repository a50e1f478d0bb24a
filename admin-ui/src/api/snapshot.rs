//! `GET /api/v1/snapshot?format=&fleet=`: the effective configuration, without secrets.

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use kubeng_config::export::nginx;
use kubeng_config::name::BackendId;
use kubeng_controller::control::ControlState;

use super::{computed, of_fleet};
use crate::problem::ErrorResponse;
use crate::server::Context;

pub(crate) async fn read(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let state = of_fleet(&context, query.as_deref())?;
    let query = query.unwrap_or_default();
    let format = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "format")
        .map_or_else(|| "json".to_owned(), |(_, value)| value.into_owned());
    computed(move || write(&state, &format)).await?
}

fn write(state: &ControlState, format: &str) -> Result<Response, ErrorResponse> {
    let (kind, text) = match format {
        "json" => ("application/json", state.export().to_json()),
        "yaml" => {
            let text = state.export().to_yaml();
            let text = text.map_err(|error| ErrorResponse::malformed(error.to_string()))?;
            ("application/yaml", text)
        }
        "nginx" => {
            let endpoints_of = |id: &BackendId| state.endpoints_of(id).cloned();
            let text =
                nginx::to_text(state.snapshot(), &|id| state.provenance_of(id), &endpoints_of);
            ("text/plain; charset=utf-8", text)
        }
        other => {
            let detail = format!("format is {other:?}; write json, yaml or nginx");
            return Err(ErrorResponse::malformed(detail));
        }
    };
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
