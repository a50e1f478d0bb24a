//! The recent requests of one worker, in memory that is bounded, by time.
//!
//! Records go into a run that is open; a run that is full is closed and never changes again. A
//! reader takes the lock only to copy pointers to runs, and looks at records without it, so a
//! worker waits at most for that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::Record;
use super::query::{RecordQuery, Summary};

/// The recent requests of one worker.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes_max: usize,
    keep: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: Vec<Arc<Record>>,
    /// What `open` has in common; kept up while each record is still in the cache.
    open_summary: Option<Summary>,
    open_bytes: usize,
    closed: VecDeque<Arc<Run>>,
    closed_bytes: usize,
    /// Closed runs that nobody has taken for planning.
    untaken: Vec<Arc<Run>>,
    /// Records whose run went before it was taken for planning.
    missed: u64,
}

/// Records that were made one after the other.
#[derive(Debug)]
pub(crate) struct Run {
    summary: Summary,
    bytes: usize,
    pub(crate) records: Box<[Arc<Record>]>,
}

/// Whether a push closed a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pushed {
    /// There is a run to take.
    Closed,
    /// Nothing more.
    Open,
}

impl Ring {
    /// One that takes at most `bytes_max` bytes and keeps nothing longer than `keep`.
    pub(crate) fn new(bytes_max: usize, keep: Duration) -> Self {
        Self { bytes_max, keep, inner: Mutex::default() }
    }

    /// Puts a record in; the oldest go where the memory or the time is over.
    ///
    /// Uncontended but for readers, who hold the lock for microseconds.
    pub(crate) fn push(&self, record: Arc<Record>) -> Pushed {
        let now = record.ended();
        let mut inner = self.lock();
        inner.open_bytes += record.memory_bytes();
        let summary = Summary::of(&record);
        inner.open_summary.get_or_insert(summary).join(summary);
        inner.open.push(record);
        let is_full = inner.open.len() >= RUN_RECORDS || inner.open_bytes >= self.run_bytes_max();
        if !is_full {
            return Pushed::Open;
        }
        self.close(&mut inner, now);
        Pushed::Closed
    }

    /// An eighth, so that what goes at once is little; a ring that keeps nothing still has runs.
    fn run_bytes_max(&self) -> usize {
        if self.bytes_max == 0 { RUN_BYTES_MAX } else { RUN_BYTES_MAX.min(self.bytes_max / 8) }
    }

    fn close(&self, inner: &mut Inner, now: SystemTime) {
        let records = std::mem::take(&mut inner.open).into_boxed_slice();
        let bytes = std::mem::take(&mut inner.open_bytes);
        let Some(summary) = inner.open_summary.take() else { return };
        let run = Arc::new(Run { summary, bytes, records });
        inner.untaken.push(run.clone());
        inner.missed += trim(&mut inner.untaken);
        inner.closed_bytes += bytes;
        inner.closed.push_back(run);
        let oldest = now.checked_sub(self.keep);
        while inner.closed.front().is_some_and(|run| {
            // The run that is open takes the rest.
            inner.closed_bytes > self.bytes_max / 8 * 7
                || oldest.is_some_and(|oldest| run.summary.span.1 < oldest)
        }) {
            if let Some(gone) = inner.closed.pop_front() {
                inner.closed_bytes -= gone.bytes;
            }
        }
    }

    /// The records that `query` wants, the newest first, at most as many as it says.
    pub(crate) fn find(&self, query: &RecordQuery, now: SystemTime) -> Vec<Arc<Record>> {
        let (open, closed) = {
            let inner = self.lock();
            (inner.open.clone(), inner.closed.clone())
        };
        let oldest = now.checked_sub(self.keep);
        let runs = closed.iter().rev().filter(|run| query.may_fit(&run.summary));
        open.iter()
            .rev()
            .chain(runs.flat_map(|run| run.records.iter().rev()))
            .filter(|record| oldest.is_none_or(|oldest| record.ended() >= oldest))
            .filter(|record| query.fits(record))
            .take(query.limit)
            .cloned()
            .collect()
    }

