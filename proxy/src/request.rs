//! One request as the pipeline sees it, and what is remembered of it while it lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};
use kubeng_config::name::Hostname;
use kubeng_config::policy::Policy;

use crate::backend::choice::Wish;
use crate::backend::{Admitted, CompiledBackend, InFlight, Retrying};
use crate::filter::compression::Encoder;
use crate::filter::request_id::RequestId;
use crate::filter::{body_limit, concurrency_limit, cors, mirror};
use crate::listener::connection::ConnFacts;
use crate::metrics::ListenerMetrics;
use crate::reason::Reason;
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
    /// What the request says about the Endpoint that it wants.
    pub(crate) wish: Wish,
    pub(crate) tries: Tries,
    /// Why it was not served, or not to its end.
    pub(crate) reason: Option<Reason>,
    /// The status that the client got.
    pub(crate) answered: Option<StatusCode>,
    /// What Filters noted; absent for most requests.
    pub(crate) extra: Option<Box<Extra>>,
}

/// What Filters noted about one request.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Edits of what is forwarded, in order.
    pub(crate) edits: Vec<RequestEdit>,
    pub(crate) cors: Option<cors::Answer>,
    pub(crate) request_id: Option<RequestId>,
    /// Places among the requests in progress, given back with this.
    pub(crate) permits: Vec<concurrency_limit::Permit>,
    pub(crate) bodies: body_limit::Seen,
    pub(crate) mirrors: Vec<mirror::Copy>,
    pub(crate) encoder: Option<Encoder>,
    /// Whether a page is sent in the place of what the Backend answered.
    pub(crate) is_replaced: bool,
}

impl Extra {
    /// The request is sent, perhaps again, from its start.
    pub(crate) fn begin_try(&mut self) {
        self.bodies.request.restart();
        self.mirrors.iter_mut().for_each(mirror::Copy::restart);
    }
}

/// An edit of what is forwarded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RequestEdit {
    /// Replaces all fields of this name.
    Set(HeaderName, HeaderValue),
    /// Puts one more in.
    Add(HeaderName, HeaderValue),
    /// Takes all of this name out.
    Remove(HeaderName),
}

impl RequestEdit {
    /// Carries it out.
    pub(crate) fn apply(&self, to: &mut impl Fields) {
        match self {
            Self::Set(name, value) => to.set(name, value.clone()),
            Self::Add(name, value) => to.add(name, value.clone()),
            Self::Remove(name) => to.remove(name),
        }
    }
}

/// The tries of a request so far.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    pub(crate) count: u8,
    /// The Endpoint of the current one.
    pub(crate) current: Option<InFlight>,
    /// Endpoints that are not tried again.
    pub(crate) failed: Vec<SocketAddr>,
    /// When the current one began.
    pub(crate) began: Option<Instant>,
    /// When it must have ended, its answer included.
    pub(crate) ends: Option<Instant>,
    /// Whether its answer is passed on.
    pub(crate) is_answered: bool,
    /// Interim answers that came before.
    pub(crate) interim: u8,
    /// That it is to be repeated because of its answer.
    pub(crate) is_repeated: bool,
    /// Counts while the request lives.
    pub(crate) admitted: Option<Admitted>,
    /// Counts from the first retry on.
    pub(crate) retrying: Option<Retrying>,
}
