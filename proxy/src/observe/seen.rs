//! What is noted of one request while it lasts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::CompiledBackend;
use crate::forward::Failure;
use crate::metrics::ListenerMetrics;
use crate::metrics::traffic::Traffic;
use crate::record::reason::Reason;
use crate::sketch::Selected;
use crate::trace::Trace;

/// Notes about one request. Filters that answer by themselves set `reason`.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Why it failed on our side, if it did.
    pub(crate) reason: Option<Reason>,
    /// What became of the try before, as long as no other has connected.
    pub(crate) failure: Option<Failure>,
    /// When the current try began.
    try_began: Option<Instant>,
    /// From there to the head of the answer.
    pub(crate) try_first_byte: Option<Duration>,
    /// When the head of the Backend's answer came.
    pub(crate) first_byte: Option<Instant>,
    /// How long the connection took to open; absent over a pooled one.
    pub(crate) connect: Option<Duration>,
    pub(crate) trace: Option<Trace>,
    pub(crate) selected: Box<[Selected]>,
    /// Whether the client asked how it is served, and may know.
    pub(crate) is_debug: bool,
    in_flight: Option<InFlight>,
}

impl Seen {
    /// Counts the request as one in flight, until this is dropped.
    pub(super) fn enter(
        &mut self,
        worker: usize,
        listener: Option<&Arc<ListenerMetrics>>,
        backend: Option<&Arc<CompiledBackend>>,
    ) {
        let Some(listener) = listener.cloned() else { return };
        listener.traffic.begun(worker);
        let backend = backend.map(|backend| backend.traffic.clone());
        if let Some(backend) = &backend {
            backend.begun(worker);
        }
        self.in_flight = Some(InFlight { worker, listener, backend });
    }

    /// A try begins.
    pub(crate) fn trying(&mut self, now: Instant) {
        self.try_began = Some(now);
    }

    /// The try failed.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }

    /// The try has a connection, over which nothing has been asked before unless it `is_reused`.
    pub(crate) fn connected(&mut self, is_reused: bool) {
        self.failure = None;
        if !is_reused {
            self.connect = self.try_began.map(|began| began.elapsed());
        }
    }

    /// The head of the Backend's answer is there.
    pub(crate) fn answered(&mut self) {
        let now = Instant::now();
        self.first_byte = Some(now);
        self.try_first_byte = self.try_began.map(|began| now - began);
    }
}

/// Counted as in flight while it lives. It must be dropped on the thread of its worker.
#[derive(Debug)]
struct InFlight {
    worker: usize,
    listener: Arc<ListenerMetrics>,
    backend: Option<Arc<Traffic>>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.listener.traffic.ended(self.worker);
        if let Some(backend) = &self.backend {
            backend.ended(self.worker);
        }
    }
}
