//! Leases: the only objects that may be written, so that a controller can lead.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Shared;

/// Answers a read, a creation or a replacement of one Lease: the status and the body.
pub(super) fn answer(
    method: &Method,
    path: &str,
    body: &[u8],
    state: &Shared,
) -> (StatusCode, Value) {
    let mut state = state.lock();
    if *method == Method::GET {
        let name = path.rsplit('/').next().unwrap_or_default();
        return match state.lease(name) {
            Some(lease) => (StatusCode::OK, lease),
            None => refused(StatusCode::NOT_FOUND, "NotFound", "there is no such lease"),
        };
    }
    let Ok(mut lease) = serde_json::from_slice::<Value>(body) else {
        return refused(StatusCode::BAD_REQUEST, "BadRequest", "this is no lease");
    };
    let Some(name) = lease["metadata"]["name"].as_str().map(str::to_owned) else {
        return refused(StatusCode::BAD_REQUEST, "BadRequest", "a lease without a name");
    };
    let known = state.lease(&name);
    let is_free = match &known {
        Some(known) => {
            *method == Method::PUT
                && known["metadata"]["resourceVersion"] == lease["metadata"]["resourceVersion"]
        }
        None => *method == Method::POST,
    };
    if !is_free {
        return refused(StatusCode::CONFLICT, "Conflict", "somebody else has written it");
    }
    lease["apiVersion"] = json!("coordination.k8s.io/v1");
    lease["kind"] = json!("Lease");
    let lease = state.put_lease(&name, lease);
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    (status, lease)
}

fn refused(code: StatusCode, reason: &str, message: &str) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": message,
    });
    (code, status)
}
