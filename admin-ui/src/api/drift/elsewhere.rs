//! Deviations that other controllers keep: each keeps those of the replicas that it looks after.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use hyper::http::Method;
use kubeng_controller::replicas::Replicas;
use kubeng_controller::replicas::peers::PeerReport;
use kubeng_controller::replicas::record::RecordError;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::{AdminClient, ClientError, Passed};
use crate::problem::ErrorResponse;

/// How long other controllers may take to say what they keep.
const WITHIN: Duration = Duration::from_secs(2);

/// How long one may take to do something: its replica has 30 s to heal.
const ACT_WITHIN: Duration = Duration::from_secs(40);

/// The longest name of a record.
const ID_BYTES_MAX: usize = 64;

/// What the other controllers keep, and who of them said so.
pub(super) async fn list(replicas: &Replicas) -> (Vec<Value>, Vec<PeerReport>) {
    let (mut drift, mut peers) = (Vec::new(), Vec::new());
    for (url, answer) in ask_all(replicas, "/drift?local=true").await {
        let error = match answer.and_then(records) {
            Ok(records) => {
                drift.extend(records.into_iter().map(|record| located(record, &url)));
                None
            }
            Err(error) => Some(error.to_string()),
        };
        peers.push(PeerReport { url, error, ..PeerReport::default() });
    }
    (drift, peers)
}

/// A record that another controller keeps.
pub(super) async fn read(replicas: &Replicas, id: &str) -> Result<Response, ErrorResponse> {
    let (client, Passed { etag, body, .. }) = find(replicas, id).await?;
    let record = serde_json::from_slice(&body).map_err(|_| {
        let why = format!("{}: {}", client.url(), ClientError::Unreadable);
        unreachable(format!("drift record {id} cannot be read at {why}"))
    })?;
    let mut response = Json(located(record, client.url())).into_response();
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Has the controller that keeps the record do something about it.
///
/// A change is taken from the machine of a controller only, for there is no login, and whoever asks
/// here is on this one. What is passed on comes from here in the eyes of the other controller: so it is
/// passed on within this machine only, where who asks could have asked that one just as well.
pub(super) async fn act(
    replicas: &Replicas,
    (id, verb): (&str, &str),
    etag: &str,
    body: Bytes,
) -> Result<Response, ErrorResponse> {
    let (client, _) = find(replicas, id).await?;
    if !client.is_on_this_machine() {
        let url = client.url();
        return Err(ErrorResponse {
            status: StatusCode::CONFLICT,
            slug: "elsewhere",
            title: "Another controller keeps it",
            detail: format!(
                "drift record {id} is kept by the controller at {url}, which takes changes from its \
                 own machine only: give kubeng drift {verb} {id} there"
            ),
        });
    }
    let path = format!("/drift/{id}/{verb}?local=true");
    let passed = client.pass(Method::POST, &path, Some(etag), body, ACT_WITHIN).await;
    let passed = passed.map_err(|error| {
        unreachable(format!("drift record {id} is kept by {}: {error}", client.url()))
    })?;
    Ok(relayed(passed))
}

/// The controller that keeps a record, and what it says of it.
async fn find(replicas: &Replicas, id: &str) -> Result<(AdminClient, Passed), ErrorResponse> {
    let unknown = || ErrorResponse::from(RecordError::Unknown(id.to_owned()));
    // It becomes a part of a path.
    if id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let mut silent = Vec::new();
    for (url, answer) in ask_all(replicas, &format!("/drift/{id}?local=true")).await {
        match (AdminClient::new(&url), answer) {
            (Ok(client), Ok(answer)) if answer.status.is_success() => return Ok((client, answer)),
            (Ok(_), Ok(answer)) if answer.status == StatusCode::NOT_FOUND => {}
            (Ok(_), Ok(answer)) => silent.push(format!("{url} answers {}", answer.status)),
            (Err(error), _) | (Ok(_), Err(error)) => silent.push(format!("{url}: {error}")),
        }
    }
    if silent.is_empty() {
        return Err(unknown());
    }
    Err(unreachable(format!(
        "drift record {id} is not kept here, and it is not known whether another controller does: {}",
        silent.join("; ")
    )))
}

/// What each of the other controllers answers, in the order of the settings.
async fn ask_all(replicas: &Replicas, path: &str) -> Vec<(String, Result<Passed, ClientError>)> {
    let mut asked = JoinSet::new();
    for (at, peer) in replicas.peers().iter().enumerate() {
        let (url, path) = (peer.url.clone(), path.to_owned());
        asked.spawn(async move {
            let answer = match AdminClient::new(&url) {
                Ok(client) => client.pass(Method::GET, &path, None, Bytes::new(), WITHIN).await,
                Err(error) => Err(error),
            };
            (at, (url, answer))
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn records(answer: Passed) -> Result<Vec<Value>, ClientError> {
    let Passed { status, body, .. } = answer;
    if !status.is_success() {
        let detail = "it does not tell its deviations".to_owned();
        return Err(ClientError::Refused { status, detail });
    }
    let mut answer: Value = serde_json::from_slice(&body).map_err(|_| ClientError::Unreadable)?;
    match answer["drift"].take() {
        Value::Array(records) => Ok(records),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Err(ClientError::Unreadable)
        }
    }
}

/// The record with the address of the controller that keeps it.
fn located(mut record: Value, url: &str) -> Value {
    if let Some(members) = record.as_object_mut() {
        members.insert("controller".to_owned(), url.into());
    }
    record
}

fn relayed(passed: Passed) -> Response {
    let Passed { status, kind, etag, body } = passed;
    let mut response = (status, Body::from(body)).into_response();
    let fields = [(header::CONTENT_TYPE, kind), (header::ETAG, etag)];
    for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn unreachable(detail: String) -> ErrorResponse {
    ErrorResponse {
        status: StatusCode::BAD_GATEWAY,
        slug: "controller-unreachable",
        title: "Another controller does not tell",
        detail,
    }
}
