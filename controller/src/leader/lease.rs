//! What is decided about a Lease: values in, values out, time as an argument.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::{LeaderSettings, Leadership, Pace};

/// What a Lease says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// Who holds it; nobody after it was given back.
    pub(crate) holder: Option<Arc<str>>,
    /// How long it holds after a renewal.
    pub(crate) duration: Duration,
    /// How often it went to another one.
    pub(crate) transitions: u64,
    /// When it was renewed, by the clock of the holder: only ever compared for equality.
    pub(crate) renewed: Option<MicroTime>,
    /// When the holder got it, by its clock: written back as it is.
    pub(crate) acquired: Option<MicroTime>,
    /// The `resourceVersion`.
    pub(crate) version: Option<String>,
}

/// What a candidate does next.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Attempt {
    /// Nothing: another one holds the Lease.
    Wait,
    /// There is no Lease: make one.
    Create {
        /// What it says.
        record: Record,
    },
    /// Take the Lease, or renew it, if it is still of this version.
    Replace {
        /// What it says after that.
        record: Record,
        /// The version that was seen.
        version: String,
    },
}

/// A process that wants to lead, or leads.
#[derive(Debug)]
pub(crate) struct Candidate {
    identity: Arc<str>,
    pace: Pace,
    /// The Lease as it was last seen, and when it was first seen so. `None` inside: there is none.
    seen: Option<(Option<Record>, Instant)>,
    /// Whether `seen` is what must be read again before anything is written.
    is_stale: bool,
    term: Option<Term>,
    /// The least number that a term may have.
    least: u64,
}

/// A term in which this process leads.
#[derive(Clone, Copy, Debug)]
struct Term {
    epoch: u64,
    /// When the last renewal that succeeded was sent.
    renewed: Instant,
}

impl Candidate {
    pub(crate) fn new(identity: Arc<str>, pace: Pace) -> Self {
        Self { identity, pace, seen: None, is_stale: true, term: None, least: 0 }
    }

    /// Whether the Lease must be read first. A leader writes at once: the
    /// version tells whether somebody else has written meanwhile.
    pub(crate) fn must_read(&self) -> bool {
        self.term.is_none() || self.is_stale
    }

    /// The Lease is so at `now`.
    pub(crate) fn saw(&mut self, record: Option<Record>, now: Instant) {
        self.is_stale = false;
        let is_held_by_me =
            record.as_ref().is_some_and(|record| record.holder.as_ref() == Some(&self.identity));
        if !is_held_by_me {
            // Taken by another one, or removed by a person.
            self.term = None;
        }
        match &self.seen {
            Some((before, _)) if *before == record => {}
            _ => self.seen = Some((record, now)),
        }
    }

    /// A term of at least this number was led before, whatever the Lease says: it may come from a backup.
    pub(crate) fn not_before(&mut self, least: u64) {
        self.least = self.least.max(least);
    }

    /// What to do at `now`, by what was seen.
    pub(crate) fn decide(&self, now: Instant) -> Attempt {
        let Some((seen, since)) = &self.seen else { return Attempt::Wait };
        let Some(seen) = seen else {
            return Attempt::Create { record: self.record(self.least, None) };
        };
        let Some(version) = seen.version.clone() else { return Attempt::Wait };
        let is_mine = seen.holder.as_ref() == Some(&self.identity);
        let is_free = seen.holder.as_deref().is_none_or(str::is_empty);
        let record = match self.term {
            Some(term) if is_mine && term.epoch >= self.least => {
                self.record(term.epoch, seen.acquired.clone())
            }
            // Mine without a term: it ran out here while nobody else took it. Its epoch is spent.
            _ if is_mine || is_free || now >= *since + seen.duration => {
                self.record((seen.transitions + 1).max(self.least), None)
            }
            _ => return Attempt::Wait,
        };
        Attempt::Replace { record, version }
    }

