//! What the process itself may take: logs, sources, controllers and replicas.

#![allow(clippy::too_many_lines, reason = "tables are long")]

use kubeng_config::fleet::FleetCare;

use super::amount::{bytes_of, count, count_of, time, time_of};
use super::{Row, Section, read};

pub(super) fn sections() -> Vec<Section> {
    vec![observing(), sources(), replicas(), admin()]
}

/// The default of a flag, as its help says it.
#[track_caller]
fn set_by(flag: &str) -> String {
    let page = read("docs/settings.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let of_flag = page.split(&format!(" {flag} <")).nth(1).unwrap_or_else(|| panic!("no {flag}"));
    let help = of_flag.split(" --").next().unwrap_or_default();
    let default = help.split("[default: ").nth(1).and_then(|rest| rest.split(']').next());
    let default = default.unwrap_or_else(|| panic!("{flag} says no default: {help}"));
    default.parse().map_or_else(|_| default.to_owned(), count)
}

fn observing() -> Section {
    let otlp = "proxy/src/trace/export.rs";
    let sketch = "proxy/src/sketch.rs";
    let rows = vec![
        (
            "lines of the log that wait for whoever reads standard error",
            count_of("src/telemetry.rs", "LINES_WAITING_MAX"),
            "fixed; `KUBENG_LOG` says what is logged",
            "the newest are dropped",
        ),
        (
            "records of the access log that wait to be written",
            count_of("proxy/src/access_log.rs", "RECORDS_MAX"),
            "fixed",
            "the newest are dropped: `kubeng_access_records_dropped_total`",
        ),
        (
            "path in the access log and in recent requests",
            bytes_of("proxy/src/record.rs", "PATH_BYTES_MAX"),
            "fixed",
            "cut off",
        ),
        (
            "memory for recent requests",
            set_by("--recent-requests") + " MiB",
            "`--recent-requests`",
            "the oldest go",
        ),
        (
            "how long recent requests are kept",
            time_of("proxy/src/observe.rs", "RECENT_KEEP"),
            "fixed",
            "the oldest go",
        ),
        ("request keys", set_by("--request-keys"), "`--request-keys`", "rare ones are estimated"),
        (
            "path of a request key",
            bytes_of(sketch, "KEY_PATH_BYTES_MAX"),
            "fixed",
            "counted in `withoutKey`",
        ),
        (
            "backends, tenants and routes with metrics of their own, each",
            set_by("--metrics-series"),
            "`--metrics-series`",
            "counted as `other`",
        ),
        (
            "spans that wait for the collector",
            count_of(otlp, "QUEUE_SPANS_MAX"),
            "fixed",
            "the newest are dropped: `kubeng_spans_dropped_total`",
        ),
        (
            "spans in one batch, and how long one is filled",
            format!("{}, {}", count_of(otlp, "BATCH_SPANS_MAX"), time_of(otlp, "BATCH_WITHIN")),
            "fixed",
            "",
        ),
        ("answer of the collector", time_of(otlp, "ANSWER_WITHIN"), "fixed", "tried again"),
        (
            "last lines and spans at the end, of what is left of the drain",
            time_of("proxy/src/proxy.rs", "LAST_MAX"),
            "fixed",
            "the rest is dropped",
        ),
        ("the whole stop", set_by("--drain") + " s", "`--drain`", "what still runs is cut"),
        (
            "from being told to stop until the ports close",
            set_by("--drain-delay") + " s",
            "`--drain-delay`",
            "",
        ),
    ];
    Section { title: "The process", about: "Of each replica, and of a controller.", rows }
}

fn sources() -> Section {
    let manifests = "controller/src/source/manifests";
    let guard = "controller/src/intake/guard.rs";
    let status = "controller/src/status/plan.rs";
    let mut rows = vec![
        (
            "one manifest file",
            bytes_of(&format!("{manifests}/file.rs"), "FILE_BYTES_MAX"),
            "fixed",
            "a Problem; what was last read stays",
        ),
        (
            "files of a folder",
            count_of(&format!("{manifests}/tree.rs"), "FILES_MAX"),
            "fixed",
            "a Problem; the rest is left out",
        ),
        (
            "nesting of a YAML document",
            count_of(&format!("{manifests}/yaml.rs"), "DEPTH_MAX"),
            "fixed",
            "a Problem; what was last read stays",
        ),
        (
            "how long a file may be gone, empty or open for writing before that counts",
            time_of(&format!("{manifests}/folder.rs"), "GRACE"),
            "fixed",
            "",
        ),
        (
            "how often a folder is looked at that tells its changes, and one that does not",
            format!(
                "{}, {}",
                time_of(&format!("{manifests}/watch.rs"), "LOOK_EVERY"),
                time_of(&format!("{manifests}/watch.rs"), "LOOK_EVERY_UNWATCHED")
            ),
            "fixed",
            "",
        ),
        (
            "objects of a kind that may vanish from a list at once",
            format!(
                "{}, or {} %, and never all",
                count_of(guard, "OBJECTS_MAX"),
                count_of(guard, "PERCENT_MAX")
            ),
            "fixed",
            "they are served until a second list confirms it (KNG-1702)",
        ),
        ("... and how much later that must be", time_of(guard, "BELIEVED_AFTER"), "fixed", ""),
        (
            "answer of the API server to a write",
            time_of("controller/src/cluster.rs", "ANSWER_WITHIN"),
            "fixed",
            "tried again",
        ),
        (
            "pause before a write is tried again, doubled each time",
            format!(
                "{} to {}",
                time_of("controller/src/pace.rs", "FIRST_PAUSE"),
                time_of("controller/src/pace.rs", "PAUSE_MAX")
            ),
            "fixed",
            "",
        ),
        (
            "statuses written in a second, and at once",
            format!("{}, {}", count_of(status, "PER_SECOND"), count_of(status, "AT_ONCE")),
            "fixed",
            "the newest of each object waits",
        ),
        (
            "Events written in a second, and at once",
            format!(
                "{}, {}",
                count_of("controller/src/events.rs", "PER_SECOND"),
                count_of("controller/src/events.rs", "AT_ONCE")
            ),
            "fixed",
            "they wait",
        ),
        (
            "changes that wait to be taken over",
            count_of("controller/src/reconcile.rs", "EVENTS_WAITING_MAX"),
            "fixed",
            "sources wait",
        ),
        (
            "patch of a RouteOverride",
            bytes_of("controller/src/kind/route_override/members.rs", "PATCH_BYTES_MAX"),
            "fixed",
            "what it protects is closed: 503 `route_refused`",
        ),
        (
            "endpoints of an Upstream",
            count_of("controller/src/translate/upstream/endpoints.rs", "ENDPOINTS_MAX"),
            "fixed",
            "a Problem; none is used",
        ),
        (
            "a certificate is told before its end",
            time_of("controller/src/expiry.rs", "TOLD_BEFORE"),
            "fixed",
            "a Problem",
        ),
    ];
    rows.extend(losses());
    Section { title: "Objects and their sources", about: "", rows }
}

/// What is not believed to have gone.
fn losses() -> Vec<Row> {
    let manifests = "controller/src/source/manifests";
    vec![
        (
            "files that may vanish from a folder so that none with objects is left",
            format!(
                "1 within {}, and none where it is another folder or was away",
                time_of(&format!("{manifests}/folder.rs"), "GRACE")
            ),
            "fixed",
            "they are served until a second look finds none either (KNG-1702)",
        ),
        (
            "... and how much later that must be",
            time_of(&format!("{manifests}/folder/vanished.rs"), "BELIEVED_AFTER"),
            "fixed",
            "",
        ),
        (
            "how often a folder is looked at that has nothing left, or a link that leads nowhere",
            time_of(&format!("{manifests}/watch.rs"), "LOOK_EVERY_UNWATCHED"),
            "fixed",
            "what was last read is served",
        ),
        (
            "how long the API server may not know a kind of Kubeng of which there were objects",
            time_of("controller/src/intake/guard.rs", "BELIEVED_AFTER"),
            "fixed",
            "they are served; KNG-1704 and KNG-1702",
        ),
    ]
}

fn replicas() -> Section {
    let care = FleetCare::default();
    let server = "controller/src/distribution/server.rs";
    let delivery = "controller/src/distribution/server/delivery.rs";
    let wire = "controller/src/distribution/wire.rs";
    let strangers = "controller/src/replicas/strangers.rs";
    let probe_every = care.probe_every.map_or_else(|| "never".to_owned(), time);
    let rows = vec![
        (
            "how often a replica tells of itself",
            time(care.heartbeat_every),
            "Fleet; `--heartbeat`",
            "unreachable after three that are missing",
        ),
        ("answer to an offer", time(care.apply_timeout), "Fleet", "the replica is stale"),
        (
            "how often a replica computes the digest of all that it runs",
            time(care.table_check_every),
            "Fleet; `--table-check`",
            "",
        ),
        ("how often replicas are probed", probe_every, "Fleet", ""),
        (
            "replicas of one controller",
            count_of("controller/src/replicas/registry.rs", "REPLICAS_MAX"),
            "fixed",
            "the connection is refused",
        ),
        (
            "connections to one controller",
            count_of(server, "CONNECTIONS_MAX"),
            "fixed",
            "closed at once",
        ),
        ("TLS handshake with a controller", time_of(server, "HANDSHAKE_WITHIN"), "fixed", "closed"),
        (
            "progress of what is sent to a replica",
            time_of(delivery, "PROGRESS_WITHIN"),
            "fixed",
            "closed; the replica asks anew",
        ),
        (
            "one message",
            bytes_of(wire, "MESSAGE_BYTES_MAX"),
            "fixed",
            "longer ones travel in frames",
        ),
        (
            "one configuration on the wire",
            bytes_of(wire, "WHOLE_BYTES_MAX"),
            "fixed",
            "it is not taken",
        ),
        (
            "generations on the disk of a replica",
            count_of("proxy/src/persist/folder.rs", "GENERATIONS_MAX"),
            "fixed",
            "the oldest is removed",
        ),
        (
            "life of the certificate of a replica",
            time_of("controller/src/distribution/authority.rs", "CERTIFICATE_LIFE"),
            "fixed",
            "it is renewed before",
        ),
        (
            "life of a join token",
            time_of("controller/src/distribution/authority/token.rs", "TOKEN_LIFE"),
            "`kubeng token create --for`",
            "it is refused",
        ),
        (
            "uses of a join token, at most",
            count_of("controller/src/distribution/authority/token.rs", "TOKEN_USES_MAX"),
            "`kubeng token create --uses`",
            "it is refused",
        ),
        (
            "labels of a replica, of its join token and of its own",
            count_of("config/src/label.rs", "LABELS_MAX"),
            "fixed",
            "no token is made, and the replica does not start",
        ),
        (
            "a join token, with its labels",
            bytes_of("controller/src/distribution/authority/token.rs", "TOKEN_BYTES_MAX"),
            "fixed",
            "it is not made",
        ),
        (
            "replicas without a fleet that are told, and how long after they asked last",
            format!("{}, {}", count_of(strangers, "STRANGERS_MAX"), time_of(strangers, "TOLD_FOR")),
            "fixed",
            "those that asked least lately are not told",
        ),
    ];
    Section { title: "Controllers and replicas", about: "", rows }
}

fn admin() -> Section {
    let rows = vec![
        (
            "recent requests in one answer",
            count_of("admin-ui/src/api/requests.rs", "REQUESTS_MAX"),
            "`limit`",
            "`mayHaveMore` is true",
        ),
        (
            "request keys in one answer",
            count_of("admin-ui/src/api/requests.rs", "KEYS_MAX"),
            "`limit`",
            "the most frequent are shown",
        ),
        (
            "headers of a request that is to be explained",
            count_of("admin-ui/src/api/explain.rs", "HEADERS_MAX"),
            "fixed",
            "400",
        ),
        (
            "reason that is given for what is done about drift",
            bytes_of("admin-ui/src/api/drift.rs", "REASON_BYTES_MAX"),
            "fixed",
            "400",
        ),
    ];
    Section { title: "The admin listener", about: "", rows }
}
