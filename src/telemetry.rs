//! The log of the process, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::settings::process::LogFormat;

/// Starts the log. `KUBENG_LOG` sets what is written, in the form of `RUST_LOG`.
pub(crate) fn start(format: LogFormat) {
    // Pingora logs each client that goes away as an error; the metrics tell it.
    let filter = EnvFilter::try_from_env("KUBENG_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,pingora_proxy=off,pingora_core=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
