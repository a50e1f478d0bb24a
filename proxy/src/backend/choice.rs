//! Chooses an Endpoint: the algorithm proposes, what is known of each Endpoint disposes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kubeng_config::backend::balance::{Affinity, Balance, Zones};
use kubeng_config::backend::resilience::Circuit;
use kubeng_config::endpoint::EndpointState;

use super::balance::Schedule;
use super::balance::consistent_hash::mix;
use super::balance::two_choices::{By, better};
use super::levels::Level;
use super::member::{FULL_SHARE, InFlight, Member};
use super::sticky::{StickyKey, Token, Tokens};
use super::{CompiledBackend, Live};

/// What is known of the replica and of the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    /// Since the replica started.
    pub(crate) since_start: Duration,
    /// The zone that the replica runs in.
    pub(crate) zone: Option<&'a str>,
    /// The key of cookies.
    pub(crate) sticky_key: &'a StickyKey,
}

/// What a request says about the Endpoint that it wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wish {
    /// What is hashed.
    pub(crate) key: Option<u64>,
    /// What its cookie says.
    pub(crate) token: Option<Token>,
}

/// Why no Endpoint was chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoEndpoint {
    /// There is none that takes requests, or all were tried.
    None,
    /// All that could be used have as much to do as they may.
    Full,
}

/// How good an Endpoint is for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Grade {
    Good,
    /// It has joined and has its share for now.
    Warming,
    /// Better than nobody.
    Poor,
    Full,
    /// Tried before, or out of rotation where nobody may be used who is.
    Barred,
}

impl CompiledBackend {
    /// Chooses an Endpoint for a try that is none of `tried`.
    ///
    /// Those that are out of rotation come last, but before nobody at all, unless the panic threshold
    /// is 0.
    pub(crate) fn choose(
        &self,
        wish: Wish,
        tried: &[SocketAddr],
        setting: Setting<'_>,
    ) -> Result<InFlight, NoEndpoint> {
        let live = self.state.live.load();
        let chooser = Chooser { backend: self, live: &live, tried, setting, level: None };
        let level = chooser.level();
        Chooser { level, ..chooser }.choose(wish).map(InFlight::begin)
    }
}

struct Chooser<'a> {
    backend: &'a CompiledBackend,
    live: &'a Live,
    tried: &'a [SocketAddr],
    setting: Setting<'a>,
    /// The first one that can take a request, where there are several.
    level: Option<&'a Level>,
}

