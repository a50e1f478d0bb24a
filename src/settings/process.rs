//! Settings of the process itself: how wide it is, how it stops, how it logs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use ipnet::IpNet;

use super::given::Given;

/// How the process runs, whatever it serves.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) admin: SocketAddr,
    /// From being told to stop to the end.
    pub(crate) drain: Duration,
    /// How much of it passes before the ports close.
    pub(crate) drain_delay: Duration,
    pub(crate) upgrade_within: Duration,
    pub(crate) workers: usize,
    pub(crate) log_format: LogFormat,
}

impl Process {
    /// Reads and checks what is given.
    pub(super) fn settle(given: &Given) -> anyhow::Result<Self> {
        let admin = given.admin.unwrap_or_else(|| ([127, 0, 0, 1], 9180).into());
        if !admin.ip().is_loopback() && given.admin_exposed != Some(true) {
            bail!(
                "--admin {admin} is not a loopback address, and the admin listener has no login; \
                 use 127.0.0.1, or say --admin-exposed if only trusted hosts can reach it"
            );
        }
        let workers = match given.workers {
            Some(0) => bail!("--workers 0 would serve nothing; write at least 1"),
            Some(workers) if workers > WORKERS_MAX => bail!(
                "--workers {workers} is too many; write at most {WORKERS_MAX}, best as many as there are cores"
            ),
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, Into::into),
        };
        let (drain, drain_delay) = drain(given.drain, given.drain_delay)?;
        Ok(Self {
            admin,
            drain,
            drain_delay,
            upgrade_within: Duration::from_secs(given.upgrade_within.unwrap_or(60)),
            workers,
            log_format: log_format(given.log_format.as_deref())?,
        })
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

fn log_format(written: Option<&str>) -> anyhow::Result<LogFormat> {
    match written {
        Some("json") => Ok(LogFormat::Json),
        Some("text") | None => Ok(LogFormat::Text),
        Some(other) => bail!("log-format is {other:?}; write text or json"),
    }
}

/// Networks whose word is believed, or who need none: bits behind the prefix are most likely a
/// mistake, and believe more than was meant.
pub(super) fn networks(flag: &str, networks: &[IpNet]) -> anyhow::Result<()> {
    for network in networks {
        if network.trunc() != *network {
            bail!(
                "{flag} {network} has bits behind its prefix; write {}, or {} for that address alone",
                network.trunc(),
                IpNet::from(network.addr())
            );
        }
    }
    Ok(())
}

/// The time of the whole stop, and of the delay in it.
fn drain(drain: Option<u64>, delay: Option<u64>) -> anyhow::Result<(Duration, Duration)> {
    let (drain, delay) = (drain.unwrap_or(25), delay.unwrap_or(0));
    if delay > 0 && delay >= drain {
        bail!(
            "drain-delay is {delay} s and drain {drain} s, so no request in flight could end; \
             make drain the longer one, for it bounds the whole stop"
        );
    }
    Ok((Duration::from_secs(drain), Duration::from_secs(delay)))
}

/// The most threads that serve requests.
const WORKERS_MAX: usize = 512;
