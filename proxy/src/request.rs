//! One request as the pipeline sees it, and what is remembered of it while it lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};
use kubeng_config::name::Hostname;
use kubeng_config::policy::Policy;

use crate::backend::{CompiledBackend, InFlight};
use crate::listener::connection::ConnFacts;
use crate::metrics::ListenerMetrics;
use crate::observe::Seen;
use crate::reply::Form;
use crate::table::CompiledRoute;

/// A request as it came, borrowed from whatever the engine keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

/// Header fields that can be edited, whatever holds them.
pub(crate) trait Fields {
    /// All of them.
    fn fields(&self) -> &HeaderMap;
    /// Replaces all fields of this name.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Puts one more in.
    fn add(&mut self, name: &HeaderName, value: HeaderValue);
    /// Takes all of this name out.
    fn remove(&mut self, name: &HeaderName);
}

impl Fields for HeaderMap {
    fn fields(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        self.append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// What is remembered of one request.
///
/// It holds its Route, Policy and Backend, never the Table: a tunnel that lives
/// for hours keeps nothing else alive.
#[derive(Debug, Default)]
pub(crate) struct RequestContext {
    pub(crate) facts: Option<Arc<ConnFacts>>,
    pub(crate) started: Option<(Instant, SystemTime)>,
    pub(crate) form: Form,
    /// Whether the client asks to leave HTTP behind.
    pub(crate) is_upgrade: bool,
    /// The authority as the client wrote it; absent only on HTTP/1.0.
    pub(crate) authority: Option<HeaderValue>,
    /// The host that was asked for, in the form in which it is matched.
    pub(crate) host: Option<Hostname>,
    /// The path that is forwarded, where it is not the one that came.
    pub(crate) path: Option<String>,
    /// The host that is forwarded, where a Filter says so.
    pub(crate) forwarded_host: Option<Hostname>,
    pub(crate) listener: Option<Arc<ListenerMetrics>>,
    pub(crate) route: Option<Arc<CompiledRoute>>,
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) backend: Option<Arc<CompiledBackend>>,
    pub(crate) tries: Tries,
    /// The status that the client got.
    pub(crate) answered: Option<StatusCode>,
    /// What is told about it when it is over.
    pub(crate) seen: Seen,
}

/// The tries of a request so far.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    pub(crate) count: u8,
    /// The Endpoint of the current one.
    pub(crate) current: Option<InFlight>,
    /// Endpoints that could not be connected to.
    pub(crate) failed: Vec<SocketAddr>,
    /// What the client gets when nothing is left to try.
    pub(crate) last_status: Option<StatusCode>,
}