impl<'a> Chooser<'a> {
    fn choose(&self, wish: Wish) -> Result<&'a Arc<Member>, NoEndpoint> {
        if let Some(stuck) = wish.token.and_then(|token| self.stuck(token)) {
            return Ok(stuck);
        }
        let schedule = self.schedule();
        let super::BackendState { turn, chance, .. } = &*self.backend.state;
        match &self.backend.spec.balance {
            // A retry takes nobody's turn.
            Balance::RoundRobin if !self.tried.is_empty() => {
                self.settle(schedule, chance.scattered())
            }
            Balance::RoundRobin => self.settle(schedule, turn.next()),
            Balance::LeastRequests => self.two_choices(schedule, By::Load),
            Balance::PeakEwma => self.two_choices(schedule, By::Cost),
            Balance::ConsistentHash(_) => match wish.key {
                Some(key) => self.hashed(schedule, key),
                None => self.settle(schedule, turn.next()),
            },
        }
    }

    /// The Endpoint of a cookie, while it takes requests.
    fn stuck(&self, token: Token) -> Option<&'a Arc<Member>> {
        let Self { backend, live, setting, tried: _, level } = self;
        let tokens = live.tokens.get_or_init(|| {
            let addresses = live.members.iter().map(|member| member.address);
            Tokens::new(setting.sticky_key, &backend.id, addresses)
        });
        let at = tokens.find(token)?;
        let member = live.members.get(at)?;
        let takes = live.set.as_slice().get(at).is_some_and(|endpoint| {
            // One without a share keeps nobody, unless it is drained by somebody's word; and one
            // that stood in keeps nobody when those are back for whom it did.
            let keeps = endpoint.share() > 0 || endpoint.state == EndpointState::Draining;
            keeps && level.is_none_or(|level| endpoint.priority <= level.priority)
        });
        let is_fit = takes && matches!(self.grade(member), Grade::Good | Grade::Warming);
        is_fit.then_some(member)
    }

    fn two_choices(&self, schedule: &Schedule, by: By) -> Result<&'a Arc<Member>, NoEndpoint> {
        let chance = &self.backend.state.chance;
        let one = self.settle(schedule, chance.scattered())?;
        // The other one is another one where there are two.
        let mut others = schedule.from(chance.scattered()).take(OTHERS_MAX);
        let other = others.find_map(|at| {
            let member = self.live.members.get(at)?;
            (!Arc::ptr_eq(member, one) && self.grade(member) == Grade::Good).then_some(member)
        });
        match other {
            Some(other) if self.grade(one) == Grade::Good => {
                Ok(better(one, other, by, self.setting.since_start))
            }
            Some(other) => Ok(other),
            None => Ok(one),
        }
    }

    /// The Endpoint of a key. When it cannot be used, its keys are spread over the others.
    fn hashed(&self, schedule: &Schedule, key: u64) -> Result<&'a Arc<Member>, NoEndpoint> {
        let table = match self.level {
            Some(level) => level.maglev(&self.live.set),
            None => self.live.maglev(),
        };
        let mut number = mix(key);
        for _ in 0..REHASHES_MAX {
            let found = table.find(number).and_then(|at| self.live.members.get(at));
            // A share that grows would move keys to and fro, so here it does not count.
            if let Some(member) = found
                && matches!(self.grade_of(member), Grade::Good)
            {
                return Ok(member);
            }
            number = mix(number);
        }
        self.settle(schedule, number)
    }

    /// The first good one from turn `number` on; else what is better than nobody.
    fn settle(&self, schedule: &Schedule, number: u64) -> Result<&'a Arc<Member>, NoEndpoint> {
        let members = &self.live.members;
        let first = schedule.from(number).next().and_then(|at| members.get(at));
        let Some(first) = first else { return self.without_turns(schedule) };
        if self.grade(first) == Grade::Good {
            return Ok(first);
        }
        // From another place for each request, so that its neighbour does not get all of its share.
        let (mut warming, mut poor, mut is_full) = (None, None, false);
        for at in schedule.from(self.backend.state.chance.scattered()) {
            let Some(member) = members.get(at) else { continue };
            match self.grade_of(member) {
                // Its draw was the one above, or is its own turn's.
                Grade::Good if self.share(member) == FULL_SHARE => return Ok(member),
                Grade::Good | Grade::Warming => warming = warming.or(Some(member)),
                Grade::Poor => poor = poor.or(Some(member)),
                Grade::Full => is_full = true,
                Grade::Barred => {}
            }
        }
        if let Some(member) = warming {
            return Ok(member);
        }
        if let Some(wider) = self.wider(schedule) {
            return self.settle(wider, number);
        }
        poor.ok_or(if is_full { NoEndpoint::Full } else { NoEndpoint::None })
    }

    fn without_turns(&self, schedule: &Schedule) -> Result<&'a Arc<Member>, NoEndpoint> {
        let wider = self.wider(schedule).ok_or(NoEndpoint::None)?;
        self.settle(wider, 0)
    }

    /// Where a request goes for which nobody of `schedule` is good: from the own zone to all of the
    /// level, from there to all.
    fn wider(&self, schedule: &Schedule) -> Option<&'a Schedule> {
        let all = &self.live.schedule;
        let of_level = self.level.map_or(all, |level| &level.schedule);
        if std::ptr::eq(schedule, all) {
            None
        } else if std::ptr::eq(schedule, of_level) {
            Some(all)
        } else {
            Some(of_level)
        }
    }

    /// The first level some of which can take a request; None without levels, and when none can.
    fn level(&self) -> Option<&'a Level> {
        let since_start = self.setting.since_start;
        let can = |&at: &usize| {
            self.live.members.get(at).is_some_and(|member| {
                !self.is_out(member)
                    && !member.is_avoided(since_start)
                    && !self.is_full(member)
                    && !self.tried.contains(&member.address)
            })
        };
        self.live.levels.iter().find(|level| level.members.iter().any(can))
    }

    /// The turns of the own zone while enough of it can be used, else those of all of the level.
    fn schedule(&self) -> &'a Schedule {
        let all = self.level.map_or(&self.live.schedule, |level| &level.schedule);
        let affinity = self.backend.spec.affinity.as_deref();
        let zones = affinity.map_or(Zones::Any, |affinity| affinity.zones);
        let (Zones::PreferOwn(percent), Some(zone)) = (zones, self.setting.zone) else {
            return all;
        };
        let own = match self.level {
            Some(level) => level.own_zone(&self.live.set, zone),
            None => self.live.own_zone(zone),
        };
        let members = own.members.iter().filter_map(|&at| self.live.members.get(at));
        let usable = members.filter(|member| !self.is_out(member)).count();
        let is_enough = usable > 0 && usable * 100 >= own.members.len() * usize::from(percent);
        if is_enough { &own.schedule } else { all }
    }

    fn grade(&self, member: &Member) -> Grade {
        let grade = self.grade_of(member);
        if grade == Grade::Good && !self.has_its_turn(member) { Grade::Warming } else { grade }
    }

    fn grade_of(&self, member: &Member) -> Grade {
        if self.tried.contains(&member.address) {
            return Grade::Barred;
        }
        let is_out = self.is_out(member);
        if is_out && self.panic_percent() == 0 {
            return Grade::Barred;
        }
        if self.is_full(member) {
            return Grade::Full;
        }
        let is_poor = member.is_avoided(self.setting.since_start) || (is_out && !self.is_panic());
        if is_poor { Grade::Poor } else { Grade::Good }
    }

    /// Whether a share that grows leaves room for this request.
    fn has_its_turn(&self, member: &Member) -> bool {
        let share = self.share(member);
        share == FULL_SHARE || self.backend.state.chance.scattered() % FULL_SHARE < share
    }

    fn share(&self, member: &Member) -> u64 {
        let affinity = self.backend.spec.affinity.as_deref();
        match affinity.and_then(|Affinity { slow_start, .. }| *slow_start) {
            Some(window) => member.share(window, self.setting.since_start),
            None => FULL_SHARE,
        }
    }

    fn is_full(&self, member: &Member) -> bool {
        let circuit = match self.backend.spec.resilience.as_deref() {
            Some(resilience) => &resilience.circuit,
            None => &DEFAULT_CIRCUIT,
        };
        let streams =
            if crate::forward::is_http2(self.backend.spec.protocol) { STREAMS_EACH } else { 1 };
        member.load() >= circuit.connections_max.saturating_mul(streams)
            || member.waiting() >= circuit.pending_max
    }

    /// Whether an Endpoint was taken out, or found unwell.
    fn is_out(&self, member: &Member) -> bool {
        member.probed.is_unwell() || member.is_ejected(self.setting.since_start)
    }

    /// How many of a hundred must be in rotation, or all are used; with 0 nobody is who is out.
    fn panic_percent(&self) -> u8 {
        let resilience = self.backend.spec.resilience.as_deref();
        resilience.map_or(DEFAULT_PANIC_PERCENT, |all| all.panic_percent)
    }

    /// Whether so few can be used that all are. Asked only when one is out.
    fn is_panic(&self) -> bool {
        let least = usize::from(self.panic_percent());
        let (mut all, mut usable) = (0, 0);
        for (member, endpoint) in self.live.members.iter().zip(self.live.set.as_slice()) {
            // One that is drained is none of them.
            if endpoint.share() > 0 {
                all += 1;
                usable += usize::from(!self.is_out(member));
            }
        }
        usable * 100 < all * least
    }
}

