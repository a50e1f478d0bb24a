//! `GET /api/v1/requests` and `/api/v1/request-keys`: what was served, and what usually comes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{RawQuery, State};
use jiff::Timestamp;
use kubeng_config::observed::{KeyQuery, RecordQuery, StatusQuery};
use serde_json::{Value, json};

use super::computed;
use crate::problem::ErrorResponse;
use crate::server::LocalReplica;

pub(crate) async fn recent(
    State(replica): State<Arc<dyn LocalReplica>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorResponse> {
    let query = request_query(&query.unwrap_or_default(), SystemTime::now())
        .map_err(ErrorResponse::malformed)?;
    let answer = move || {
        let requests = replica.requests(&query);
        // As many as were asked for: there may be more.
        let is_cut = requests.len() == query.limit;
        Json(json!({ "requests": requests, "mayHaveMore": is_cut }))
    };
    computed(answer).await
}

pub(crate) async fn keys(
    State(replica): State<Arc<dyn LocalReplica>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorResponse> {
    let query = key_query(&query.unwrap_or_default()).map_err(ErrorResponse::malformed)?;
    computed(move || Json(replica.request_keys(&query))).await
}

fn request_query(query: &str, now: SystemTime) -> Result<RecordQuery, String> {
    let mut read = RecordQuery { limit: 100, ..RecordQuery::default() };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "since" => read.since = Some(moment("since", &value, now)?),
            "until" => read.until = Some(moment("until", &value, now)?),
            "host" => read.host = Some(value.to_ascii_lowercase()),
            "status" => read.status = Some(status(&value)?),
            "namespace" => read.namespace = Some(value.into_owned()),
            "route" => read.route = Some(value.into_owned()),
            "limit" => read.limit = limit(&value, REQUESTS_MAX)?,
            other => {
                let known = "since, until, host, status, namespace, route and limit";
                return Err(format!("the parameter {other:?} is not known; there are {known}"));
            }
        }
    }
    Ok(read)
}

fn key_query(query: &str) -> Result<KeyQuery, String> {
    let mut read = KeyQuery { limit: 1000, ..KeyQuery::default() };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "host" => read.host = Some(value.to_ascii_lowercase()),
            "listener" => read.listener = Some(value.into_owned()),
            "limit" => read.limit = limit(&value, KEYS_MAX)?,
            other => {
                let known = "host, listener and limit";
                return Err(format!("the parameter {other:?} is not known; there are {known}"));
            }
        }
    }
    Ok(read)
}

/// A moment in RFC 3339, or how long ago it was: `90s`, `15m`, `2h`.
fn moment(name: &str, text: &str, now: SystemTime) -> Result<SystemTime, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.into());
    }
    let ago = || {
        let seconds = match text.chars().last()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        let count: u32 = text.get(..text.len() - 1)?.parse().ok()?;
        now.checked_sub(Duration::from_secs(u64::from(count) * seconds))
    };
    ago().ok_or_else(|| {
        format!("{name} is {text:?}; write a moment such as 2026-03-05T17:03:09Z, or 15m for how long ago")
    })
}

fn status(text: &str) -> Result<StatusQuery, String> {
    if text == "none" {
        return Ok(StatusQuery::Unanswered);
    }
    if let Some(class @ ("1" | "2" | "3" | "4" | "5")) = text.strip_suffix("xx") {
        return Ok(StatusQuery::Class(class.parse().unwrap_or_default()));
    }
    let code = text.parse().ok().filter(|code| (100..1000).contains(code));
    code.map(StatusQuery::Code).ok_or_else(|| format!("status is {text:?}; write 404, 5xx or none"))
}

fn limit(text: &str, max: usize) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| format!("limit is {text:?}; write a number from 1 to {max}"))
}

/// The most requests of one answer.
const REQUESTS_MAX: usize = 1_000;
/// The most keys of one answer.
const KEYS_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &str) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let shown = match request_query(query, now) {
            Ok(read) => {
                format!("{:?} {:?} {} {:?}", read.since, read.status, read.limit, read.host)
            }
            Err(error) => error,
        };
        assert!(shown.contains(expected), "{query}: {shown}");
    }

    #[test]
    fn what_is_asked_is_read_strictly() {
        check("", "None None 100 None");
        check("since=1970-01-01T00:01:00Z", "tv_sec: 60,");
        check("since=100m", "tv_sec: 4000,");
        check("since=1d", "write a moment such as");
        check("since=%C3%A4", "write a moment such as");
        check("since=99999999999h", "write a moment such as");
        check("status=5xx", "Class(5)");
        check("status=404", "Code(404)");
        check("status=none", "Unanswered");
        check("status=6xx", "write 404, 5xx or none");
        check("status=9999", "write 404, 5xx or none");
        check("limit=0", "from 1 to 1000");
        check("limit=1001", "from 1 to 1000");
        check("host=A.Example", "\"a.example\"");
        check("tenant=x", "there are since");
        assert!(key_query("status=5xx").unwrap_err().contains("host, listener and limit"));
    }
}
