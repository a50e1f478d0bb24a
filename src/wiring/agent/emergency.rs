//! Changes on the machine itself: a Route is refused on this replica alone, for a limited time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kubeng_config::heartbeat::Emergency;
use kubeng_config::name::RouteId;
use tracing::warn;

use super::Agent;

/// What somebody on the machine wants.
#[derive(Clone, Debug)]
pub(in crate::wiring) struct Change {
    pub(in crate::wiring) route: RouteId,
    pub(in crate::wiring) by: String,
    pub(in crate::wiring) reason: String,
    pub(in crate::wiring) lasts: Duration,
}

/// What is in force. It survives no restart.
#[derive(Clone, Debug)]
pub(in crate::wiring) struct InForce {
    pub(in crate::wiring) told: Emergency,
    until: SystemTime,
}

/// What became of a wish to end it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::wiring) enum Ended {
    /// The Route serves again.
    Ended,
    /// There was none.
    Nothing,
}

impl Agent {
    /// Refuses a Route on this replica. A change that is in force is ended first.
    ///
    /// # Errors
    /// When there is no such Route.
    pub(in crate::wiring) fn refuse(&mut self, change: &Change) -> Result<Emergency, String> {
        let Change { route, by, reason, lasts } = change;
        if !self.writer.snapshot().routes().contains(route) {
            return Err(format!("there is no route {route}; see /api/v1/routes"));
        }
        self.end_emergency();
        if !self.writer.refuse(route) {
            return Err(format!("route {route} is served nowhere"));
        }
        let until = SystemTime::now() + *lasts;
        let seconds = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let reason = format!("route {route} answers 503: {reason}");
        let until_seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let told = Emergency { by: by.clone(), reason, until: until_seconds };
        warn!(by = %told.by, reason = %told.reason, "emergency: changed on this machine");
        self.emergency = Some(InForce { told: told.clone(), until });
        self.walking.wanted.notify_one();
        Ok(told)
    }

    /// Takes back what is in force.
    pub(in crate::wiring) fn end_emergency(&mut self) -> Ended {
        let Some(InForce { told, .. }) = self.emergency.take() else { return Ended::Nothing };
        self.writer.serve_again();
        warn!(by = %told.by, reason = %told.reason, "emergency: ended");
        self.walking.wanted.notify_one();
        Ended::Ended
    }

    /// Takes it back when its time is over; true then.
    pub(super) fn end_emergency_if_due(&mut self, now: SystemTime) -> bool {
        let is_due = self.emergency.as_ref().is_some_and(|in_force| in_force.until <= now);
        is_due && self.end_emergency() == Ended::Ended
    }
}
