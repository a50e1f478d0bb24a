//! How long is waited after failures. Pure, but for the jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::failure::Failure;

/// Pauses after failures: each twice as long as the one before, with jitter.
///
/// A right that is missing has pauses of its own. An API server that starts refuses everything until
/// it has read its roles, so the first of them is short, however long it was away.
pub(crate) struct Pauses {
    min: Duration,
    max: Duration,
    next: Duration,
    next_denied: Duration,
}

impl Pauses {
    /// Pauses from `min` to `max`, each at most a quarter longer.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min, next_denied: min }
    }

    /// How long to wait after `failure`.
    pub(crate) fn after(&mut self, failure: &Failure) -> Duration {
        let pause = match failure {
            Failure::Forbidden(_) => {
                // It answers: what fails next fails for the first time.
                self.next = self.min;
                let pause = self.next_denied;
                self.next_denied = self.longer(pause);
                pause
            }
            Failure::Expired | Failure::Absent(_) | Failure::Unknown(_) | Failure::Other(..) => {
                self.next_denied = self.min;
                let pause = self.next;
                self.next = self.longer(pause);
                pause
            }
        };
        // Up to a quarter more, so that many watches do not come back as one.
        let random = RandomState::new().hash_one(0_u8) % 256;
        pause + pause.mul_f64(f64::from(u8::try_from(random).unwrap_or(0)) / 1024.0)
    }

    /// All went well: the next failure is the first.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
        self.next_denied = self.min;
    }

    fn longer(&self, pause: Duration) -> Duration {
        (pause * 2).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use kubeng_config::problem::{Problem, SOURCE_UNREACHABLE, Subject};

    use super::*;

    fn problem() -> Problem {
        Problem {
            subject: Subject::Other("kubernetes".to_owned()),
            field: String::new(),
            code: SOURCE_UNREACHABLE,
            message: String::new(),
            remedy: String::new(),
            provenance: None,
        }
    }

    #[track_caller]
    fn check(pauses: &mut Pauses, failure: &Failure, seconds: u64) {
        let (pause, expected) = (pauses.after(failure), Duration::from_secs(seconds));
        assert!(pause >= expected && pause <= expected * 5 / 4, "{failure:?}: {pause:?}");
    }

    #[test]
    fn a_server_that_was_away_and_refuses_is_asked_again_soon() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(30));
        let (away, denied) = (Failure::Other(problem(), None), Failure::Forbidden(problem()));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            check(&mut pauses, &away, seconds);
        }
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            check(&mut pauses, &denied, seconds);
        }
        // It answered in between, so this is the first failure of its kind.
        for seconds in [1, 2] {
            check(&mut pauses, &away, seconds);
        }
        check(&mut pauses, &denied, 1);
        pauses.reset();
        check(&mut pauses, &denied, 1);
        check(&mut pauses, &away, 1);
    }
}
