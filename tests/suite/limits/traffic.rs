//! What clients and Backends may do.

#![allow(clippy::too_many_lines, reason = "tables are long")]

use kubeng_config::backend::resilience::Resilience;
use kubeng_config::backend::resolve::Resolve;
use kubeng_config::policy::Policy;
use kubeng_proxy::Limits;

use super::Section;
use super::amount::{bytes, bytes_of, count, count_of, time, time_of};

pub(super) fn sections() -> Vec<Section> {
    let limits = Limits::default();
    vec![
        connections(&limits),
        requests(&limits),
        http2(&limits),
        answers(&limits),
        forwarding(),
        backends(&limits),
    ]
}

fn connections(limits: &Limits) -> Section {
    let per_address = limits.connections_per_address_max.map_or(0, u64::from);
    let rows = vec![
        (
            "open connections in all",
            "80 % of the limit of open files, which is raised to its hard limit".to_owned(),
            "`--connections-max`",
            "closed at once: `replica_full`",
        ),
        (
            "open connections of one listener",
            "none".to_owned(),
            "`--listener-connections-max`",
            "closed at once: `listener_full`",
        ),
        (
            "open connections of one client, not of trusted proxies and balancers",
            count(per_address),
            "`--client-connections-max`",
            "closed at once: `address_full`",
        ),
        (
            "descriptors that are kept for all else: admin listener, controllers, files",
            count_of("proxy/src/limits.rs", "DESCRIPTORS_RESERVED"),
            "fixed",
            "connections are closed at once: `descriptors`",
        ),
        (
            "header of the PROXY protocol: time",
            time(limits.proxy_header),
            "fixed",
            "closed: `proxy_header_late`",
        ),
        (
            "header of the PROXY protocol: size",
            bytes_of("proxy/src/proxy_protocol.rs", "BYTES_MAX"),
            "fixed",
            "closed: `proxy_header`",
        ),
        (
            "ClientHello where TLS is passed on: time",
            time(limits.client_hello),
            "fixed",
            "closed: `server_name_late`",
        ),
        (
            "ClientHello where TLS is passed on: size",
            bytes_of("proxy/src/listener/client_hello.rs", "CLIENT_HELLO_BYTES_MAX"),
            "fixed",
            "closed: `server_name`",
        ),
        ("TLS handshake", time(limits.handshake), "fixed", "closed"),
        (
            "TLS handshakes at a time in each worker",
            count(limits.handshakes_max as u64),
            "fixed",
            "closed at once: `handshakes`",
        ),
        (
            "wait for a request, the first one included (idle keep-alive)",
            time(limits.idle),
            "fixed",
            "closed; GOAWAY on HTTP/2",
        ),
        (
            "age of a connection, a tenth more or less",
            time(limits.age),
            "fixed",
            "closed behind an answer; GOAWAY on HTTP/2",
        ),
        (
            "requests on one connection",
            count(limits.requests_max.into()),
            "fixed",
            "closed behind the answer; GOAWAY on HTTP/2",
        ),
    ];
    Section { title: "Connections of clients", about: "", rows }
}

fn requests(limits: &Limits) -> Section {
    let body = "proxy/src/listener/body.rs";
    let judge = "proxy/src/listener/head/judge.rs";
    let rows = vec![
        (
            "head, from its first to its last byte",
            time(limits.head),
            "fixed",
            "408, closed: input `slow_head`",
        ),
        ("head: size", bytes(limits.head_bytes_max as u64), "fixed", "431: input `head_length`"),
        (
            "target (path and query)",
            bytes(limits.target_bytes_max as u64),
            "fixed",
            "414: input `target_length`",
        ),
        (
            "one header field",
            bytes(limits.field_bytes_max as u64),
            "fixed",
            "431: input `field_length`",
        ),
        ("header fields", count(limits.fields_max as u64), "fixed", "431: input `field_count`"),
        ("method", bytes_of(judge, "METHOD_BYTES_MAX"), "fixed", "400: input `method`"),
        (
            "body",
            "none".to_owned(),
            "`limits.requestBody`",
            "413: `body_too_large`, at once where its length is told",
        ),
        (
            "silence within a body",
            time(limits.body_read),
            "fixed",
            "408, closed: `client_slow`, counted as input `slow_body`; on HTTP/2 only until the \
             answer begins, and not of gRPC",
        ),
        (
            "the least of a body that has to arrive in each such time",
            bytes_of(body, "RATE_BYTES"),
            "fixed",
            "as above",
        ),
        (
            "extensions of chunks",
            bytes_of(body, "EXTENSION_BYTES_MAX"),
            "fixed",
            "400, closed: `client_broke`, counted as input `chunk_extension`",
        ),
        (
            "trailers: size",
            bytes_of(body, "TRAILER_BYTES_MAX"),
            "fixed",
            "400, closed: `client_broke`, counted as input `trailer`",
        ),
        (
            "trailers: fields",
            count_of(body, "TRAILERS_MAX"),
            "fixed",
            "400, closed: `client_broke`, counted as input `trailer`",
        ),
    ];
    Section { title: "Requests", about: "", rows }
}

