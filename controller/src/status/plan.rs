//! What a status should show, and when it is written: values in, values out, time as an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kubeng_config::name::ObjectKey;

use crate::pace::{Backoff, Bucket};
use crate::translate::verdict::{Outcome, Verdict, outcome};

/// What should become of one status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// It stays as it is.
    Leave,
    /// It shows these addresses.
    Show(Vec<String>),
    /// It shows no more addresses that we wrote and nobody else has written since.
    Clear,
}

/// What should become of the status of an Ingress that shows `shows`.
pub(crate) fn wish(verdict: &Verdict<'_>, shows: &[String], addresses: &[String]) -> Wish {
    let is_shown = shows == addresses || {
        let mut shows: Vec<&String> = shows.iter().collect();
        shows.sort_unstable();
        shows.into_iter().eq(addresses)
    };
    match verdict {
        Verdict::Ours { .. } if is_shown => Wish::Leave,
        Verdict::Ours { problems } => {
            let is_rejected = |problem: &&kubeng_config::problem::Problem| {
                problem.field.is_empty() && outcome(problem.code) == Outcome::Rejected
            };
            match problems.iter().find(is_rejected) {
                Some(_) => Wish::Leave,
                None => Wish::Show(addresses.to_vec()),
            }
        }
        Verdict::Foreign if is_shown => Wish::Clear,
        Verdict::Foreign => Wish::Leave,
    }
}

/// Statuses that wait to be written. At most one wish for each Ingress: the newest.
///
/// The first change of an Ingress is written at once; further ones when it was
/// quiet for [`QUIET`], or after [`WAIT_MAX`] all the same.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: BTreeMap<ObjectKey, Waiting>,
    written: BTreeMap<ObjectKey, Instant>,
    bucket: Bucket,
}

#[derive(Debug)]
struct Waiting {
    wish: Wish,
    /// When the first wish came after the last write.
    first: Instant,
    /// When the newest wish came.
    newest: Instant,
    backoff: Backoff,
}

/// What to do with a [`Queue`].
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Write this, and then say [`Queue::done`] or [`Queue::failed`].
    Write(ObjectKey, Wish),
    /// Look again at this time.
    At(Instant),
    /// Nothing waits.
    Idle,
}

impl Default for Queue {
    fn default() -> Self {
        let bucket = Bucket::new(PER_SECOND, AT_ONCE);
        Self { waiting: BTreeMap::new(), written: BTreeMap::new(), bucket }
    }
}

impl Queue {
    /// This is what should become of the status of `key`.
    pub(crate) fn ask(&mut self, key: &ObjectKey, wish: Wish, now: Instant) {
        match (self.waiting.get_mut(key), wish) {
            (None, Wish::Leave) => {}
            (Some(_), Wish::Leave) => {
                self.waiting.remove(key);
            }
            (Some(waiting), wish) if waiting.wish == wish => {}
            (Some(waiting), wish) => {
                waiting.wish = wish;
                waiting.newest = now;
            }
            (None, wish) => {
                let backoff = Backoff::default();
                self.waiting
                    .insert(key.clone(), Waiting { wish, first: now, newest: now, backoff });
            }
        }
    }

    /// Forgets the wishes of Ingresses that are gone.
    pub(crate) fn keep(&mut self, exists: impl Fn(&ObjectKey) -> bool) {
        self.waiting.retain(|key, _| exists(key));
    }

    /// What is due at `now`; who has waited longest comes first.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        self.written.retain(|_, at| now < *at + WAIT_MAX);
        let due = |(key, waiting): (&ObjectKey, &Waiting)| {
            let was_written = self.written.contains_key(key);
            let quiet = (waiting.newest + QUIET).min(waiting.first + WAIT_MAX);
            let due = if was_written { quiet } else { waiting.first };
            (due.max(now + waiting.backoff.wait(now)), waiting.first, key.clone())
        };
        let Some((due, _, key)) = self.waiting.iter().map(due).min() else { return Next::Idle };
        let due = due.max(now + self.bucket.wait(now));
        match self.waiting.get(&key) {
            Some(waiting) if due <= now => {
                self.bucket.took(now);
                Next::Write(key, waiting.wish.clone())
            }
            Some(_) | None => Next::At(due),
        }
    }

    /// What [`next`](Self::next) gave is written, or need not be.
    pub(crate) fn done(&mut self, key: &ObjectKey, now: Instant) {
        self.waiting.remove(key);
        self.written.insert(key.clone(), now);
    }

    /// What [`next`](Self::next) gave could not be written; it is tried again later.
    pub(crate) fn failed(&mut self, key: &ObjectKey, now: Instant) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.backoff.failed(now);
        }
    }
}

/// A status that changes is written when it was quiet for so long.
const QUIET: Duration = Duration::from_millis(100);

/// A status that never is quiet is written so often.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Writes per second, of all statuses together.
const PER_SECOND: u32 = 10;

/// Writes at once after a quiet time.
const AT_ONCE: u32 = 20;

#[cfg(test)]
mod tests;
