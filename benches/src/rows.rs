//! What TLS, HTTP/2 and idle connections cost beside other proxies, in rounds of one run.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::peers::{Compared, compare, skipped};
use crate::program::Setting;
use crate::report::Report;

pub(crate) fn https(setting: &Setting) -> Result<Vec<Report>> {
    let title = "https: TLS 1.3 with ECDSA P-256, keep-alive, one worker on one core";
    loaded(setting, "tls", title, |report, figures| {
        rate_goal(report, figures, 0.85);
    })
}

pub(crate) fn http2(setting: &Setting) -> Result<Vec<Report>> {
    let title = "http2: HTTP/2 over TLS, 16 connections of 32 streams, one worker on one core";
    loaded(setting, "h2", title, |report, figures| {
        rate_goal(report, figures, 0.75);
    })
}

pub(crate) fn handshake(setting: &Setting) -> Result<Vec<Report>> {
    let title = "handshake: a new TLS connection for each request, one worker on one core";
    loaded(setting, "handshake", title, |report, figures| {
        let cost = |proxy| figure(figures, proxy, "cpu_microseconds");
        if let (Some(ours), Some(theirs)) = (cost("kubeng"), cost("nginx")) {
            let ratio = ours / theirs;
            let text = format!("CPU of a new connection at most 0.78 of nginx ({ratio:.2})");
            report.speed_goal(text, ratio <= 0.78);
        }
    })
}

/// Interleaved rounds of load, and a goal.
fn loaded(
    setting: &Setting,
    kind: &str,
    title: &str,
    judge: impl FnOnce(&mut Report, &Value),
) -> Result<Vec<Report>> {
    let mut arguments = vec!["--rounds", setting.pick("8", "1"), "--secs", setting.pick("3", "1")];
    if setting.is_quick {
        arguments.extend(["--peers", "kubeng,nginx"]);
    }
    let figures = match compare(setting, kind, &arguments)? {
        Compared::Figures(figures) => figures,
        Compared::Skipped(reason) => return Ok(vec![skipped(title, &reason)]),
    };
    let ours = figure(&figures, "kubeng", "requests_per_second");
    let ours = ours.context("kubeng was left out; peers.py said why")?;
    let head = ["proxy", "req/s, median", "kubeng over it", "CPU us/req, median"];
    let mut report = Report::new(title, head);
    for proxy in figures.as_object().into_iter().flat_map(|figures| figures.keys()) {
        let of = |name| figure(&figures, proxy, name).unwrap_or(f64::NAN);
        let (rate, cost) = (of("requests_per_second"), of("cpu_microseconds"));
        let cells = [format!("{rate:.0}"), format!("{:.2}", ours / rate), format!("{cost:.1}")];
        let [rate, ratio, cost] = cells;
        report.row([proxy.clone(), rate, ratio, cost]);
    }
    report.note("the spread of the rounds stands in the table of peers.py above");
    if figures.get("nginx").is_some() {
        judge(&mut report, &figures);
    } else {
        report.note("nginx is not here, so the goal is not judged");
    }
    Ok(vec![report])
}

/// At least `least` of nginx, and above the proxies that do as much.
fn rate_goal(report: &mut Report, figures: &Value, least: f64) {
    let rate = |proxy| figure(figures, proxy, "requests_per_second");
    let over = |peer| Some(rate("kubeng")? / rate(peer)?);
    let ratio = over("nginx").unwrap_or(f64::NAN);
    report.speed_goal(format!("at least {least} of nginx ({ratio:.2})"), ratio >= least);
    for peer in ["envoy", "traefik", "caddy"] {
        if let Some(ratio) = over(peer) {
            report.speed_goal(format!("above {peer} ({ratio:.2})"), ratio > 1.0);
        }
    }
}

/// Kinds of `peers.py`, what they are called, and the most that a connection may take in KiB.
const IDLE: [(&str, &str, f64); 3] =
    [("idle", "HTTP/1.1", 4.0), ("idle-tls", "HTTPS", 20.0), ("idle-h2", "HTTP/2", 40.0)];

pub(crate) fn idle(setting: &Setting) -> Result<Vec<Report>> {
    let title = "idle: memory of connections that had one answer and wait (PSS)";
    let head = ["connections", "proxy", "open", "still open", "KiB for each"];
    let mut report = Report::new(title, head);
    for (kind, name, most) in IDLE {
        let arguments =
            ["--idle-conns", setting.pick("10000", "300"), "--peers", "kubeng,nginx,haproxy"];
        let pause = ["--idle-pause", setting.pick("2", "0.2")];
        let figures = match compare(setting, kind, &[&arguments[..], &pause].concat())? {
            Compared::Figures(figures) => figures,
            Compared::Skipped(reason) => return Ok(vec![skipped(title, &reason)]),
        };
        for proxy in figures.as_object().into_iter().flat_map(|figures| figures.keys()) {
            let of = |name| figure(&figures, proxy, name).unwrap_or(f64::NAN);
            let (open, still) = (of("connections"), of("still_open"));
            let each = format!("{:.1}", of("kib_per_connection"));
            report.row([name.into(), proxy.clone(), open.to_string(), still.to_string(), each]);
        }
        let of = |name| figure(&figures, "kubeng", name).context("kubeng was left out");
        let each = of("kib_per_connection")?;
        report.speed_goal(format!("{name}: at most {most} KiB each ({each:.1})"), each <= most);
        let is_open = of("still_open")? >= of("connections")?;
        report.goal(format!("{name}: every connection stays open"), is_open);
    }
    Ok(vec![report])
}

fn figure(figures: &Value, proxy: &str, name: &str) -> Option<f64> {
    figures.get(proxy)?.get(name)?.as_f64()
}
