//! Settings of what is told about requests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kubeng_proxy::{
    AccessLogSettings, Collector, DebugAccess, LogFormat, LogTarget, MetricsDetail,
    ObserveSettings, Queries, TraceSettings,
};

use super::given::Given;

/// What is told about requests, and to whom.
#[derive(Clone, Debug)]
pub(crate) struct Observe {
    access_log: Option<AccessLog>,
    queries: Queries,
    recent_bytes_max: usize,
    request_keys_max: usize,
    metrics: MetricsDetail,
    tracing: Option<TraceSettings>,
    debug: Option<DebugAccess>,
}

#[derive(Clone, Debug)]
struct AccessLog {
    to: Where,
    format: LogFormat,
    sample: f64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Where {
    Stdout,
    File(PathBuf),
}

impl Observe {
    /// Reads and checks what is given.
    pub(super) fn settle(given: &Given) -> anyhow::Result<Self> {
        let recent_mib = given.recent_requests.unwrap_or(8);
        if recent_mib > RECENT_MIB_MAX {
            bail!("recent-requests is {recent_mib} MiB; write at most {RECENT_MIB_MAX}");
        }
        let request_keys_max = given.request_keys.unwrap_or(20_000);
        if request_keys_max > REQUEST_KEYS_MAX {
            bail!("request-keys is {request_keys_max}; write at most {REQUEST_KEYS_MAX}");
        }
        let series_max = given.metrics_series.unwrap_or(100);
        if series_max > SERIES_MAX {
            bail!("metrics-series is {series_max}; write at most {SERIES_MAX}");
        }
        let is_on = |switch: Option<bool>| switch == Some(true);
        Ok(Self {
            access_log: access_log(given)?,
            queries: if is_on(given.keep_queries) { Queries::Keep } else { Queries::Drop },
            recent_bytes_max: recent_mib << 20,
            request_keys_max,
            metrics: MetricsDetail { series_max, routes: is_on(given.metrics_routes) },
            tracing: tracing(given)?,
            debug: debug(given)?,
        })
    }

    /// Whether there is a file to open again.
    pub(crate) fn has_log_file(&self) -> bool {
        self.access_log.as_ref().is_some_and(|log| log.to != Where::Stdout)
    }

    /// The settings as the replica has them.
    pub(crate) fn proxy(&self) -> ObserveSettings {
        let Self {
            access_log,
            queries,
            recent_bytes_max,
            request_keys_max,
            metrics,
            tracing,
            debug,
        } = self.clone();
        let access_log = access_log.map(|AccessLog { to, format, sample }| {
            let to = match to {
                Where::Stdout => LogTarget::Stdout,
                Where::File(path) => LogTarget::File(path),
            };
            AccessLogSettings { to, format, sample }
        });
        ObserveSettings {
            access_log,
            queries,
            recent_bytes_max,
            request_keys_max,
            metrics,
            tracing,
            debug,
        }
    }
}

fn access_log(given: &Given) -> anyhow::Result<Option<AccessLog>> {
    let to = match given.access_log.as_deref() {
        None | Some("off" | "false") => None,
        Some("stdout" | "true") => Some(Where::Stdout),
        // A slip of the pen must not become a file.
        Some(path) if path.contains('/') => Some(Where::File(path.into())),
        Some(other) => bail!(
            "access-log is {other:?}; write off, stdout or the path of a file, such as ./{other}"
        ),
    };
    let format = given.access_log_format.as_deref().unwrap_or("json");
    let format = format.parse().with_context(|| format!("access-log-format is {format:?}"))?;
    let sample = fraction("access-log-sample", given.access_log_sample, 1.0)?;
    let is_tuned = given.access_log_format.is_some() || given.access_log_sample.is_some();
    // `off` is a decision, nothing is perhaps an oversight.
    if is_tuned && given.access_log.is_none() {
        bail!(
            "access-log-format or access-log-sample is given, but nothing is logged; say --access-log"
        );
    }
    Ok(to.map(|to| AccessLog { to, format, sample }))
}

fn tracing(given: &Given) -> anyhow::Result<Option<TraceSettings>> {
    let sample = fraction("trace-sample", given.trace_sample, 0.1)?;
    let Some(to) = &given.trace_to else {
        if given.trace_sample.is_some() || given.trace_ca_file.is_some() {
            bail!(
                "trace-sample or trace-ca-file is given, but spans are sent nowhere; say --trace-to"
            );
        }
        return Ok(None);
    };
    let to: Collector = to.parse().with_context(|| format!("trace-to is {to:?}"))?;
    let to = match &given.trace_ca_file {
        None => to,
        Some(path) => {
            let shown = path.display();
            let pem = std::fs::read(path)
                .with_context(|| format!("cannot read trace-ca-file {shown}"))?;
            to.trusting(&pem).with_context(|| format!("trace-ca-file {shown} cannot be used"))?
        }
    };
    Ok(Some(TraceSettings { to, sample }))
}

fn debug(given: &Given) -> anyhow::Result<Option<DebugAccess>> {
    let secret = given.debug_secret_file.as_deref().map(read_secret).transpose()?;
    if secret.is_none() && given.debug_networks.is_empty() {
        return Ok(None);
    }
    let access = DebugAccess::new(secret.as_deref(), given.debug_networks.clone());
    access.map(Some).context("debug-secret-file cannot be used")
}

fn read_secret(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read debug-secret-file {}", path.display()))?;
    // Editors end a file with a line break.
    Ok(text.trim().to_owned())
}

fn fraction(name: &str, given: Option<f64>, default: f64) -> anyhow::Result<f64> {
    let fraction = given.unwrap_or(default);
    if !(0.0..=1.0).contains(&fraction) {
        bail!("{name} is {fraction}; write a number from 0 to 1");
    }
    Ok(fraction)
}

const RECENT_MIB_MAX: usize = 1024;
const REQUEST_KEYS_MAX: usize = 1_000_000;
const SERIES_MAX: usize = 100_000;
