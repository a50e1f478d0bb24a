//! Parts as a document: YAML, JSON, or what nginx would have been told.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kubeng_config::compare::Side;
use kubeng_config::export::nginx;
use kubeng_config::name::BackendId;
use kubeng_config::snapshot::Snapshot;

use crate::problem::ErrorResponse;

/// Writes all Parts of a side.
pub(super) fn write(side: &Side, format: &str) -> Result<Response, ErrorResponse> {
    let export = || kubeng_controller::replicas::export(side);
    let (kind, text) = match format {
        "json" => ("application/json", export().to_json()),
        "yaml" => {
            let text = export().to_yaml();
            let text = text.map_err(|error| ErrorResponse::malformed(error.to_string()))?;
            ("application/yaml", text)
        }
        "nginx" => {
            let snapshot = Snapshot::default().edited(side.parts.iter().cloned(), []);
            let snapshot = snapshot.map_err(|error| ErrorResponse {
                status: StatusCode::CONFLICT,
                slug: "unfit",
                title: "It cannot be written so",
                detail: format!(
                    "the parts of {} do not fit together: {error}; ask for format=yaml",
                    side.name
                ),
            })?;
            let endpoints_of = |id: &BackendId| side.endpoints.as_ref()?.get(id).cloned();
            ("text/plain; charset=utf-8", nginx::to_text(&snapshot, &|_| None, &endpoints_of))
        }
        other => {
            let detail = format!("format is {other:?}; write json, yaml or nginx");
            return Err(ErrorResponse::malformed(detail));
        }
    };
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
