//! What is counted of requests: for a Listener, a Backend, a tenant or a Route alike.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

/// Numbers of requests, times and bytes, counted by each worker for itself.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Box<[Cells]>);

/// A number that one thread writes and any may read: counting needs no locked instruction.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl Cell {
    fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts. Aligned so that workers share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cells {
    /// Requests without an answer, then 1xx to 5xx.
    classes: [Cell; 6],
    duration: Times,
    first_byte: Times,
    connect_micros: Cell,
    connects: Cell,
    request_bytes: Cell,
    response_bytes: Cell,
    begun: Cell,
    ended: Cell,
    tries: Cell,
}

#[derive(Debug, Default)]
struct Times {
    buckets: [Cell; BOUNDS.len() + 1],
    micros: Cell,
}

impl Times {
    fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|(bound, _)| *bound < micros);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.add(1);
        }
        self.micros.add(micros);
    }
}

/// What is counted of one request when it is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Option<StatusCode>,
    pub(crate) took: Duration,
    /// From the begin of the last try to the head of its answer.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) body_bytes: (u64, u64),
    pub(crate) tries: u8,
}

impl Traffic {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Cells::default()).collect())
    }

    /// Counts a request that `worker` began. Only the thread of that worker may call it.
    pub(crate) fn begun(&self, worker: usize) {
        if let Some(cells) = self.0.get(worker) {
            cells.begun.add(1);
        }
    }

    /// Counts that a request that was [`begun`](Self::begun) is over, however it ended.
    pub(crate) fn ended(&self, worker: usize) {
        if let Some(cells) = self.0.get(worker) {
            cells.ended.add(1);
        }
    }

    /// Counts what became of a request. Only the thread of that worker may call it.
    pub(crate) fn count(&self, worker: usize, outcome: &Outcome) {
        let Some(cells) = self.0.get(worker) else { return };
        let Outcome { status, took, first_byte, connect, body_bytes: (read, sent), tries } =
            *outcome;
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
        if let Some(cell) = cells.classes.get(class) {
            cell.add(1);
        }
        cells.duration.observe(took);
        if let Some(first_byte) = first_byte {
            cells.first_byte.observe(first_byte);
        }
        if let Some(connect) = connect {
            cells.connects.add(1);
            cells.connect_micros.add(u64::try_from(connect.as_micros()).unwrap_or(u64::MAX));
        }
        cells.request_bytes.add(read);
        cells.response_bytes.add(sent);
        cells.tries.add(tries.into());
    }

    /// The sum over all workers.
    pub(super) fn read(&self) -> Totals {
        let mut totals = Totals::default();
        for cells in &self.0 {
            let Cells {
                classes,
                duration,
                first_byte,
                connect_micros,
                connects,
                request_bytes,
                response_bytes,
                begun,
                ended,
                tries,
            } = cells;
            for (total, cell) in totals.classes.iter_mut().zip(classes) {
                *total += cell.read();
            }
            totals.duration.add(duration);
            totals.first_byte.add(first_byte);
            totals.connect_micros += connect_micros.read();
            totals.connects += connects.read();
            totals.request_bytes += request_bytes.read();
            totals.response_bytes += response_bytes.read();
            // The end first: a request that comes in between is not counted as less than none.
            let (ended, begun) = (ended.read(), begun.read());
            totals.in_flight += begun.saturating_sub(ended);
            totals.tries += tries.read();
        }
        totals
    }
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) classes: [u64; 6],
    pub(super) duration: TotalTimes,
    pub(super) first_byte: TotalTimes,
    pub(super) connect_micros: u64,
    pub(super) connects: u64,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) in_flight: u64,
    pub(super) tries: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TotalTimes {
    /// By bucket, not yet summed up.
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) micros: u64,
}

impl TotalTimes {
    fn add(&mut self, times: &Times) {
        for (total, cell) in self.buckets.iter_mut().zip(&times.buckets) {
            *total += cell.read();
        }
        self.micros += times.micros.read();
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The upper bounds of the buckets of times: in microseconds, and as a label in seconds.
pub(super) const BOUNDS: [(u64, &str); 13] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];
