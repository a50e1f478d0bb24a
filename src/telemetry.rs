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
    let usual = || EnvFilter::new(USUAL);
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

/// What is written where `KUBENG_LOG` says nothing.
///
/// Pingora logs each client that goes away as an error; the metrics tell it. The client of the API
/// server logs each request that failed, without saying which; a Problem tells that once.
const USUAL: &str =
    "info,pingora_proxy=off,pingora_core=off,kube_client=off,tower=off,tower_http=off";

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_try_to_reach_an_api_server_is_written_only_where_that_is_asked_for() {
        let written = |filter: &str| {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(EnvFilter::new(filter))
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::error!(target: "kube_client::client::builder", "failed with error");
                tracing::error!(target: "kubeng", "ours");
            });
            let bytes = lines.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap()
        };
        let usual = written(USUAL);
        assert!(usual.contains("ours") && !usual.contains("failed with error"), "{usual}");
        assert!(written("info").contains("failed with error"));
    }
}