impl super::BackendState {
    /// Requests in flight to all its Endpoints.
    pub(crate) fn load(&self) -> u32 {
        self.live.load().members.iter().map(|member| member.load()).fold(0, u32::saturating_add)
    }

    /// Takes `member` out after one failure too many, unless too many are out already.
    pub(super) fn eject(
        &self,
        member: &Member,
        rule: &kubeng_config::backend::resilience::Ejection,
        since_start: Duration,
    ) -> bool {
        let live = self.live.load();
        let others = live
            .members
            .iter()
            .filter(|other| other.is_ejected(since_start) && other.address != member.address);
        let out = others.count() + 1;
        if out * 100 > live.members.len() * usize::from(rule.percent_max) {
            return false;
        }
        member.eject(rule, since_start);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// What [`Circuit::default`] is.
const DEFAULT_CIRCUIT: Circuit = Circuit {
    connections_max: 1024,
    pending_max: 1024,
    requests_max: None,
    retry_percent: 20,
    retries_min: 3,
};
const DEFAULT_PANIC_PERCENT: u8 = 50;
/// Requests that share one connection over HTTP/2.
const STREAMS_EACH: u32 = 100;
/// How far a second one is looked for.
const OTHERS_MAX: usize = 16;
/// How often a key is hashed again before it takes part in the turns.
const REHASHES_MAX: u32 = 8;

#[cfg(test)]
mod tests;
