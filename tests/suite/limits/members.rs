//! The members of a RouteOverride: what each may hold, and its default.

#![allow(clippy::too_many_lines, reason = "tables are long")]

use std::fmt::Write as _;
use std::time::Duration;

use kubeng_config::filter::compression::Compression;
use kubeng_config::filter::cors::Cors;
use kubeng_config::filter::external_auth::ExternalAuth;
use kubeng_config::filter::jwt::Jwt;
use kubeng_config::filter::mirror::Mirror;
use kubeng_config::filter::rate_limit::RateLimit;
use kubeng_config::patch::member::MEMBERS;
use kubeng_config::policy::Policy;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::amount::{bytes, bytes_of, count, count_of, time};

/// One row: the member, what it may hold with the unit, its default, and what happens beyond it.
type Row = (&'static str, &'static str, String, &'static str);

pub(super) fn section() -> String {
    let mut text = String::from(
        "\n## Members\n\nOf a [RouteOverride](route-override.md). *Durations* are texts such as \
         `500ms`, `15s` or `1m30s`, from 1 ms to 24 h; *sizes* are numbers of bytes, or texts with \
         `Ki`, `Mi` or `Gi`, at most 1,024 Gi; *percentages* are texts from `0%` to `100%` with at most two \
         decimals. A value beyond its range is a Problem: what tunes is left out then, and what protects \
         closes the route, which is 503 `route_refused`.\n\n\
         | member | value | default | beyond it |\n|---|---|---|---|\n",
    );
    for (member, value, default, beyond) in rows() {
        let _ = writeln!(text, "| `{member}` | {value} | {default} | {beyond} |");
    }
    text
}

fn rows() -> Vec<Row> {
    let mut all = forwarding();
    all.extend(protecting());
    all.extend(bodies());
    all.extend(answers());
    all
}

#[test]
fn every_member_is_on_the_page_of_limits() {
    for member in MEMBERS {
        let is_there = rows().iter().any(|(name, ..)| {
            let rest = name.strip_prefix(member.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        assert!(is_there, "{} has no row", member.name);
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn forwarding() -> Vec<Row> {
    let Policy { timeouts, retry } = Policy::default();
    vec![
        (
            "timeouts.request",
            "duration; `0s`: none",
            text("none"),
            "504 `request_timeout`, or the answer is cut off",
        ),
        (
            "timeouts.backendRequest",
            "duration; `0s`: none",
            text("none"),
            "a failed try; 504 `try_timeout`, or the answer is cut off",
        ),
        (
            "timeouts.connect",
            "duration",
            time(timeouts.connect),
            "another endpoint; 504 `connect_timeout`",
        ),
        (
            "timeouts.firstByte",
            "duration; `0s`: as `idle`",
            text("as `idle`"),
            "504 `answer_timeout`",
        ),
        (
            "timeouts.idle",
            "duration",
            time(timeouts.read),
            "504 `answer_timeout`, or the answer is cut off",
        ),
        ("timeouts.tunnel", "duration", time(timeouts.tunnel), "closed"),
        ("retry.attempts", "0 to 5", count(retry.retries_max.into()), "the last answer"),
        (
            "retry.on",
            "`reset`, `timeout`, statuses `\"400\"` to `\"599\"`; at most 16",
            text("none"),
            "",
        ),
        ("retry.methods", "`idempotent`, `all`", text("`idempotent`"), ""),
        ("retry.backoff", "duration", time(retry.backoff), ""),
        ("retry.backoffMax", "duration", time(retry.backoff_max), ""),
        ("backends[].weight", "0 to 1,000,000", text("as the rule says; 1 for others"), ""),
        ("canary.weight", "percentage", text("`0%`"), ""),
        ("balance.policy", BALANCE, text("as the Upstream says; `round-robin`"), ""),
        ("affinity.maxAge", "duration", text("the session"), ""),
    ]
}

fn protecting() -> Vec<Row> {
    let rate: RateLimit = of(json!({"key": "route", "requests": 1, "perSeconds": 1, "burst": 1}));
    let asked: ExternalAuth = of(json!({"backend": "Service/a/b:1", "path": "/"}));
    let jwt: Jwt = of(json!({"issuer": "i", "keys": {"inline": []}, "algorithms": []}));
    let cors: Cors = of(json!({"allowOrigins": []}));
    let seconds = |seconds: u64| time(Duration::from_secs(seconds));
    vec![
        ("limits.requestBody", "size", text("none"), "413 `body_too_large`"),
        ("limits.responseBody", "size", text("none"), "502, or the answer is cut off"),
        ("limits.rate.requests", "1 to 1,000,000", text("needed"), "429 `rate_limited`"),
        ("limits.rate.per", "duration, whole seconds", text("1 s"), ""),
        (
            "limits.rate.burst",
            "1 to 1,000,000 requests",
            text("as `requests`"),
            "429 `rate_limited`",
        ),
        ("limits.rate.by", BY, text("`client-address`"), ""),
        ("limits.rate.replicas", "1 to 10,000", count(rate.replicas.get()), ""),
        ("limits.rate.scope", "`replica`, `fleet`", text("`replica`"), ""),
        ("limits.rate.exempt", "networks, at most 1,000", text("none"), ""),
        ("limits.rate.status", "429, 503", u16::from(rate.status).to_string(), ""),
        ("limits.concurrency.requests", "1 to 1,000,000", text("needed"), "429 `rate_limited`"),
        (
            "limits.concurrency.by",
            "as of `rate`, as are `exempt` and `status`",
            text("`client-address`"),
            "",
        ),
        ("access.allow", "networks, 1 to 1,000", text("all"), "403 `access_denied`"),
        ("access.deny", "networks, at most 1,000", text("none"), "403 `access_denied`"),
        ("auth.basic.realm", "text", text("`Login`"), ""),
        ("auth.jwt.leewaySeconds", "0 to 600", seconds(jwt.leeway_seconds.get()), ""),
        ("auth.jwt.audiences", "at most 16", text("anybody"), "401 `access_denied`"),
        ("auth.jwt.keys.jwks", "at most 32 keys", text("needed, or another of `keys`"), ""),
        ("auth.jwt.required", "at most 32", text("none"), "403 `access_denied`"),
        ("auth.external.method", "`get`, `head`", text("`get`"), ""),
        ("auth.external.path", "absolute path", text("`/`"), ""),
        (
            "auth.external.timeout",
            "duration, 10 ms to 60 s",
            time(Duration::from_millis(asked.timeout_millis.get())),
            "unanswered",
        ),
        (
            "auth.external.questionsMax",
            "1 to 65,536 at a time",
            count(asked.questions_max.get()),
            "unanswered",
        ),
        ("auth.external.ifUnanswered", "`refuse`, `pass`", text("`refuse`: 503 `overload`"), ""),
        ("cors.origins", "at most 64", text("needed"), ""),
        ("cors.methods", "at most 32, or `*`", text("GET, HEAD, POST"), ""),
        ("cors.headers", "at most 64, or `*`", text("none"), ""),
        ("cors.credentials", "`true`, `false`", text("`false`"), ""),
        ("cors.maxAge", "duration, whole seconds", seconds(cors.max_age_seconds.get()), ""),
    ]
}

fn bodies() -> Vec<Row> {
    let mirror: Mirror = of(json!({"backend": "Service/a/b:1"}));
    let compression = Compression::default();
    vec![
        (
            "buffering.requests",
            "size, at most 16 MiB",
            text("none: bodies pass as they come"),
            "413 `body_too_large`",
        ),
        ("buffering.answers", "size, at most 16 MiB", text("none"), "the backend waits"),
        ("mirror.percent", "percentage", text("`100%`"), ""),
        (
            "mirror.bodyMax",
            "size, at most 1 MiB",
            bytes(mirror.body_bytes_max.get()),
            "no copy is sent",
        ),
        (
            "mirror.timeout",
            "duration, 10 ms to 60 s",
            time(Duration::from_millis(mirror.timeout_millis.get())),
            "the copy is given up",
        ),
        (
            "compression.codings",
            "`zstd`, `br`, `gzip`",
            compression.codings.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
            "",
        ),
        (
            "compression.types",
            "media types, at most 64",
            compression.types.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
            "not compressed",
        ),
        (
            "compression.minSize",
            "size, at most 1 MiB",
            bytes(compression.bytes_min.get()),
            "not compressed",
        ),
        ("compression.level", "1 to 9", count(compression.level.get()), ""),
    ]
}

fn answers() -> Vec<Row> {
    vec![
        ("headers.request", HEADERS, text("nothing is changed"), ""),
        ("headers.response", HEADERS, text("nothing is changed"), ""),
        (
            "rewrite.path",
            "one of `full`, `prefix`, `regex` with `substitution`",
            format!(
                "as it came; what becomes of it has at most {}",
                bytes_of("config/src/filter/rewrite.rs", "PATH_BYTES_MAX")
            ),
            "",
        ),
        ("redirect.status", "301, 302, 303, 307, 308", text("302"), ""),
        ("errorPages[]", "1 to 32 pages, each of at most 64 statuses", text("none"), ""),
        ("errorPages[].body", "text, at most 64 KiB", text("needed, or `backend`"), ""),
        ("requestId.header", "name", text("`x-request-id`"), ""),
        ("maintenance.status", "400 to 599", text("503"), ""),
        ("maintenance.body", "text, at most 16 KiB", text("a plain page"), ""),
        ("maintenance.retryAfter", "duration, whole seconds", text("nothing is said"), ""),
    ]
}

/// A filter with nothing said but what must be.
fn of<T: DeserializeOwned>(written: serde_json::Value) -> T {
    serde_json::from_value(written).unwrap()
}

#[test]
fn as_many_headers_are_taken_as_the_page_says() {
    let most = count_of("config/src/patch/headers.rs", "FIELDS_MAX");
    assert!(HEADERS.contains(&format!("at most {most} ")), "{most}");
}

const HEADERS: &str = "`set`, `add`, `remove`: at most 64 names each";
const BALANCE: &str = "`round-robin`, `least-requests`, `peak-ewma`, `hash`";
const BY: &str = "`client-address`, `route`, `header:NAME`";
