//! The data plane: serves requests by the Snapshot it was given.
//!
//! [`Proxy::start`] gives a running replica and the [`TableWriter`] that feeds
//! it. Ports follow from the Listeners of the Snapshot. The crate knows no
//! Kubernetes; its engine, Pingora, is named in `engine/` only.

mod access_log;
mod backend;
mod background;
mod compile;
mod debug;
mod drain;
mod engine;
mod errand;
mod filter;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod heartbeat;
mod keyed;
mod limits;
mod listener;
mod lookup;
mod metrics;
mod nominated;
mod observe;
mod over;
mod pass_on;
pub mod persist;
mod pipeline;
mod proxy;
mod proxy_protocol;
mod reason;
mod record;
mod reply;
mod request;
mod shared;
mod sketch;
mod table;
#[cfg(debug_assertions)]
mod tamper;
mod tls;
mod trace;
mod walk;

pub use access_log::format::log_variables;
pub use access_log::{AccessLogSettings, FormatError, LogFormat, LogTarget};
pub use backend::health::EndpointHealth;
pub use backend::probe::Health;
pub use backend::resolve::Unresolved;
pub use background::Background;
pub use compile::Rejection;
pub use debug::{DebugAccess, DebugAccessError};
pub use drain::Drained;
pub use heartbeat::{Walker, build, resources};
pub use limits::Limits;
pub use listener::Unbound;
pub use listener::handover::ListeningSockets;
pub use lookup::Lookup;
pub use metrics::list::{Metric, MetricKind};
pub use metrics::{MetricsDetail, metrics};
pub use observe::{ObserveSettings, TraceSettings};
pub use proxy::{Proxy, ProxyFacts, ProxySettings, StartError};
pub use record::Queries;
pub use table::writer::{Applied, Secrets, TableWriter};
pub use tls::client::ClientPolicyError;
pub use tls::{CertificateError, FallbackError};
pub use trace::export::{Collector, CollectorError};
pub use walk::Walked;
