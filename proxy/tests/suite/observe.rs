//! What is told about requests: log, metrics, spans, recent requests, keys, debug headers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use kubeng_config::matching::{FieldName, HeaderMatch, HostMatch, Match, PathMatch, TextMatch};
use kubeng_config::observed::{KeyQuery, RecordQuery, StatusQuery};
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::policy::retry::Retry;
use kubeng_config::route::{Action, Attachment, Rank, Route};
use kubeng_proxy::{
    AccessLogSettings, DebugAccess, LogTarget, MetricsDetail, ObserveSettings, ProxySettings,
    Queries, TraceSettings,
};
use serde_json::Value;

use crate::support::{
    Answer, Replica, get, nobody, policy, route_id, serve, serve_echo, serve_text, settings, spawn,
    talk,
};

/// A replica that tells like this.
fn replica(observe: ObserveSettings) -> Replica {
    Replica::with(ProxySettings { observe, ..settings() })
}

/// Waits until something is there: records are made behind the answer.
async fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "it never came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One request with these header lines, on a connection of its own.
async fn ask(replica: &Replica, target: &str, headers: &str) -> Answer {
    let text =
        format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{headers}\r\n");
    Answer::read(&talk(replica.http, text.as_bytes()).await)
}

fn log_file(folder: &tempfile::TempDir, format: &str, sample: f64) -> (PathBuf, AccessLogSettings) {
    let path = folder.path().join("access.log");
    let to = LogTarget::File(path.clone());
    (path, AccessLogSettings { to, format: format.parse().unwrap(), sample })
}

#[tokio::test]
async fn every_request_is_in_the_log_when_the_replica_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = log_file(&folder, "json", 1.0);
    let mut replica = replica(ObserveSettings { access_log: Some(log), ..Default::default() });
    replica.serve(&[serve_text("hello").await]);
    for number in 0..50 {
        let headers =
            "User-Agent: a\tb\"c\r\nReferer: http://x/y?token=1\r\nX-Request-Id: id-7\r\n";
        assert_eq!(ask(&replica, &format!("/p{number}?token=2"), headers).await.status, 200);
    }
    talk(replica.http, b"GET / HTTP/1.1\nHost: a\r\n\r\n").await;
    replica.proxy.drain().await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 51, "{text}");
    assert!(!text.contains("token"), "{text}");
    let line = lines.iter().find(|line| line["path"] == "/p49").unwrap();
    for (field, value) in [
        ("status", Value::from(200)),
        ("method", "GET".into()),
        ("host", "a.example".into()),
        ("protocol", "HTTP/1.1".into()),
        ("client", "127.0.0.1".into()),
        ("listener", "http".into()),
        ("namespace", "test".into()),
        ("route", "Ingress/test/all#default".into()),
        ("backend", "Service/test/web:80".into()),
        ("tries", 1.into()),
        ("responseBytes", 5.into()),
        ("requestBytes", 0.into()),
        ("userAgent", "a\tb\"c".into()),
        ("referer", "http://x/y".into()),
        ("requestId", "id-7".into()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    let times = ["firstByteMicros", "durationMicros"].map(|name| line[name].as_u64().unwrap());
    assert!(0 < times[0] && times[0] <= times[1], "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z') && line.get("reason").is_none());
    let refused = lines.iter().find(|line| line["status"] == 400).unwrap();
    assert_eq!(refused["reason"], "input.bare_lf");
}

#[tokio::test]
async fn tls_and_http2_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let format = "$scheme $ssl_protocol $ssl_server_name $server_protocol $ssl_cipher $uri";
    let (path, log) = log_file(&folder, format, 1.0);
    let mut replica = replica(ObserveSettings { access_log: Some(log), ..Default::default() });
    replica.serve(&[serve_text("hello").await]);
    let (stream, _) = crate::tls::connect(&replica, "a.example", b"h2").await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    spawn(async move { drop(connection.await) });
    let request = Request::get("https://a.example/secure").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 200);
    drop(client);
    replica.proxy.drain().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("https TLSv1.3 a.example HTTP/2.0 TLS_"), "{text}");
    assert!(text.ends_with(" /secure\n"), "{text}");
}