    /// What was decided has been written, by a request sent at `sent`.
    pub(crate) fn wrote(&mut self, record: Record, sent: Instant) {
        // Others count from the moment they saw it, which was later.
        self.term = Some(Term { epoch: record.transitions, renewed: sent });
        self.seen = Some((Some(record), sent));
        self.is_stale = false;
    }

    /// What was seen may be so no more.
    pub(crate) fn forget(&mut self) {
        self.is_stale = true;
    }

    /// Ends a term that could not be renewed in time.
    pub(crate) fn end_term_if_over(&mut self, now: Instant) {
        if self.term.is_some_and(|term| now >= term.renewed + self.pace.renew_within) {
            self.term = None;
        }
    }

    /// The longest time that a try may take.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        let end = self.term.map(|term| term.renewed + self.pace.renew_within);
        end.map_or(self.pace.renew_within, |end| end.saturating_duration_since(now))
    }

    /// The time until the next try.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        match (&self.term, &self.seen) {
            (Some(_), _) => self.pace.retry.min(self.patience(now)),
            (None, Some((Some(seen), since))) if !self.is_stale => {
                // At its end sharp, if that comes first.
                let end = (*since + seen.duration).saturating_duration_since(now);
                if end.is_zero() { self.pace.retry } else { self.pace.retry.min(end) }
            }
            (None, _) => self.pace.retry,
        }
    }

    pub(crate) fn leadership(&self) -> Leadership {
        self.term.map_or(Leadership::Follower, |term| Leadership::Leader {
            epoch: term.epoch,
            until: term.renewed + self.pace.renew_within,
        })
    }

    /// How often the Lease has gone to another one, as far as is known.
    pub(crate) fn transitions(&self) -> Option<u64> {
        let seen = self.seen.as_ref().and_then(|(seen, _)| seen.as_ref());
        self.term.map(|term| term.epoch).or_else(|| seen.map(|seen| seen.transitions))
    }

    /// What gives the Lease back, if this process holds it.
    pub(crate) fn farewell(&mut self) -> Option<(Record, String)> {
        let term = self.term.take()?;
        let (Some(seen), _) = self.seen.as_ref()? else { return None };
        let version = seen.version.clone()?;
        let mut record = self.record(term.epoch, seen.acquired.clone());
        record.holder = None;
        record.duration = Duration::from_secs(1);
        Some((record, version))
    }

    fn record(&self, transitions: u64, acquired: Option<MicroTime>) -> Record {
        Record {
            holder: Some(Arc::clone(&self.identity)),
            duration: self.pace.duration,
            transitions,
            renewed: None,
            acquired,
            version: None,
        }
    }
}

impl Record {
    /// What `lease` says. What makes no sense counts as the longest or the least.
    pub(crate) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let transitions = spec.lease_transitions.and_then(|count| u64::try_from(count).ok());
        Self {
            holder: spec.holder_identity.map(Arc::from),
            duration: seconds.map_or(DURATION_MAX, Duration::from_secs).min(DURATION_MAX),
            transitions: transitions.unwrap_or(0),
            renewed: spec.renew_time,
            acquired: spec.acquire_time,
            version: lease.metadata.resource_version.clone(),
        }
    }

    /// The Lease that says so, renewed at `now`.
    pub(crate) fn lease(
        &self,
        settings: &LeaderSettings,
        version: Option<String>,
        now: jiff::Timestamp,
    ) -> Lease {
        let now = MicroTime(now);
        Lease {
            metadata: ObjectMeta {
                name: Some(settings.name.clone()),
                namespace: Some(settings.namespace.clone()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: self.holder.as_deref().map(str::to_owned),
                lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
                lease_transitions: i32::try_from(self.transitions).ok(),
                acquire_time: Some(self.acquired.clone().unwrap_or_else(|| now.clone())),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// The longest wait for the end of a Lease of another one, whatever it says.
const DURATION_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