fn http2(limits: &Limits) -> Section {
    let account = "proxy/src/listener/frames/account.rs";
    let period = time_of(account, "PERIOD");
    let flood = |name: &str, behind: &str| format!("{}{behind}", count_of(account, name));
    let rows = vec![
        ("streams at a time", count(limits.h2_streams_max.into()), "fixed", "REFUSED_STREAM"),
        (
            "receive window of a stream",
            bytes(limits.h2_stream_window.into()),
            "fixed",
            "the client waits",
        ),
        (
            "receive window of a connection",
            bytes(limits.h2_connection_window.into()),
            "fixed",
            "the client waits",
        ),
        (
            "header list of a request, decoded",
            bytes(limits.h2_header_list_bytes_max.into()),
            "fixed",
            "431, or the stream is reset",
        ),
        (
            "resets of streams by the client, or caused by it",
            flood("RESETS_MAX", &format!(" in {period}, and never more than half of all streams")),
            "fixed",
            "ENHANCE_YOUR_CALM, closed: input `reset_flood`",
        ),
        (
            "SETTINGS, PING and other control frames",
            flood("CONTROL_MAX", &format!(" in {period}")),
            "fixed",
            "ENHANCE_YOUR_CALM, closed: input `control_flood`",
        ),
        (
            "WINDOW_UPDATE",
            flood(
                "WINDOWS_PER_DATA",
                &format!(
                    " for each DATA frame sent and each stream, and {}",
                    count_of(account, "WINDOWS_BESIDE")
                ),
            ),
            "fixed",
            "ENHANCE_YOUR_CALM, closed: input `window_flood`",
        ),
        (
            "PRIORITY",
            flood("PRIORITIES_PER_STREAM", " for each stream"),
            "fixed",
            "ENHANCE_YOUR_CALM, closed: input `priority_flood`",
        ),
        (
            "frames without content in a row (DATA, HEADERS, CONTINUATION)",
            flood("EMPTY_IN_A_ROW_MAX", ""),
            "fixed",
            "ENHANCE_YOUR_CALM, closed: input `empty_frames`",
        ),
    ];
    let about = "Beside what holds for all requests. Of floods the connection is cut.";
    Section { title: "HTTP/2", about, rows }
}

fn answers(limits: &Limits) -> Section {
    let rows = vec![
        (
            "time without progress while an answer is sent",
            time(limits.write_stall),
            "fixed",
            "closed; on HTTP/2 the stream is reset: `client_gone`",
        ),
        (
            "bytes that wait for a client on one stream of HTTP/2",
            bytes_of("proxy/src/engine/direct/connection.rs", "SEND_BUFFER_BYTES"),
            "fixed",
            "the backend waits",
        ),
        (
            "time that a client who was refused has to read why",
            time_of("proxy/src/listener/serve.rs", "LINGER"),
            "fixed",
            "closed",
        ),
        (
            "silence on a WebSocket or TCP connection, in both directions",
            time(Policy::default().timeouts.tunnel),
            "`timeouts.tunnel`",
            "closed",
        ),
    ];
    Section { title: "Answers to clients", about: "", rows }
}

fn forwarding() -> Section {
    let Policy { timeouts, retry } = Policy::default();
    let tries = "proxy/src/forward/tries.rs";
    let answer = "proxy/src/engine/direct/answer.rs";
    let rows = vec![
        (
            "connect",
            time(timeouts.connect),
            "`timeouts.connect`",
            "another endpoint; at last 504: `connect_timeout`",
        ),
        (
            "until the answer begins",
            "as silence".to_owned(),
            "`timeouts.firstByte`",
            "504: `answer_timeout`",
        ),
        (
            "silence between two reads",
            time(timeouts.read),
            "`timeouts.idle`",
            "504: `answer_timeout`, or the answer is cut off",
        ),
        ("wait between two writes", time(timeouts.write), "`timeouts.idle`", "504"),
        (
            "one try",
            "none".to_owned(),
            "`timeouts.backendRequest`",
            "504: `try_timeout`, or the answer is cut off",
        ),
        (
            "the whole request with all tries",
            "none".to_owned(),
            "`timeouts.request`",
            "504: `request_timeout`, or the answer is cut off",
        ),
        (
            "tries after the first",
            count(retry.retries_max.into()),
            "`retry.attempts`",
            "the last answer",
        ),
        ("... whatever is set", count_of(tries, "RETRIES_MAX"), "fixed", "the last answer"),
        (
            "pause before the second retry, doubled with each further one",
            time(retry.backoff),
            "`retry.backoff`",
            "",
        ),
        ("longest such pause", time(retry.backoff_max), "`retry.backoffMax`", ""),
        (
            "body that is kept for a retry",
            bytes_of("proxy/src/engine/direct/sending.rs", "KEPT_BYTES_MAX"),
            "fixed; `buffering.requests`",
            "the request is sent once",
        ),
        (
            "head of an answer: size",
            bytes_of(answer, "HEAD_BYTES_MAX"),
            "fixed",
            "502: `bad_answer`",
        ),
        ("head of an answer: fields", count_of(answer, "FIELDS_MAX"), "fixed", "502: `bad_answer`"),
        (
            "extensions and trailers of chunks of an answer",
            bytes_of("proxy/src/engine/direct/chunks.rs", "EXTRA_BYTES_MAX"),
            "fixed",
            "the answer is cut off: `answer_cut`",
        ),
        ("interim answers in front of one", count_of(tries, "INTERIM_MAX"), "fixed", "502"),
    ];
    let about = "`timeouts` and `retry` are members of a [RouteOverride](route-override.md) and fields \
                 of the routes of an [Upstream](upstream.md), where those are `request` and \
                 `backendRequest`, `attempts`, `codes` and `backoff`.";
    Section { title: "Forwarding", about, rows }
}

