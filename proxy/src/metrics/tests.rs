use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::traffic::Outcome;
use super::*;

fn gauges() -> Gauges {
    Gauges {
        connections: 3,
        table_age_seconds: 4,
        table_digest: "abc".to_owned(),
        access_records_dropped: 0,
        endpoints: Counts { unwell: 5, ..Counts::default() },
        spans: (7, 8),
    }
}

fn outcome(status: u16, millis: u64) -> Outcome {
    Outcome {
        status: StatusCode::from_u16(status).ok(),
        took: Duration::from_millis(millis),
        first_byte: Some(Duration::from_millis(millis / 2)),
        connect: Some(Duration::from_micros(250)),
        body_bytes: (10, 20),
        tries: 2,
    }
}

#[track_caller]
fn check(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|other| other == *line), "{line} in {text}");
    }
}

#[test]
fn workers_are_summed() {
    let metrics = Metrics::new(2);
    for worker in &metrics.workers {
        worker.retries.add(2);
        worker.refused(Rule::BareLf);
        worker.failed(Reason::ConnectFailed);
        worker.failed(Reason::Input(Rule::BareLf));
        worker.turned_away(TurnedAway::Address);
        worker.handshake(Handshake::Late);
    }
    let _idle = metrics.workers[1].idle.enter();
    let listener = metrics.of_listener(&"http".parse().unwrap());
    listener.traffic.begun(0);
    listener.traffic.begun(1);
    listener.traffic.ended(1);
    listener.traffic.count(0, &outcome(200, 3));
    listener.traffic.count(1, &outcome(204, 7));
    check(
        &metrics.render(&gauges()),
        &[
            "kubeng_backend_retries_total 4",
            "kubeng_requests_refused_total{rule=\"bare_lf\"} 2",
            "kubeng_request_failures_total{reason=\"connect_failed\"} 2",
            "kubeng_tls_handshakes_total{outcome=\"timeout\"} 2",
            "kubeng_connections_idle 1",
            "kubeng_connections_refused_total{rule=\"address_full\"} 2",
            "kubeng_endpoints{health=\"unwell\"} 5",
            "kubeng_connections_open 3",
            "kubeng_spans_dropped_total 8",
            "kubeng_table_info{digest=\"abc\"} 1",
            "kubeng_requests_total{listener=\"http\",status=\"2xx\"} 2",
            "kubeng_requests_in_flight{listener=\"http\"} 1",
            "kubeng_request_duration_seconds_bucket{listener=\"http\",le=\"0.0025\"} 0",
            "kubeng_request_duration_seconds_bucket{listener=\"http\",le=\"0.005\"} 1",
            "kubeng_request_duration_seconds_bucket{listener=\"http\",le=\"+Inf\"} 2",
            "kubeng_request_duration_seconds_sum{listener=\"http\"} 0.010000",
            "kubeng_request_body_bytes_total{listener=\"http\"} 20",
        ],
    );
}

#[test]
fn what_is_too_many_is_counted_together() {
    let metrics = Metrics::with(1, MetricsDetail { series_max: 2, routes: true });
    let held: Vec<_> = (0..5)
        .map(|number| {
            let backend = metrics.of_backend(&format!("Service/n/b{number}:80").parse().unwrap());
            let route = metrics.of_route(&format!("Ingress/n{number}/r#/").parse().unwrap());
            backend.count(0, &outcome(200, 1));
            route.tenant.count(0, &outcome(503, 1));
            route.own.as_ref().unwrap().count(0, &outcome(200, 1));
            (backend, route)
        })
        .collect();
    let text = metrics.render(&gauges());
    check(
        &text,
        &[
            "kubeng_backend_requests_total{backend=\"Service/n/b1:80\",status=\"2xx\"} 1",
            "kubeng_backend_requests_total{backend=\"other\",status=\"2xx\"} 3",
            "kubeng_backend_connect_seconds_sum{backend=\"other\"} 0.000750",
            "kubeng_backend_tries_total{backend=\"other\"} 6",
            "kubeng_tenant_requests_total{namespace=\"n0\",status=\"5xx\"} 1",
            "kubeng_tenant_requests_total{namespace=\"other\",status=\"5xx\"} 3",
            "kubeng_route_requests_total{route=\"other\",status=\"2xx\"} 3",
        ],
    );
    assert!(!text.contains("b2:80"), "{text}");
    drop(held);
    let text = metrics.render(&gauges());
    assert!(!text.contains("b1:80"), "what is not served any more is not shown: {text}");
}

#[test]
fn labels_are_escaped() {
    let metrics = Metrics::with(1, MetricsDetail { series_max: 2, routes: true });
    let route = metrics.of_route(&"Ingress/n/r#a\"b\\c\nd".parse().unwrap());
    route.own.as_ref().unwrap().count(0, &outcome(200, 1));
    let label = "{route=\"Ingress/n/r#a\\\"b\\\\c\\nd\",status=\"2xx\"}";
    check(&metrics.render(&gauges()), &[&format!("kubeng_route_requests_total{label} 1")]);
}

#[test]
fn the_last_hit_is_kept_while_the_route_is_served() {
    let metrics = Metrics::new(1);
    let id = "Ingress/n/r#/".parse().unwrap();
    let route = metrics.of_route(&id);
    assert_eq!(metrics.last_hit(&id), None);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    route.hit(now);
    let newer = metrics.of_route(&id);
    drop(route);
    assert_eq!(metrics.last_hit(&id), Some(now));
    drop(newer);
    assert_eq!(metrics.last_hit(&id), None);
}

#[test]
fn every_metric_is_on_the_list_and_every_entry_is_rendered() {
    let metrics = Metrics::with(1, MetricsDetail { series_max: 2, routes: true });
    let text = metrics.render(&gauges());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let rendered: Vec<&str> = types.collect();
    let listed: Vec<String> = super::metrics()
        .map(|metric| format!("{} {}", metric.name, metric.kind.as_str()))
        .collect();
    assert_eq!(rendered, listed);
    let names: BTreeSet<&str> = super::metrics().map(|metric| metric.name).collect();
    assert_eq!(names.len(), listed.len(), "no name stands twice");
}