#[tokio::test]
async fn sampling_keeps_every_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = log_file(&folder, "$uri $status $reason", 0.0);
    let mut replica = replica(ObserveSettings { access_log: Some(log), ..Default::default() });
    replica.serve(&[serve_text("hello").await]);
    for _ in 0..10 {
        get(replica.http, "a", "/fine").await;
    }
    replica.set_endpoints(&[nobody()]);
    assert_eq!(get(replica.http, "a", "/refused").await.status, 502);
    replica.set_endpoints(&[]);
    assert_eq!(get(replica.http, "a", "/empty").await.status, 503);
    replica.proxy.drain().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "/refused 502 connect_failed\n/empty 503 no_endpoint\n");
}

#[tokio::test]
async fn metrics_count_by_listener_backend_tenant_and_route() {
    let metrics = MetricsDetail { routes: true, ..MetricsDetail::default() };
    let mut replica = replica(ObserveSettings { metrics, ..Default::default() });
    replica.change([policy(
        "default",
        Policy { retry: Retry { retries_max: 1, ..Retry::default() }, ..Policy::default() },
    )]);
    replica.serve(&[serve_text("hello").await]);
    for _ in 0..3 {
        get(replica.http, "a", "/").await;
    }
    get(replica.http, "a b", "/").await;
    let facts = replica.proxy.facts();
    let backend = "backend=\"Service/test/web:80\"";
    let lines = [
        "kubeng_requests_total{listener=\"http\",status=\"2xx\"} 3".to_owned(),
        "kubeng_request_duration_seconds_count{listener=\"http\"} 3".to_owned(),
        "kubeng_request_duration_seconds_bucket{listener=\"http\",le=\"+Inf\"} 3".to_owned(),
        "kubeng_request_first_byte_seconds_count{listener=\"http\"} 3".to_owned(),
        "kubeng_response_body_bytes_total{listener=\"http\"} 15".to_owned(),
        "kubeng_requests_in_flight{listener=\"http\"} 0".to_owned(),
        format!("kubeng_backend_requests_total{{{backend},status=\"2xx\"}} 3"),
        format!("kubeng_backend_tries_total{{{backend}}} 3"),
        format!("kubeng_backend_requests_in_flight{{{backend}}} 0"),
        "kubeng_tenant_requests_total{namespace=\"test\",status=\"2xx\"} 3".to_owned(),
        "kubeng_route_requests_total{route=\"Ingress/test/all#default\",status=\"2xx\"} 3"
            .to_owned(),
        "kubeng_requests_refused_total{rule=\"authority\"} 1".to_owned(),
    ];
    let text = until(|| {
        let text = facts.metrics();
        lines.iter().all(|line| text.lines().any(|other| other == line)).then_some(text)
    });
    let text = text.await;
    let digest = format!("kubeng_table_info{{digest=\"{}\"}} 1", facts.digest());
    assert!(text.contains(&digest), "{digest} in {text}");
    // Each rendered name is on the list.
    let names: Vec<&str> = kubeng_proxy::metrics().map(|metric| metric.name).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(names.contains(&name) || stem.is_some_and(|stem| names.contains(&stem)), "{line}");
    }
}

