//! Every metric of the data plane: the list is the reference page, the order, and the test.

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Counts by upper bound, with sum and count.
    Histogram,
    /// Sum and count.
    Summary,
}

impl MetricKind {
    /// The word in `# TYPE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says, with its unit.
    pub help: &'static str,
}

/// Declares metrics, and the list of them.
macro_rules! metrics {
    ($($constant:ident, $name:literal, $kind:ident, $labels:expr, $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            labels: &$labels,
            help: $help,
        };)*

        /// All that are rendered by themselves, in order.
        pub(super) const LIST: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    CONNECTIONS_OPEN, "kubeng_connections_open", Gauge, [], "Open connections";
    CONNECTIONS_IDLE, "kubeng_connections_idle", Gauge, [],
        "Open HTTP/1 connections that wait for a request";
    TABLE, "kubeng_table_info", Gauge, ["digest"], "The digest of the table that serves; always 1";
    TABLE_AGE, "kubeng_table_age_seconds", Gauge, [],
        "Seconds since the table that serves was put in place";
    WORKER_LAG, "kubeng_worker_lag_seconds", Histogram, [],
        "How much later than asked for a timer of a worker ran";
    WORKER_LAG_LAST, "kubeng_worker_lag_last_seconds", Gauge, ["worker"],
        "The newest of these times";
    ACCESS_DROPPED, "kubeng_access_records_dropped_total", Counter, [],
        "Lines of the access log dropped because the queue was full or nobody could write them";
    SPANS_EXPORTED, "kubeng_spans_exported_total", Counter, [], "Spans that the collector took";
    SPANS_DROPPED, "kubeng_spans_dropped_total", Counter, [],
        "Spans dropped because the queue was full or the collector did not take them";
    ENDPOINTS, "kubeng_endpoints", Gauge, ["health"],
        "Endpoints of all backends by what they said when they were asked";
    ENDPOINTS_EJECTED, "kubeng_endpoints_ejected", Gauge, [],
        "Endpoints out of rotation because of how they answered requests";
    EJECTIONS, "kubeng_endpoint_ejections", Gauge, [],
        "Times that an endpoint of a backend that is served was taken out of rotation";
    KEY_FETCHES, "kubeng_jwks_fetches_total", Counter, ["outcome"],
        "Fetches of keys that backends publish for tokens, by outcome: ok, unreachable, timeout, \
         status (another one than 200), malformed";
    HANDSHAKES, "kubeng_tls_handshakes_total", Counter, ["outcome"],
        "TLS handshakes with clients by outcome";
    TURNED_AWAY, "kubeng_connections_refused_total", Counter, ["rule"],
        "Connections closed without a word";
    REFUSED, "kubeng_requests_refused_total", Counter, ["rule"],
        "Requests that broke a rule of input";
    FAILED, "kubeng_request_failures_total", Counter, ["reason"],
        "Requests that were not served, or not to their end, by reason; those that broke a rule \
         of input are not among them";
    REQUESTS, "kubeng_requests_total", Counter, ["listener", "status"],
        "Requests by listener and class of status";
    DURATION, "kubeng_request_duration_seconds", Histogram, ["listener"],
        "From the head of the request to the end of the answer";
    FIRST_BYTE, "kubeng_request_first_byte_seconds", Histogram, ["listener"],
        "From the begin of the last try to the head of the answer of the backend";
    IN_FLIGHT, "kubeng_requests_in_flight", Gauge, ["listener"], "Requests that are not over";
    REQUEST_BYTES, "kubeng_request_body_bytes_total", Counter, ["listener"],
        "Bytes of bodies of requests";
    RESPONSE_BYTES, "kubeng_response_body_bytes_total", Counter, ["listener"],
        "Bytes of bodies of answers";
    BACKEND_REQUESTS, "kubeng_backend_requests_total", Counter, ["backend", "status"],
        "Requests by backend and class of status";
    BACKEND_DURATION, "kubeng_backend_request_duration_seconds", Summary, ["backend"],
        "From the head of the request to the end of the answer";
    BACKEND_FIRST_BYTE, "kubeng_backend_first_byte_seconds", Summary, ["backend"],
        "From the begin of the last try to the head of the answer";
    BACKEND_CONNECT, "kubeng_backend_connect_seconds", Summary, ["backend"],
        "How long new connections took to open, TLS included";
    BACKEND_IN_FLIGHT, "kubeng_backend_requests_in_flight", Gauge, ["backend"],
        "Requests that are not over";
    BACKEND_TRIES, "kubeng_backend_tries_total", Counter, ["backend"],
        "Tries, the first ones included";
    BACKEND_REQUEST_BYTES, "kubeng_backend_request_body_bytes_total", Counter, ["backend"],
        "Bytes of bodies of requests";
    BACKEND_RESPONSE_BYTES, "kubeng_backend_response_body_bytes_total", Counter, ["backend"],
        "Bytes of bodies of answers";
    TENANT_REQUESTS, "kubeng_tenant_requests_total", Counter, ["namespace", "status"],
        "Requests by the namespace of their route and class of status";
    TENANT_DURATION, "kubeng_tenant_request_duration_seconds", Summary, ["namespace"],
        "From the head of the request to the end of the answer";
    TENANT_REQUEST_BYTES, "kubeng_tenant_request_body_bytes_total", Counter, ["namespace"],
        "Bytes of bodies of requests";
    TENANT_RESPONSE_BYTES, "kubeng_tenant_response_body_bytes_total", Counter, ["namespace"],
        "Bytes of bodies of answers";
    ROUTE_REQUESTS, "kubeng_route_requests_total", Counter, ["route", "status"],
        "Requests by route and class of status; only with --metrics-routes";
    ROUTE_DURATION, "kubeng_route_request_duration_seconds", Summary, ["route"],
        "From the head of the request to the end of the answer; only with --metrics-routes";
}
