//! Whatever is spoken to a Backend, the same is told about a request.

use std::net::SocketAddr;

use kubeng_config::backend::BackendProtocol;
use kubeng_proxy::{AccessLogSettings, LogTarget, ObserveSettings, ProxySettings};
use serde_json::{Map, Value};

use crate::filters::filters;
use crate::support::{Replica, nobody, serve_text, settings, talk};

/// One whole request.
const WHOLE: &str = "Content-Length: 5\r\n\r\nhello";
/// One whose body is in chunks.
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// The records of requests with these ends.
async fn records(
    given: &[&str],
    endpoints: &[SocketAddr],
    protocol: BackendProtocol,
    ends: &[&str],
) -> Vec<Map<String, Value>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLogSettings::json(LogTarget::File(path.clone()));
    let observe = ObserveSettings { access_log: Some(log), ..ObserveSettings::default() };
    let mut replica = Replica::with(ProxySettings { observe, ..settings() });
    replica.serve_as(endpoints, protocol, filters(given));
    for end in ends {
        let head = "POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\
                    User-Agent: ua\r\nReferer: http://x/y\r\nX-Request-Id: id-7\r\n";
        talk(replica.http, format!("{head}{end}").as_bytes()).await;
    }
    let facts = replica.proxy.facts();
    replica.proxy.drain().await;
    let metrics = facts.metrics();
    for line in [
        format!("kubeng_request_duration_seconds_count{{listener=\"http\"}} {}", ends.len()),
        "kubeng_requests_in_flight{listener=\"http\"} 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), ends.len(), "one line for each: {text}");
    lines
}

/// What must be equal: all fields, and all values that do not differ from one request to the next.
fn comparable(mut record: Map<String, Value>) -> Map<String, Value> {
    for name in ["time", "durationMicros", "firstByteMicros", "connectMicros", "clientPort"] {
        if let Some(value) = record.get_mut(name) {
            assert!(!value.is_null());
            *value = Value::Null;
        }
    }
    record
}

/// The record of a request to a Backend over HTTP/1.1, once it was found equal to that over HTTP/2.
async fn both(given: &[&str], endpoints: &[SocketAddr]) -> Map<String, Value> {
    let mut found = Vec::new();
    for protocol in [BackendProtocol::Http1, BackendProtocol::Http2] {
        let mut records = records(given, endpoints, protocol, &[WHOLE]).await;
        let mut record = records.remove(0);
        if !given.is_empty() {
            // Made anew for each.
            let id = record.insert("requestId".to_owned(), "given".into());
            assert!(id.as_ref().is_some_and(|id| id != "id-7"), "{id:?}");
        }
        if record.contains_key("reason") {
            // What is read of a body that nobody wants is up to the protocol.
            record.remove("requestBytes");
        }
        found.push(record);
    }
    let [http1, http2] = <[_; 2]>::try_from(found).unwrap().map(comparable);
    assert_eq!(http1, http2);
    http1
}

#[track_caller]
fn has(record: &Map<String, Value>, fields: &[(&str, Value)]) {
    for (name, value) in fields {
        assert_eq!(record.get(*name), Some(value), "{name} in {record:?}");
    }
}

#[tokio::test]
async fn an_answer_is_told_alike_over_both_versions() {
    let endpoint = [serve_text("hello").await];
    let record = both(&[], &endpoint).await;
    has(
        &record,
        &[
            ("status", 200.into()),
            ("requestBytes", 5.into()),
            ("responseBytes", 5.into()),
            ("userAgent", "ua".into()),
            ("requestId", "id-7".into()),
            ("connectMicros", Value::Null),
            ("firstByteMicros", Value::Null),
        ],
    );
    // With a Filter that looks at bodies, and in another framing, it is the same.
    for (given, end) in
        [(&[r#"{"bodyLimit":{"responseBytesMax":1000}}"#][..], WHOLE), (&[], CHUNKED)]
    {
        let other = records(given, &endpoint, BackendProtocol::Http1, &[end]).await;
        assert_eq!(
            other.into_iter().map(comparable).collect::<Vec<_>>(),
            std::slice::from_ref(&record)
        );
    }
}

#[tokio::test]
async fn edits_of_what_is_forwarded_are_not_told() {
    let edits = [
        r#"{"requestId":{"header":"x-trace"}}"#,
        r#"{"requestHeaders":{"set":[{"name":"user-agent","value":"ours"}],"remove":["referer"]}}"#,
    ];
    let record = both(&edits, &[serve_text("hello").await]).await;
    has(&record, &[("userAgent", "ua".into()), ("referer", "http://x/y".into())]);
}

#[tokio::test]
async fn failures_are_told_alike_over_both_versions() {
    let record = both(&[], &[nobody()]).await;
    has(&record, &[("status", 502.into()), ("reason", "connect_failed".into())]);
    let record = both(&[], &[]).await;
    has(&record, &[("status", 503.into()), ("reason", "no_endpoint".into())]);
}