#[tokio::test]
async fn requests_in_flight_and_idle_connections_are_seen() {
    let mut replica = Replica::start();
    let (release, held) = tokio::sync::watch::channel(false);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
        let _ = held.clone().wait_for(|go| *go).await;
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = tcp.read(&mut [0; 1]).await;
    });
    replica.serve(&[address]);
    let facts = replica.proxy.facts();
    let has = |line: &'static str| {
        let facts = facts.clone();
        until(move || facts.metrics().lines().any(|other| other == line).then_some(()))
    };
    let idle = tokio::net::TcpStream::connect(replica.http).await.unwrap();
    has("kubeng_connections_idle 1").await;
    let (asked, ()) = tokio::join!(get(replica.http, "a", "/"), async {
        has("kubeng_requests_in_flight{listener=\"http\"} 1").await;
        has("kubeng_backend_requests_in_flight{backend=\"Service/test/web:80\"} 1").await;
        release.send_replace(true);
    });
    assert_eq!(asked.body, "ok");
    has("kubeng_requests_in_flight{listener=\"http\"} 0").await;
    drop(idle);
    has("kubeng_connections_idle 0").await;
}

#[tokio::test]
async fn handshakes_are_counted_by_outcome_and_loops_are_measured() {
    let replica = Replica::start();
    talk(replica.https, b"this is no TLS at all\r\n\r\n").await;
    let facts = replica.proxy.facts();
    until(|| {
        let text = facts.metrics();
        let failed = "kubeng_tls_handshakes_total{outcome=\"failed\"} 1";
        let is_measured = text.lines().any(|line| {
            let count = line.strip_prefix("kubeng_worker_lag_seconds_count ");
            count.is_some_and(|count| count != "0")
        });
        (text.contains(failed) && is_measured).then_some(())
    })
    .await;
}

