//! What the replica does by itself: as its fleet says, and at least as often as its own settings want.

use std::time::Duration;

use kubeng_config::fleet::Pulse;
use tokio::sync::watch;

/// How often it tells of itself and looks at what it runs, and who is told when that changes.
pub(in crate::wiring) struct Pulsing {
    heartbeat: Option<Duration>,
    table_check: Option<Duration>,
    now: watch::Sender<Pulse>,
}

impl Default for Pulsing {
    fn default() -> Self {
        Self::at_least(None, None)
    }
}

impl Pulsing {
    /// As the defaults say until a controller is heard; each at least as often as is given here.
    pub(in crate::wiring) fn at_least(
        heartbeat: Option<Duration>,
        table_check: Option<Duration>,
    ) -> Self {
        let now = watch::Sender::new(Pulse::default().at_least(heartbeat, table_check));
        Self { heartbeat, table_check, now }
    }

    /// Takes over what the fleet says.
    pub(super) fn told(&self, pulse: Pulse) {
        let next = pulse.at_least(self.heartbeat, self.table_check);
        self.now.send_if_modified(|known| std::mem::replace(known, next) != next);
    }

    /// What is done from here on, told anew when it changes.
    pub(in crate::wiring) fn follow(&self) -> watch::Receiver<Pulse> {
        self.now.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_is_followed_and_settings_only_ask_for_more() {
        let seconds = |(beat, check): (u64, u64)| Pulse {
            heartbeat_every: Duration::from_secs(beat),
            table_check_every: Duration::from_secs(check),
        };
        let after = |heartbeat: Option<u64>, check: Option<u64>, told: (u64, u64)| {
            let [heartbeat, check] = [heartbeat, check].map(|s| s.map(Duration::from_secs));
            let pulsing = Pulsing::at_least(heartbeat, check);
            pulsing.told(seconds(told));
            *pulsing.follow().borrow()
        };
        assert_eq!(*Pulsing::default().follow().borrow(), Pulse::default());
        assert_eq!(after(None, None, (20, 600)), seconds((20, 600)));
        assert_eq!(after(Some(1), None, (20, 600)), seconds((1, 600)));
        // Who tells of himself less often than is expected would count as unreachable.
        assert_eq!(after(Some(30), Some(3600), (2, 10)), seconds((2, 10)));
    }
}
