//! What is noted of one request while it lasts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::CompiledBackend;
use crate::metrics::ListenerMetrics;
use crate::metrics::traffic::Traffic;
use crate::sketch::Selected;
use crate::trace::Trace;

/// Notes about one request.
#[derive(Debug, Default)]
pub(crate) struct Seen {
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
    /// Counts the request as one in flight at its Listener, until this is dropped.
    pub(super) fn enter(&mut self, worker: usize, listener: Option<&Arc<ListenerMetrics>>) {
        let Some(listener) = listener.cloned() else { return };
        listener.traffic.begun(worker);
        self.in_flight = Some(InFlight { worker, listener, backend: None });
    }

    /// Counts it as one in flight at its Backend, too.
    pub(super) fn enter_backend(&mut self, backend: &CompiledBackend) {
        let Some(in_flight) = &mut self.in_flight else { return };
        if in_flight.backend.is_none() {
            backend.traffic.begun(in_flight.worker);
            in_flight.backend = Some(backend.traffic.clone());
        }
    }

    /// A try begins.
    pub(crate) fn trying(&mut self, now: Instant) {
        self.try_began = Some(now);
    }

    /// The try has a connection, over which nothing has been asked before unless it `is_reused`.
    pub(crate) fn connected(&mut self, is_reused: bool) {
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
