//! The log of the process, on standard error.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::settings::process::LogFormat;

/// Writes what waits when it is dropped, for a second at most.
#[must_use = "what waits to be written is lost without it"]
pub(crate) struct Log {
    _writer: WorkerGuard,
}

/// Starts the log. `KUBENG_LOG` sets what is written, in the form of `RUST_LOG`.
///
/// A thread of its own writes, for whoever reads standard error may stop to: then lines are lost
/// beyond [`LINES_WAITING_MAX`], and nothing else waits.
pub(crate) fn start(format: LogFormat) -> Log {
    // Pingora logs each client that goes away as an error; the metrics tell it.
    let usual = || EnvFilter::new("info,pingora_proxy=off,pingora_core=off");
    let (filter, wrong) = match std::env::var("KUBENG_LOG") {
        Err(_) => (usual(), None),
        Ok(wanted) => match EnvFilter::try_new(&wanted) {
            Ok(filter) => (filter, None),
            Err(error) => (usual(), Some(error)),
        },
    };
    let (lines, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        // It would be written to the same place, and panic where that cannot be written.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    if let Some(error) = wrong {
        tracing::warn!(%error, "KUBENG_LOG cannot be read; write for instance info or kubeng_proxy=debug");
    }
    Log { _writer: writer }
}

/// How many lines wait to be written at most.
const LINES_WAITING_MAX: usize = 16 * 1024;