fn backends(limits: &Limits) -> Section {
    let Resilience { health: _, ejection, circuit, panic_percent } = Resilience::default();
    let percent = |percent: u8| format!("{percent} %");
    let resolve = "proxy/src/backend/resolve.rs";
    let member = "proxy/src/backend/member.rs";
    let rows = vec![
        (
            "connections in use to one endpoint",
            count(circuit.connections_max.into()),
            "Upstream `limits.connections`",
            "503: `endpoints_full`",
        ),
        (
            "requests that stand for one connection over HTTP/2",
            count_of("proxy/src/backend/choice.rs", "STREAMS_EACH"),
            "fixed",
            "as above",
        ),
        (
            "requests that wait for a connection to one endpoint",
            count(circuit.pending_max.into()),
            "Upstream `limits.pending`",
            "503: `endpoints_full`",
        ),
        (
            "requests in flight to one backend",
            "none".to_owned(),
            "Upstream `limits.requests`",
            "503: `backend_full`",
        ),
        (
            "retry budget, of all requests in flight",
            percent(circuit.retry_percent),
            "Upstream `retryBudget.percent`",
            "no retry",
        ),
        (
            "retries in flight that are always allowed",
            count(circuit.retries_min.into()),
            "Upstream `retryBudget.minimum`",
            "no retry",
        ),
        (
            "failures in a row until an endpoint is ejected",
            count(ejection.failures.into()),
            "Upstream `ejection.failures`",
            "it gets no requests",
        ),
        (
            "how long it is out the first time, each time in succession as much longer",
            time(ejection.base),
            "Upstream `ejection.base`",
            "",
        ),
        ("... at most", time(ejection.max), "Upstream `ejection.max`", ""),
        (
            "endpoints that are ejected at a time",
            percent(ejection.percent_max),
            "Upstream `ejection.percentMax`",
            "the others stay in",
        ),
        (
            "panic threshold: usable endpoints below which all are used",
            percent(panic_percent),
            "Upstream `panicThreshold`",
            "all are used",
        ),
        (
            "how long an endpoint comes last after a failed connect, as much longer with each in a row",
            format!(
                "{}, up to {} times",
                time_of(member, "AVOIDANCE"),
                count_of(member, "AVOIDANCE_STEPS_MAX")
            ),
            "fixed",
            "",
        ),
        (
            "TLS handshake with an endpoint",
            time(limits.backend_handshake),
            "fixed",
            "another endpoint; at last 504: `connect_timeout`",
        ),
        (
            "connections over HTTP/2 to one endpoint, of each worker",
            count_of("proxy/src/engine/direct/multiplex.rs", "GROUP_MAX"),
            "fixed",
            "another endpoint; at last 503: `endpoints_full`",
        ),
        (
            "silence of such a connection while requests wait, until it is sent a ping",
            time(limits.backend_ping_after),
            "fixed",
            "",
        ),
        (
            "... and until that is answered",
            time(limits.backend_ping_within),
            "fixed",
            "closed: 502 `reset`, or the answer is cut off",
        ),
        (
            "idle connections to backends, kept by each worker",
            count(limits.pool_max as u64),
            "fixed",
            "the oldest is closed",
        ),
        ("how long an idle one is kept", time(limits.pool_idle), "fixed", "closed"),
        (
            "how often the names of endpoints are resolved, unless their answer lives shorter",
            time(Resolve::default().every),
            "Upstream `resolve.every`",
            "",
        ),
        ("one DNS look-up", time_of(resolve, "ANSWER"), "fixed", "the last addresses stay"),
        ("DNS look-ups at a time", count_of(resolve, "QUESTIONS_MAX"), "fixed", "the rest waits"),
        (
            "health: questions at a time",
            count_of("proxy/src/backend/probe.rs", "QUESTIONS_MAX"),
            "fixed",
            "the rest waits",
        ),
        (
            "health: how much of an answer is read",
            bytes_of("proxy/src/backend/probe/ask.rs", "ANSWER_BYTES_MAX"),
            "fixed",
            "the rest is dropped",
        ),
    ];
    let about = "For each replica by itself. Backends of Services have the defaults; other fields, and \
                 the ranges, are in [upstream.md](upstream.md).";
    Section { title: "Backends", about, rows }
}
