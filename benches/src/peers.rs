//! Throughput beside other proxies: `benches/peers` does the work, this judges it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::program::{Setting, workspace};
use crate::report::Report;

pub(crate) fn run(setting: &Setting) -> Result<Vec<Report>> {
    let title = "peers: HTTP/1.1 keep-alive, one worker on one core";
    let rounds = ["--rounds", setting.pick("8", "1"), "--secs", setting.pick("3", "1")];
    match compare(setting, "h1", &rounds)? {
        Compared::Figures(figures) => Ok(vec![judge(title, &figures)?]),
        Compared::Skipped(reason) => Ok(vec![skipped(title, &reason)]),
    }
}

/// What a comparison gave.
pub(crate) enum Compared {
    /// The medians of each proxy.
    Figures(Value),
    /// Why there are none.
    Skipped(String),
}

/// Runs one kind of `peers.py` with these arguments.
pub(crate) fn compare(setting: &Setting, kind: &str, arguments: &[&str]) -> Result<Compared> {
    let Some([proxy, load]) = setting.cores else {
        return Ok(Compared::Skipped("it takes two cores".into()));
    };
    let tools = ["python3", "openssl", if kind == "h2" { "h2load" } else { "wrk" }];
    if let Some(missing) = tools.into_iter().find(|name| !is_there(name)) {
        let reason = format!("{missing} is not installed; see peers/install.sh");
        return Ok(Compared::Skipped(reason));
    }
    let scratch = tempfile::tempdir()?;
    let figures = scratch.path().join("figures.json");
    let mut command = Command::new(workspace().join("benches/peers/compare.sh"));
    command.args([kind, "--"]).args(arguments);
    command.args(["--proxy-cpu", &proxy.to_string(), "--load-cpu", &load.to_string()]);
    command.arg("--json").arg(&figures).env("KUBENG", &setting.kubeng);
    if !has_nginx() {
        // The script compares with nginx unless it is told otherwise.
        command.args(["--base", "kubeng"]);
    }
    let ended = command.status()?;
    ensure!(ended.success(), "peers.py ended with {ended}");
    Ok(Compared::Figures(serde_json::from_slice(&fs::read(&figures)?)?))
}

fn judge(title: &str, figures: &Value) -> Result<Report> {
    let figure = |proxy: &str, name: &str| figures.get(proxy)?.get(name)?.as_f64();
    let rate = |proxy: &str| figure(proxy, "requests_per_second");
    let ours = rate("kubeng").context("kubeng was left out; peers.py said why")?;
    let head = ["proxy", "req/s", "kubeng over it", "its CPU us/req over ours"];
    let mut report = Report::new(title, head);
    let cost = |proxy: &str| figure(proxy, "cpu_microseconds").unwrap_or(f64::NAN);
    for proxy in figures.as_object().into_iter().flat_map(|figures| figures.keys()) {
        let rate = rate(proxy).unwrap_or(f64::NAN);
        let cells = [format!("{rate:.0}"), format!("{:.2}", ours / rate)];
        let [rate, ratio] = cells;
        report.row([proxy.clone(), rate, ratio, format!("{:.2}", cost(proxy) / cost("kubeng"))]);
    }
    match rate("nginx") {
        Some(nginx) => {
            let ratio = ours / nginx;
            report.speed_goal(format!("at least 0.72 of nginx ({ratio:.2})"), ratio >= 0.72);
        }
        None => report.note("nginx is not here, so that goal is not judged"),
    }
    match rate("envoy") {
        Some(envoy) => {
            report.speed_goal(format!("above Envoy ({:.2} of it)", ours / envoy), ours > envoy);
        }
        None => report.note("Envoy is not here, so that goal is not judged"),
    }
    Ok(report)
}

pub(crate) fn skipped(title: &str, reason: &str) -> Report {
    let mut report = Report::new(title, ["skipped"]);
    report.row([reason.to_owned()]);
    report
}

fn has_nginx() -> bool {
    is_there("nginx") || std::path::Path::new("/usr/sbin/nginx").is_file()
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_ratios_of_one_run() {
        let figures = |ours: f64| {
            serde_json::json!({
                "nginx": { "requests_per_second": 100.0, "cpu_microseconds": 10.0 },
                "envoy": { "requests_per_second": 50.0, "cpu_microseconds": 20.0 },
                "kubeng": { "requests_per_second": ours, "cpu_microseconds": 15.0 },
            })
        };
        assert!(judge("x", &figures(73.0)).unwrap().is_met(false));
        assert!(!judge("x", &figures(71.0)).unwrap().is_met(false));
        assert!(judge("x", &serde_json::json!({})).is_err());
    }
}
