//! Records as spans in the JSON form of OTLP (OpenTelemetry protocol, `ExportTraceServiceRequest`).
//!
//! Ids are hexadecimal, 64 bit numbers are texts, enums are numbers, and names are lowerCamelCase,
//! as the protocol says. Attributes have the names of the semantic conventions for HTTP servers.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::record::Record;

/// One export of the spans of `records`, as the body of a request.
pub(super) fn body(records: &[Arc<Record>]) -> Vec<u8> {
    let spans: Vec<Value> = records.iter().filter_map(|record| span(record)).collect();
    let resource = attributes([
        ("service.name", Some(json!("kubeng"))),
        ("service.version", Some(json!(env!("CARGO_PKG_VERSION")))),
    ]);
    let scope = json!({ "name": "kubeng", "version": env!("CARGO_PKG_VERSION") });
    let body = json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{ "scope": scope, "spans": spans }],
        }],
    });
    body.to_string().into_bytes()
}

fn span(record: &Record) -> Option<Value> {
    let trace = record.trace?;
    let method = record.method.as_ref().map(http::Method::as_str);
    let name = match (method, record.route()) {
        (Some(method), Some(route)) => format!("{method} {}", route.rule),
        (Some(method), None) => method.to_owned(),
        (None, _) => "HTTP".to_owned(),
    };
    let mut span = Map::from_iter([
        ("traceId".to_owned(), json!(trace.trace_id())),
        ("spanId".to_owned(), json!(trace.span_id())),
        ("flags".to_owned(), json!(trace.flags())),
        ("name".to_owned(), json!(name)),
        ("kind".to_owned(), json!(SERVER)),
        ("startTimeUnixNano".to_owned(), json!(nanos(record.began))),
        ("endTimeUnixNano".to_owned(), json!(nanos(record.ended()))),
        ("attributes".to_owned(), Value::Array(of_record(record))),
    ]);
    if let Some(parent) = trace.parent_id() {
        span.insert("parentSpanId".to_owned(), json!(parent));
    }
    if record.is_failure() {
        let message = record.reason.map(|reason| reason.to_string()).unwrap_or_default();
        span.insert("status".to_owned(), json!({ "code": ERROR, "message": message }));
    }
    Some(Value::Object(span))
}

fn of_record(record: &Record) -> Vec<Value> {
    let text = |value: Option<&str>| value.map(|value| json!(value));
    let version = format!("{:?}", record.version);
    let endpoint = record.endpoint;
    attributes([
        ("http.request.method", text(record.method.as_ref().map(http::Method::as_str))),
        ("http.response.status_code", record.status.map(|status| json!(status.as_u16()))),
        ("url.path", text(Some(record.texts.path()))),
        ("url.query", text(record.texts.query())),
        ("url.scheme", text(Some(record.scheme.name()))),
        ("server.address", text(record.host.as_ref().map(|host| host.as_str()))),
        ("client.address", Some(json!(record.client.ip().to_string()))),
        ("network.protocol.version", text(version.strip_prefix("HTTP/"))),
        ("user_agent.original", text(record.texts.user_agent())),
        ("http.request.body.size", Some(json!(record.body_bytes.0))),
        ("http.response.body.size", Some(json!(record.body_bytes.1))),
        ("network.peer.address", endpoint.map(|endpoint| json!(endpoint.ip().to_string()))),
        ("network.peer.port", endpoint.map(|endpoint| json!(endpoint.port()))),
        ("error.type", record.reason.map(|reason| json!(reason.to_string()))),
        ("k8s.namespace.name", text(record.namespace().map(|namespace| &**namespace))),
        ("kubeng.listener", text(record.listener.as_ref().map(|id| id.as_str()))),
        ("kubeng.route", record.route().map(|id| json!(id.to_string()))),
        ("kubeng.backend", record.backend.as_ref().map(|id| json!(id.to_string()))),
        ("kubeng.tries", Some(json!(record.tries))),
        ("kubeng.request_id", text(record.texts.request_id())),
    ])
}

fn attributes<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Vec<Value> {
    let pair = |(key, value): (&str, Option<Value>)| {
        let value = value?;
        let value = match value.as_u64() {
            Some(number) => json!({ "intValue": number.to_string() }),
            None => json!({ "stringValue": value }),
        };
        Some(json!({ "key": key, "value": value }))
    };
    pairs.into_iter().filter_map(pair).collect()
}

fn nanos(at: SystemTime) -> String {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// `SPAN_KIND_SERVER`
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`
const ERROR: u8 = 2;