    /// The runs that were closed since this was asked last, and how many records went unseen.
    pub(crate) fn take_closed(&self) -> (Vec<Arc<Run>>, u64) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.untaken), std::mem::take(&mut inner.missed))
    }

    /// Closes the open run, so that it can be taken.
    pub(crate) fn close_open(&self, now: SystemTime) {
        let mut inner = self.lock();
        self.close(&mut inner, now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the oldest runs that nobody takes; gives how many records they held.
fn trim(untaken: &mut Vec<Arc<Run>>) -> u64 {
    let too_many = untaken.len().saturating_sub(UNTAKEN_RUNS_MAX);
    untaken.drain(..too_many).map(|run| run.records.len() as u64).sum()
}

/// Records of one run.
const RUN_RECORDS: usize = 256;
const RUN_BYTES_MAX: usize = 256 * 1024;
/// Runs that wait to be taken; they are shared with the ring unless they are older.
const UNTAKEN_RUNS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::query::StatusQuery;
    use super::super::tests::record;
    use super::*;

    const KEEP: Duration = Duration::from_secs(900);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn filled(count: u64) -> Ring {
        let ring = Ring::new(1 << 20, KEEP);
        for number in 0..count {
            let status = if number % 100 == 0 { 503 } else { 200 };
            ring.push(Arc::new(record(
                "a.example",
                &format!("/{number}"),
                status,
                at(number / 10),
            )));
        }
        ring
    }

    #[track_caller]
    fn check(query: &RecordQuery, expected: &[&str]) {
        let found = filled(1000).find(query, at(100));
        let paths: Vec<&str> = found.iter().map(|record| record.texts.path()).collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn the_newest_that_fit_come_first() {
        let all = RecordQuery { limit: 2, ..RecordQuery::default() };
        check(&all, &["/999", "/998"]);
        let status = Some(StatusQuery::Class(5));
        check(&RecordQuery { status, limit: 3, ..all.clone() }, &["/900", "/800", "/700"]);
        let (since, until) = (Some(at(50)), Some(at(50)));
        let one = RecordQuery { since, until, limit: 99, ..all.clone() };
        check(&RecordQuery { status: Some(StatusQuery::Code(503)), ..one.clone() }, &["/500"]);
        check(&RecordQuery { namespace: Some("fin".into()), ..one.clone() }, &[]);
        check(&RecordQuery { host: Some("b.example".into()), ..one.clone() }, &[]);
        let route = Some("Ingress/shop/web#a/".to_owned());
        let namespace = Some("shop".to_owned());
        let host = Some("a.example".to_owned());
        check(&RecordQuery { route, namespace, host, limit: 1, ..one }, &["/509"]);
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let bytes_max = 200_000;
        let ring = Ring::new(bytes_max, KEEP);
        for number in 0..20_000 {
            ring.push(Arc::new(record("a.example", "/x", 200, at(number / 100))));
        }
        let inner = ring.lock();
        let all = inner.closed.iter().flat_map(|run| run.records.iter()).chain(&inner.open);
        let bytes: usize = all.map(|record| record.memory_bytes()).sum();
        assert!(bytes <= bytes_max && bytes > bytes_max / 2, "{bytes}");
        assert!(inner.untaken.len() <= UNTAKEN_RUNS_MAX);
        assert!(inner.missed > 0);
        drop(inner);
        let query = RecordQuery { limit: 10, ..RecordQuery::default() };
        assert!(ring.find(&query, at(200) + KEEP * 2).is_empty(), "what is too old is not told");
    }

    #[test]
    fn each_run_is_taken_once() {
        let ring = filled(600);
        let count =
            |ring: &Ring| ring.take_closed().0.iter().map(|run| run.records.len()).sum::<usize>();
        assert_eq!(count(&ring), 512);
        assert_eq!(count(&ring), 0);
        ring.close_open(at(60));
        ring.close_open(at(60));
        assert_eq!(count(&ring), 88);
    }
}
