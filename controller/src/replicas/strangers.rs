//! Replicas that were turned away: they are certified for a fleet that does not exist.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubeng_config::drift::Moment;
use kubeng_config::name::{FleetName, ReplicaName};
use kubeng_config::problem::{FLEET_ASKED_FOR, Problem, Subject};
use serde::Serialize;

use super::entry::ReplicaId;

/// How many are remembered; of more those are forgotten that asked least lately.
const STRANGERS_MAX: usize = 256;

/// How long one is told of that does not ask any more. A replica asks again every few seconds.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// How often the log tells of one fleet and address.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// How many replicas the message of a Problem names.
const NAMED_MAX: usize = 5;

/// A replica that was turned away, as it is told to people and programs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stranger {
    /// The fleet that it asks for, which does not exist.
    pub fleet: FleetName,
    /// Its name.
    pub name: ReplicaName,
    /// Where it asked from.
    pub address: IpAddr,
    /// When it was turned away first, RFC 3339.
    pub since: String,
    /// When it was turned away last, RFC 3339.
    pub heard: String,
}

/// All that were turned away lately.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<State>);

#[derive(Default)]
struct State {
    asked: BTreeMap<ReplicaId, Asked>,
    /// When the log told of a fleet and address last.
    logged: BTreeMap<(FleetName, IpAddr), Duration>,
}

#[derive(Clone, Copy)]
struct Asked {
    address: IpAddr,
    since: Duration,
    heard: Duration,
}

impl Strangers {
    /// Notes that a replica was turned away at `now`, since 1970; gives whether the log is to tell it.
    pub(crate) fn note(&self, id: &ReplicaId, address: IpAddr, now: Duration) -> bool {
        let mut state = self.lock();
        let former = state.asked.get(id).filter(|asked| is_recent(asked.heard, now));
        let since = former.map_or(now, |asked| asked.since);
        state.asked.insert(id.clone(), Asked { address, since, heard: now });
        if state.asked.len() > STRANGERS_MAX {
            let oldest = state.asked.iter().min_by_key(|(_, asked)| asked.heard);
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.map(|id| state.asked.remove(&id));
        }
        state.logged.retain(|_, at| now.saturating_sub(*at) < LOGGED_EVERY);
        let place = (id.fleet.clone(), address);
        if state.logged.contains_key(&place) || state.logged.len() >= STRANGERS_MAX {
            return false;
        }
        state.logged.insert(place, now);
        true
    }

    /// Those that still ask at `now` for a fleet that still does not exist.
    pub(crate) fn list(
        &self,
        is_there: impl Fn(&FleetName) -> bool,
        now: Duration,
    ) -> Vec<Stranger> {
        let mut state = self.lock();
        state.asked.retain(|id, asked| is_recent(asked.heard, now) && !is_there(&id.fleet));
        let told = |(id, asked): (&ReplicaId, &Asked)| Stranger {
            fleet: id.fleet.clone(),
            name: id.name.clone(),
            address: asked.address,
            since: Moment(asked.since).to_string(),
            heard: Moment(asked.heard).to_string(),
        };
        state.asked.iter().map(told).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(heard: Duration, now: Duration) -> bool {
    now.saturating_sub(heard) < TOLD_FOR
}

/// One Problem for each fleet that is asked for.
pub(super) fn problems(strangers: &[Stranger]) -> Vec<Problem> {
    let mut fleets: BTreeMap<&FleetName, Vec<&Stranger>> = BTreeMap::new();
    for stranger in strangers {
        fleets.entry(&stranger.fleet).or_default().push(stranger);
    }
    fleets.into_iter().map(|(fleet, of_it)| problem(fleet, &of_it)).collect()
}

fn problem(fleet: &FleetName, strangers: &[&Stranger]) -> Problem {
    let name = |stranger: &&Stranger| format!("{} at {}", stranger.name, stranger.address);
    let mut names: Vec<String> = strangers.iter().take(NAMED_MAX).map(name).collect();
    if strangers.len() > NAMED_MAX {
        names.push(format!("{} more", strangers.len() - NAMED_MAX));
    }
    Problem {
        subject: Subject::Other(format!("fleet {fleet}")),
        field: String::new(),
        code: FLEET_ASKED_FOR,
        message: format!(
            "there is no Fleet of this name, and replicas that ask for it are turned away: {}",
            names.join(", ")
        ),
        remedy: format!(
            "write the Fleet {fleet}; or stop these replicas, and join them to the one that is meant"
        ),
        provenance: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(fleet: &str, name: &str) -> ReplicaId {
        ReplicaId { fleet: fleet.parse().unwrap(), name: name.parse().unwrap() }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn the_log_tells_of_a_fleet_and_address_once_a_minute() {
        let strangers = Strangers::default();
        let mut told = Vec::new();
        for second in 0..130 {
            // Two replicas of one machine are one line.
            for name in ["r1", "r2"] {
                if strangers.note(&id("shop", name), address(1), at(second)) {
                    told.push(second);
                }
            }
        }
        assert_eq!(told, [0, 60, 120]);
        assert!(strangers.note(&id("shop", "r3"), address(2), at(130)), "another address");
        assert!(strangers.note(&id("test", "r1"), address(1), at(130)), "another fleet");
    }

    #[test]
    fn who_asks_is_told_until_it_asks_no_more_or_its_fleet_is_there() {
        let strangers = Strangers::default();
        strangers.note(&id("shop", "r1"), address(1), at(0));
        strangers.note(&id("shop", "r1"), address(1), at(50));
        strangers.note(&id("shop", "r2"), address(2), at(20));
        strangers.note(&id("test", "r1"), address(1), at(20));
        let names = |told: &[Stranger]| {
            told.iter().map(|one| format!("{}/{}", one.fleet, one.name)).collect::<Vec<_>>()
        };
        let told = strangers.list(|_| false, at(60));
        assert_eq!(names(&told), ["shop/r1", "shop/r2", "test/r1"]);
        assert_eq!(told[0].since, Moment(at(0)).to_string());
        assert_eq!(told[0].heard, Moment(at(50)).to_string());
        let all = problems(&told);
        assert_eq!(all.len(), 2, "one for each fleet: {all:?}");
        assert_eq!(all[0].subject, Subject::Other("fleet shop".into()));
        assert!(all[0].message.ends_with("r1 at 192.0.2.1, r2 at 192.0.2.2"), "{:?}", all[0]);
        let there = |fleet: &FleetName| fleet.as_str() == "test";
        assert_eq!(names(&strangers.list(there, at(60))), ["shop/r1", "shop/r2"]);
        assert_eq!(names(&strangers.list(|_| false, at(80))), ["shop/r1"]);
        assert!(strangers.list(|_| false, at(110)).is_empty());
    }

    #[test]
    fn many_are_bounded_and_those_that_asked_last_stay() {
        let strangers = Strangers::default();
        let last = u64::try_from(STRANGERS_MAX).unwrap() + 20;
        for nth in 0..=last {
            let seconds = at(nth / 100);
            strangers.note(&id("shop", &format!("r{nth:04}")), address(1), seconds);
            strangers.note(&id(&format!("f{nth}"), "r"), address(1), seconds);
        }
        let told = strangers.list(|_| false, at(3));
        assert_eq!(told.len(), STRANGERS_MAX);
        assert!(told.iter().any(|one| one.name.as_str() == format!("r{last:04}")));
        let message = problems(&told).into_iter().find(|one| one.message.contains("more"));
        let message = message.map(|one| one.message).unwrap_or_default();
        assert_eq!(message.matches(" at ").count(), NAMED_MAX, "{message}");
    }
}
