//! One request as the pipeline sees it, and what is remembered of it while it lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};
use kubeng_config::name::Hostname;
use kubeng_config::policy::Policy;
use kubeng_config::request::Scheme;

use crate::backend::choice::Wish;
use crate::backend::{Admitted, CompiledBackend, InFlight, Retrying};
use crate::filter::compression::Encoder;
use crate::filter::request_id::RequestId;
use crate::filter::{body_limit, concurrency_limit, cors, mirror};
use crate::listener::alarm::Alarm;
use crate::listener::facts::ConnFacts;
use crate::listener::refusal::Rule;
use crate::metrics::ListenerMetrics;
use crate::observe::Seen;
use crate::pipeline::Begin;
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
    /// On HTTP/2, where requests share a connection: the deadline of this one, for the engine.
    pub(crate) alarm: Option<Arc<Alarm>>,
    pub(crate) started: Option<(Instant, SystemTime)>,
    pub(crate) form: Form,
    /// How the client itself asks, also behind a proxy; None until the pipeline has begun.
    pub(crate) scheme: Option<Scheme>,
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
    /// What the pipeline has said, until the engine that carries the request asks.
    pub(crate) begun: Option<Begin>,
    /// What Filters noted; absent for most requests.
    pub(crate) extra: Option<Box<Extra>>,
    /// What is told about it when it is over.
    pub(crate) seen: Seen,
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
    /// Whether the request is read whole before a Backend is asked.
    pub(crate) is_buffered: bool,
    /// Bytes of the answer that are read ahead of the client; 0 for none.
    pub(crate) ahead_bytes_max: u64,
    pub(crate) encoder: Option<Encoder>,
    /// Whether the answer of the Backend was given up for a page.
    pub(crate) is_replaced: bool,
    /// The page that goes out in the place of the body.
    pub(crate) page: Instead,
}

/// What goes out in the place of the body of a Backend.
#[derive(Debug, Default)]
pub(crate) enum Instead {
    /// The body itself does.
    #[default]
    Nothing,
    /// This, with the next part.
    Waits(Bytes),
    /// It has; what else comes is dropped.
    Sent,
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
    /// The field that it is about.
    fn name(&self) -> &HeaderName {
        match self {
            Self::Set(name, _) | Self::Add(name, _) | Self::Remove(name) => name,
        }
    }

    /// Carries all of `edits` out, and takes out what a client sent that a Backend might read as
    /// one of these fields because it takes `_` for `-`.
    pub(crate) fn apply_all(edits: &[Self], to: &mut impl Fields) {
        let is_twin = |name: &&HeaderName| {
            let (dashed, name) = (name.as_str().replace('_', "-"), *name);
            edits
                .iter()
                .map(Self::name)
                .any(|of_edit| of_edit != name && of_edit.as_str().replace('_', "-") == dashed)
        };
        let twins: Vec<HeaderName> = to.fields().keys().filter(is_twin).cloned().collect();
        twins.iter().for_each(|twin| to.remove(twin));
        edits.iter().for_each(|edit| edit.apply(to));
    }

    /// Carries it out.
    fn apply(&self, to: &mut impl Fields) {
        match self {
            Self::Set(name, value) => to.set(name, value.clone()),
            Self::Add(name, value) => to.add(name, value.clone()),
            Self::Remove(name) => to.remove(name),
        }
    }
}

impl RequestContext {
    /// The rule that its body broke.
    pub(crate) fn body_fault(&self) -> Option<Rule> {
        self.facts.as_ref()?.body_fault.rule()
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
    /// Whether one was: then an Endpoint that was tried is better than none.
    pub(crate) was_repeated: bool,
    /// Whether an Endpoint refused it without having looked at it: the same as above.
    pub(crate) was_refused: bool,
    /// Counts while the request lives.
    pub(crate) admitted: Option<Admitted>,
    /// Counts from the first retry on.
    pub(crate) retrying: Option<Retrying>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_like_an_edited_field_does_not_go_on() {
        let mut headers = HeaderMap::new();
        for name in ["x-user", "x_user", "x-role_of", "x-other_one"] {
            headers.insert(name, HeaderValue::from_static("client"));
        }
        let user = HeaderName::from_static("x-user");
        let role = HeaderName::from_static("x_role_of");
        let edits = [
            RequestEdit::Remove(user.clone()),
            RequestEdit::Add(user, HeaderValue::from_static("ann")),
            RequestEdit::Set(role, HeaderValue::from_static("admin")),
        ];
        RequestEdit::apply_all(&edits, &mut headers);
        let mut left: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("x-other_one", "client"), ("x-user", "ann"), ("x_role_of", "admin")]);
    }
}