/// A collector of spans that keeps what it got. The first exports are answered with these statuses.
async fn collector(refusals: &'static [u16]) -> (std::net::SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = got.clone();
    let tried = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let address = serve(move |request: Request<Bytes>| {
        assert_eq!(request.uri().path(), "/v1/traces");
        assert_eq!(request.headers()["content-type"], "application/json");
        let number = tried.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let Some(status) = refusals.get(number) {
            return Response::builder().status(*status).body(Full::default()).unwrap();
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        kept.lock().unwrap().extend(spans);
        Response::new(Full::from("{}"))
    });
    (address.await, got)
}

fn tracing(to: std::net::SocketAddr, sample: f64) -> ObserveSettings {
    let to = format!("http://{to}").parse().unwrap();
    ObserveSettings { tracing: Some(TraceSettings { to, sample }), ..Default::default() }
}

fn attribute(span: &Value, key: &str) -> String {
    let all = span["attributes"].as_array().unwrap();
    let value = all.iter().find(|attribute| attribute["key"] == key).map(|found| &found["value"]);
    let value = value.and_then(|value| value.as_object()?.values().next()?.as_str());
    value.unwrap_or_default().to_owned()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_trace_goes_through_to_the_backend_and_the_collector() {
    let (address, spans) = collector(&[503]).await;
    let mut replica = replica(tracing(address, 1.0));
    replica.serve(&[serve_echo().await]);
    let headers = format!(
        "traceparent: 00-{TRACE}-00f067aa0ba902b7-00\r\ntracestate: a=1\r\ntracestate: b=2\r\n"
    );
    let answer = ask(&replica, "/x?token=1", &headers).await;
    let line = answer.body.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
    let parts: Vec<&str> = line.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"), "{line}");
    assert_ne!(parts[2], "00f067aa0ba902b7");
    assert!(answer.body.contains("tracestate: a=1"), "{}", answer.body);
    let answer = ask(&replica, "/y", "traceparent: nonsense\r\ntracestate: a=1\r\n").await;
    let begun = answer.body.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
    assert!(!begun.contains("nonsense") && begun.ends_with("-03"), "{begun}");
    assert!(!answer.body.contains("tracestate"), "{}", answer.body);
    let got = until(|| Some(spans.lock().unwrap().clone()).filter(|spans| spans.len() == 2)).await;
    let span = got.iter().find(|span| span["traceId"] == TRACE).unwrap();
    assert_eq!(span["spanId"], parts[2]);
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!((&span["kind"], &span["flags"]), (&2.into(), &1.into()));
    let nanos = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
    assert!(nanos("startTimeUnixNano") < nanos("endTimeUnixNano"));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/x"),
        ("server.address", "a.example"),
        ("kubeng.route", "Ingress/test/all#default"),
    ] {
        assert_eq!(attribute(span, key), value, "{span}");
    }
    assert!(!span.to_string().contains("token"), "{span}");
    let metrics = replica.proxy.facts().metrics();
    assert!(metrics.contains("\nkubeng_spans_dropped_total 0\n"), "{metrics}");
}

#[tokio::test]
async fn strangers_do_not_decide_what_is_exported_and_the_end_sends_the_rest() {
    let (address, spans) = collector(&[]).await;
    let mut replica = replica(tracing(address, 0.0));
    replica.serve(&[serve_echo().await]);
    let answer =
        ask(&replica, "/", &format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n")).await;
    assert!(answer.body.contains(&format!("traceparent: 00-{TRACE}-")), "{}", answer.body);
    replica.proxy.drain().await;
    assert!(spans.lock().unwrap().is_empty());
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let observe = tracing(address, 0.0);
    let mut replica =
        Replica::with(ProxySettings { observe, trusted_proxies: trusted, ..settings() });
    replica.serve(&[serve_echo().await]);
    ask(&replica, "/", &format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n")).await;
    ask(&replica, "/", &format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-00\r\n")).await;
    replica.proxy.drain().await;
    assert_eq!(spans.lock().unwrap().len(), 1, "what waited is sent before the end");
}

#[tokio::test]
async fn a_collector_that_refuses_costs_spans_and_nothing_else() {
    let (address, spans) = collector(&[400]).await;
    let mut replica = replica(tracing(address, 1.0));
    replica.serve(&[serve_text("hello").await]);
    assert_eq!(ask(&replica, "/", "").await.status, 200);
    let facts = replica.proxy.facts();
    until(|| facts.metrics().contains("\nkubeng_spans_dropped_total 1\n").then_some(())).await;
    assert!(spans.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_tracing_the_context_passes_untouched() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let answer = ask(&replica, "/", "traceparent: whatever\r\ntracestate: ,,\r\n").await;
    assert!(answer.body.contains("traceparent: whatever\n"), "{}", answer.body);
    assert!(answer.body.contains("tracestate: ,,\n"), "{}", answer.body);
}

#[tokio::test]
async fn recent_requests_are_found_by_what_they_were() {
    let observe = ObserveSettings { queries: Queries::Keep, ..Default::default() };
    let mut replica = replica(observe);
    replica.serve(&[serve_text("hello").await]);
    let before = SystemTime::now();
    for number in 0..20 {
        get(replica.http, "a.example", &format!("/a{number}?q=1")).await;
    }
    replica.set_endpoints(&[]);
    get(replica.http, "b.example", "/b").await;
    let facts = replica.proxy.facts();
    let all = RecordQuery { limit: 100, ..RecordQuery::default() };
    let found = until(|| Some(facts.requests(&all)).filter(|found| found.len() == 21)).await;
    assert_eq!(found[0]["path"], "/b", "the newest first");
    assert_eq!(found[20]["path"], "/a0");
    assert_eq!(found[20]["query"], "q=1");
    assert!(!found[0].to_string().contains("hello"));
    let count = |query: RecordQuery| facts.requests(&query).len();
    let status = |status| RecordQuery { status: Some(status), ..all.clone() };
    assert_eq!(count(status(StatusQuery::Class(5))), 1);
    assert_eq!(count(status(StatusQuery::Code(200))), 20);
    assert_eq!(count(status(StatusQuery::Unanswered)), 0);
    assert_eq!(count(RecordQuery { host: Some("b.example".into()), ..all.clone() }), 1);
    assert_eq!(count(RecordQuery { namespace: Some("test".into()), ..all.clone() }), 21);
    assert_eq!(count(RecordQuery { namespace: Some("other".into()), ..all.clone() }), 0);
    assert_eq!(count(RecordQuery { route: Some(route_id("all").to_string()), ..all.clone() }), 21);
    assert_eq!(count(RecordQuery { until: Some(before), ..all.clone() }), 0);
    assert_eq!(count(RecordQuery { since: Some(before), ..all.clone() }), 21);
    assert_eq!(count(RecordQuery { limit: 5, ..all.clone() }), 5);
}

#[tokio::test]
async fn the_last_hit_of_a_route_outlives_its_changes() {
    let mut replica = Replica::start();
    let address = serve_text("hello").await;
    replica.serve(&[address]);
    let facts = replica.proxy.facts();
    assert_eq!(facts.last_hit(&route_id("all")), None);
    get(replica.http, "a", "/").await;
    let hit = facts.last_hit(&route_id("all")).unwrap();
    assert!(hit.elapsed().unwrap() < Duration::from_secs(60));
    replica.serve(&[address]);
    assert_eq!(facts.last_hit(&route_id("all")), Some(hit));
    assert_eq!(facts.last_hit(&route_id("none")), None);
}

/// A Route for requests of `a.example` whose header has this value.
fn canary(header: &'static str) -> kubeng_config::delta::AnyPart {
    let name = FieldName(http::HeaderName::from_static(header));
    let wanted = HeaderMatch { name, value: TextMatch::Exact("on".into()) };
    let path = PathMatch::Prefix("/".parse().unwrap());
    let host: HostMatch = "a.example".parse().unwrap();
    let value = Route {
        rank: Rank { created: 0, rule: 0 },
        attached: vec![Attachment { listener: "http".parse().unwrap(), hosts: vec![host] }],
        matches: vec![Match { headers: vec![wanted], ..Match::of_path(path) }],
        filters: vec![],
        policy: "default".parse().unwrap(),
        action: Action::Forward(vec![crate::support::to("web")]),
    };
    kubeng_config::delta::AnyPart::Route(route_id(header), Part::new(value))
}

#[tokio::test]
async fn request_keys_hold_what_routing_looks_at() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    replica.change([canary("x-canary"), canary("cookie")]);
    for path in ["/a/./b?token=1", "/a/b", "/a/b"] {
        ask(&replica, path, "X-Other: secret\r\nCookie: session=secret\r\n").await;
    }
    ask(&replica, "/a/b", "X-Canary: on\r\n").await;
    get(replica.http, "b.example", "/").await;
    let facts = replica.proxy.facts();
    let all = KeyQuery { limit: 100, ..KeyQuery::default() };
    let read = |query: &KeyQuery| {
        let read = facts.request_keys(query);
        (read["keys"].as_array().unwrap().clone(), read)
    };
    let sum = |keys: &[Value]| keys.iter().map(|key| key["count"].as_u64().unwrap()).sum::<u64>();
    let (keys, whole) = until(|| Some(read(&all)).filter(|(keys, _)| sum(keys) == 5)).await;
    assert_eq!(keys.len(), 3, "{whole}");
    assert!(
        !whole.to_string().contains("secret") && !whole.to_string().contains("token"),
        "{whole}"
    );
    let first = &keys[0];
    assert_eq!((&first["count"], &first["error"]), (&3.into(), &0.into()), "{whole}");
    assert_eq!((&first["path"], &first["host"]), (&"/a/b".into(), &"a.example".into()), "{whole}");
    assert_eq!((&first["listener"], &first["method"]), (&"http".into(), &"GET".into()));
    assert_eq!(first["headers"], serde_json::json!({ "cookie": "present" }), "{whole}");
    let canary = keys.iter().find(|key| key["headers"]["x-canary"]["hash"].is_string());
    let canary = canary.unwrap();
    assert_eq!(canary["count"], 1, "{whole}");
    let hash = facts.value_hash("on").unwrap();
    assert_eq!(canary["headers"]["x-canary"]["hash"], hash, "an exact match can be replayed");
    assert_ne!(facts.value_hash("off").unwrap(), hash);
    let (of_host, _) = read(&KeyQuery { host: Some("b.example".into()), ..all });
    assert_eq!(of_host.len(), 1);
}

#[tokio::test]
async fn many_requests_are_all_counted_for_planning() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let mut text = String::new();
    for number in 0..700 {
        let end = if number == 699 { "Connection: close\r\n" } else { "" };
        text.push_str(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n{end}\r\n", number % 7));
    }
    talk(replica.http, text.as_bytes()).await;
    let facts = replica.proxy.facts();
    let query = KeyQuery { limit: 100, ..KeyQuery::default() };
    until(|| {
        let read = facts.request_keys(&query);
        let counts = read["keys"].as_array()?.iter().map(|key| key["count"].as_u64());
        (counts.collect::<Vec<_>>() == vec![Some(100); 7]).then_some(())
    })
    .await;
    assert_eq!(facts.request_keys(&query)["missed"], 0);
}

#[tokio::test]
async fn what_is_switched_off_keeps_nothing() {
    let observe =
        ObserveSettings { recent_bytes_max: 0, request_keys_max: 0, ..Default::default() };
    let mut replica = replica(observe);
    replica.serve(&[serve_text("hello").await]);
    get(replica.http, "a", "/").await;
    let facts = replica.proxy.facts();
    until(|| {
        facts.metrics().contains("kubeng_requests_in_flight{listener=\"http\"} 0").then_some(())
    })
    .await;
    assert!(facts.requests(&RecordQuery { limit: 9, ..RecordQuery::default() }).is_empty());
    assert!(facts.request_keys(&KeyQuery::default()).is_null());
}

const SECRET: &str = "a-secret-of-the-test";

#[tokio::test]
async fn debug_headers_are_for_those_who_may() {
    let debug = Some(DebugAccess::new(Some(SECRET), vec![]).unwrap());
    let mut replica = replica(ObserveSettings { debug, ..Default::default() });
    let address = serve_echo().await;
    replica.serve(&[address]);
    let asks = "X-Kubeng-Debug: 1\r\n";
    let knows = format!("{asks}X-Kubeng-Debug-Secret: {SECRET}\r\n");
    let answer = ask(&replica, "/", &knows).await;
    for line in [
        "x-kubeng-route: ingress/test/all#default".to_owned(),
        "x-kubeng-backend: service/test/web:80".to_owned(),
        format!("x-kubeng-endpoint: {address}"),
    ] {
        assert!(answer.head.contains(&line), "{line} in {}", answer.head);
    }
    let timing = answer.head.lines().find_map(|line| line.strip_prefix("server-timing: ")).unwrap();
    let names: Vec<&str> =
        timing.split(", ").filter_map(|entry| entry.split(";dur=").next()).collect();
    assert_eq!(names, ["connect", "backend", "total"], "{timing}");
    assert!(!answer.body.contains("debug") && !answer.body.contains(SECRET), "{}", answer.body);
    replica.set_endpoints(&[]);
    let answer = ask(&replica, "/", &knows).await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("x-kubeng-backend: "), "errors of ours, too: {}", answer.head);
    replica.set_endpoints(&[address]);
    for headers in [asks, "X-Kubeng-Debug: 1\r\nX-Kubeng-Debug-Secret: a-guess-of-the-test\r\n"] {
        let answer = ask(&replica, "/", headers).await;
        assert!(!answer.head.contains("x-kubeng-") && !answer.head.contains("server-timing"));
        assert!(!answer.body.contains("debug"), "it is stripped: {}", answer.body);
    }
}

#[tokio::test]
async fn without_a_setting_nobody_sees_anything_and_the_header_is_stripped() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let answer = ask(&replica, "/", "X-Kubeng-Debug: 1\r\nX-Kubeng-Debug-Secret: x\r\n").await;
    assert!(!answer.head.contains("x-kubeng-"), "{}", answer.head);
    assert!(!answer.body.contains("debug"), "{}", answer.body);
}
