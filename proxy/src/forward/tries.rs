//! The tries of a request: where each goes, how long it may take, and whether there is another one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use kubeng_config::policy::Policy;
use kubeng_config::policy::retry::Repeat;
use kubeng_config::policy::timeouts::Timeouts;

use crate::backend::CompiledBackend;
use crate::backend::choice::{NoEndpoint, Setting};
use crate::backend::member::Member;
use crate::reason::Reason;
use crate::request::{RequestContext, Tries};

/// Where one try goes, and how long its steps may take.
#[derive(Debug)]
pub(crate) struct Try {
    pub(crate) address: SocketAddr,
    pub(crate) backend: Arc<CompiledBackend>,
    /// Equal only for tries that may share a connection.
    pub(crate) connection_key: u64,
    pub(crate) connect: Duration,
    /// Silence of the Endpoint, before the answer and in it.
    pub(crate) read: Duration,
    pub(crate) write: Duration,
}

/// What became of a try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// No connection could be opened: the Endpoint has not seen the request.
    Connect,
    /// No connection could be opened in time.
    ConnectTimeout,
    /// The handshake failed.
    Tls,
    /// No connection could be opened for want of something on this side: descriptors, ports, memory.
    Local,
    /// HTTP/2 says that the request was not looked at.
    Refused,
    /// There are as many connections to the Endpoint as may be, and none has room.
    Full,
    /// The connection had gone away, or was about to, before the request was looked at.
    Unseen,
    /// A pooled connection had gone away before it answered.
    Stale,
    /// The connection was reset or closed before it answered.
    Reset,
    /// It did not answer in time.
    Timeout,
    /// What came is no answer.
    BadAnswer,
}

/// Whether a request can be sent once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Replay {
    /// Without harm (RFC 9110 section 9.2.2).
    Harmless,
    /// What it does may be done twice.
    Harmful,
    /// Not at all: its body is gone, or the client has a part of an answer.
    Impossible,
}

impl Replay {
    /// Of a request with this method, all of which is still there.
    pub(crate) fn of(method: &Method) -> Self {
        if method.is_idempotent() { Self::Harmless } else { Self::Harmful }
    }
}

/// How a request goes on after a failed try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// With another try.
    Retry,
    /// With an answer of ours.
    GiveUp,
}

/// Equal only for tries that may share a connection.
pub(crate) fn connection_key(backend: &CompiledBackend, member: &Member) -> u64 {
    backend.connection_key ^ member.generation.wrapping_mul(GENERATION_SPREAD)
}

/// How long to wait before the next try: nothing before the first two, unless the second one goes to
/// the Endpoint that has just said that it has enough.
pub(crate) fn pause(ctx: &RequestContext) -> Option<Duration> {
    let unpaused = if comes_back(ctx) { 1 } else { 2 };
    let before = ctx.tries.count.checked_sub(unpaused)?;
    let retry = &ctx.policy.as_ref()?.retry;
    let longest = retry.backoff.saturating_mul(1 << before.min(10)).min(retry.backoff_max);
    // Half of it and a part of the other half: those who failed together do not come back together.
    let scatter = ctx.backend.as_ref().map_or(0, |backend| backend.state.scatter() % 1024);
    let part = longest / 2 * u32::try_from(scatter).unwrap_or(0) / 1024;
    Some(longest / 2 + part).filter(|pause| !pause.is_zero())
}

/// Whether a stream was refused and no other Endpoint is left to be asked.
fn comes_back(ctx: &RequestContext) -> bool {
    let Some(backend) = ctx.backend.as_ref().filter(|_| ctx.tries.was_refused) else {
        return false;
    };
    let members = backend.state.members();
    members.iter().all(|member| ctx.tries.failed.contains(&member.address))
}

/// Chooses the Endpoint of the next try.
///
/// # Errors
/// Why there is none: nothing is left to try, or no time.
pub(crate) fn choose(
    ctx: &mut RequestContext,
    now: Instant,
    setting: Setting<'_>,
) -> Result<Try, Reason> {
    let (Some(backend), Some(policy)) = (&ctx.backend, &ctx.policy) else {
        return Err(Reason::Internal);
    };
    if backend.tls.is_unusable() {
        return Err(Reason::TlsUnusable);
    }
    let Policy { timeouts, retry: _ } = &**policy;
    let Timeouts { connect, first_byte, read, write, tunnel, per_try, request } = timeouts;
    let elapsed = ctx.started.map_or(Duration::ZERO, |(started, _)| now - started);
    let left = request.map_or(Duration::MAX, |limit| limit.saturating_sub(elapsed));
    if left.is_zero() {
        return Err(Reason::RequestTimeout);
    }
    let within = per_try.map_or(left, |limit| left.min(limit));
    let tries = &mut ctx.tries;
    // The one before is over, so it is not counted as load.
    tries.current = None;
    if tries.admitted.is_none() {
        tries.admitted = Some(backend.admit().ok_or(Reason::BackendFull)?);
    }
    let chosen = match backend.choose(ctx.wish, &tries.failed, setting) {
        // It was there to answer, so it may be asked again before the client gets nothing.
        Err(NoEndpoint::None) if tries.was_repeated || tries.was_refused => {
            backend.choose(ctx.wish, &[], setting)
        }
        chosen => chosen,
    };
    let in_flight = chosen.map_err(|none| match none {
        // What the last one died of says more.
        NoEndpoint::None => ctx.reason.unwrap_or(Reason::NoEndpoint),
        NoEndpoint::Full => Reason::EndpointsFull,
    })?;
    tries.count = tries.count.saturating_add(1);
    tries.began = Some(now);
    tries.is_answered = false;
    tries.interim = 0;
    tries.ends = now.checked_add(within).filter(|_| within != Duration::MAX && !ctx.is_upgrade);
    let member = &in_flight.0;
    let silence = first_byte.map_or(*read, |first| first.max(*read));
    let chosen = Try {
        address: member.address,
        backend: backend.clone(),
        connection_key: connection_key(backend, member),
        connect: within.min(*connect),
        // A tunnel may be silent for as long as the Policy says.
        read: if ctx.is_upgrade { *tunnel } else { within.min(silence) },
        write: within.min(*write),
    };
    tries.current = Some(in_flight);
    Ok(chosen)
}

/// Notes that the try has its connection.
pub(crate) fn connected(ctx: &RequestContext) {
    if let Some(current) = &ctx.tries.current {
        current.connected();
        current.0.connected();
    }
}

/// When the answer must have begun, once the request is sent.
pub(crate) fn first_byte_by(ctx: &RequestContext, now: Instant) -> Option<Instant> {
    if ctx.is_upgrade {
        return None;
    }
    let first_byte = ctx.policy.as_ref()?.timeouts.first_byte;
    let first_byte = first_byte.and_then(|limit| now.checked_add(limit));
    first_byte.into_iter().chain(ctx.tries.ends).min()
}

/// Notes the head of an answer, and decides whether the client gets it.
pub(crate) fn answered(
    ctx: &mut RequestContext,
    status: StatusCode,
    replay: Replay,
    setting: Setting<'_>,
) -> Next {
    let (Some(backend), Some(policy)) = (ctx.backend.clone(), ctx.policy.clone()) else {
        return Next::GiveUp;
    };
    let Some(member) = ctx.tries.current.as_ref().map(|current| current.0.clone()) else {
        return Next::GiveUp;
    };
    if backend.measures_latency()
        && let Some(began) = ctx.tries.began
    {
        member.latency.observe(began.elapsed(), setting.since_start);
    }
    if matches!(status.as_u16(), 502..=504) {
        let _ = backend.member_failed(&member, setting.since_start);
    } else {
        member.answered();
    }
    let is_wanted = !ctx.is_upgrade
        && policy.retry.on.statuses.contains(&status.as_u16())
        && is_allowed(replay, policy.retry.methods);
    if is_wanted && another(ctx, &policy, Budget::Takes) == Next::Retry {
        ctx.tries.is_repeated = true;
        ctx.tries.was_repeated = true;
        ctx.tries.failed.push(member.address);
        return Next::Retry;
    }
    ctx.tries.is_answered = true;
    ctx.reason = None;
    Next::GiveUp
}

/// Notes that the current try failed before it answered, and decides how the request goes on.
pub(crate) fn failed(
    ctx: &mut RequestContext,
    failure: Failure,
    replay: Replay,
    setting: Setting<'_>,
) -> Next {
    ctx.reason = Some(reason_of(ctx, failure));
    let (Some(policy), Some(backend)) = (ctx.policy.clone(), ctx.backend.clone()) else {
        return Next::GiveUp;
    };
    let member = ctx.tries.current.as_ref().map(|current| current.0.clone());
    if let Some(member) = &member {
        blame(&backend, member, failure, ctx.tries.began, setting);
    }
    let on = &policy.retry.on;
    let (is_wanted, budget) = match failure {
        // The Endpoint has not seen the request.
        Failure::Connect
        | Failure::ConnectTimeout
        | Failure::Tls
        | Failure::Local
        | Failure::Full => (true, Budget::Takes),
        // It did nothing for the request (RFC 9113 section 8.7), and is there to answer.
        Failure::Refused => {
            ctx.tries.was_refused = true;
            (replay != Replay::Impossible, Budget::Takes)
        }
        // An Endpoint may take leave at any time, and be there again on another connection.
        Failure::Unseen => (replay != Replay::Impossible, Budget::Free),
        // Endpoints may close what idles: that is no sign of trouble.
        Failure::Stale if replay == Replay::Harmless => (true, Budget::Free),
        Failure::Stale => (on.reset && is_allowed(replay, policy.retry.methods), Budget::Takes),
        Failure::Reset => (on.reset && is_allowed(replay, policy.retry.methods), Budget::Takes),
        Failure::Timeout => (on.timeout && is_allowed(replay, policy.retry.methods), Budget::Takes),
        Failure::BadAnswer => (false, Budget::Takes),
    };
    if !is_wanted {
        return Next::GiveUp;
    }
    if !matches!(failure, Failure::Stale | Failure::Unseen) {
        // Another one may be well, or be reached from a port that is free.
        ctx.tries.failed.extend(member.map(|member| member.address));
    }
    another(ctx, &policy, budget)
}

/// Whether a further try is counted against the budget of the Backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Budget {
    Takes,
    Free,
}

/// Whether there may be another try.
fn another(ctx: &mut RequestContext, policy: &Policy, budget: Budget) -> Next {
    let Tries { count, retrying, .. } = &mut ctx.tries;
    if *count > policy.retry.retries_max.min(RETRIES_MAX) {
        return Next::GiveUp;
    }
    if budget == Budget::Takes && retrying.is_none() {
        *retrying = ctx.backend.as_ref().and_then(|backend| backend.admit_retry());
        if retrying.is_none() {
            return Next::GiveUp;
        }
    }
    Next::Retry
}

fn is_allowed(replay: Replay, methods: Repeat) -> bool {
    match (replay, methods) {
        (Replay::Harmless, _) | (Replay::Harmful, Repeat::All) => true,
        (Replay::Harmful, Repeat::Idempotent) | (Replay::Impossible, _) => false,
    }
}

/// Lets the Endpoint bear what was its fault.
fn blame(
    backend: &CompiledBackend,
    member: &Member,
    failure: Failure,
    began: Option<Instant>,
    setting: Setting<'_>,
) {
    match failure {
        Failure::Connect | Failure::ConnectTimeout | Failure::Tls => {
            member.avoid(setting.since_start);
        }
        Failure::Reset | Failure::Timeout | Failure::BadAnswer => {}
        // It is not to blame: it may close what idles, and say that it has enough.
        Failure::Local | Failure::Stale | Failure::Refused | Failure::Full | Failure::Unseen => {
            return;
        }
    }
    let _ = backend.member_failed(member, setting.since_start);
    if backend.measures_latency() {
        // One that fails fast is none that answers soon.
        let took = began.map_or(Duration::ZERO, |began| began.elapsed());
        member.latency.observe(took.max(FAILED_LATENCY), setting.since_start);
    }
}

fn reason_of(ctx: &RequestContext, failure: Failure) -> Reason {
    match failure {
        Failure::Connect => Reason::ConnectFailed,
        Failure::ConnectTimeout => Reason::ConnectTimeout,
        Failure::Tls => Reason::TlsFailed,
        Failure::Local => Reason::LocalResources,
        Failure::Refused | Failure::Unseen => Reason::StreamRefused,
        Failure::Full => Reason::EndpointsFull,
        Failure::Stale | Failure::Reset => Reason::Reset,
        Failure::BadAnswer => Reason::BadAnswer,
        Failure::Timeout => timeout_of(ctx),
    }
}

/// Which of the limits was reached.
pub(crate) fn timeout_of(ctx: &RequestContext) -> Reason {
    let limit = ctx.policy.as_ref().and_then(|policy| policy.timeouts.request);
    let elapsed = ctx.started.map_or(Duration::ZERO, |(started, _)| started.elapsed());
    if limit.is_some_and(|limit| limit <= elapsed) {
        return Reason::RequestTimeout;
    }
    match ctx.tries.ends {
        Some(ends) if ends <= Instant::now() => Reason::TryTimeout,
        Some(_) | None => Reason::AnswerTimeout,
    }
}

/// Why an answer that had begun does not come to its end.
pub(crate) fn cut_by(ctx: &RequestContext, failure: Failure) -> Reason {
    match failure {
        Failure::Timeout => timeout_of(ctx),
        Failure::Connect
        | Failure::ConnectTimeout
        | Failure::Tls
        | Failure::Local
        | Failure::Refused
        | Failure::Full
        | Failure::Unseen
        | Failure::Stale
        | Failure::Reset
        | Failure::BadAnswer => Reason::AnswerCut,
    }
}

/// Interim answers in front of one answer; then 502.
pub(crate) const INTERIM_MAX: u8 = 8;
/// An odd number, so that every generation gives another key.
const GENERATION_SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// Whatever a Policy says.
const RETRIES_MAX: u8 = 10;
/// What a failed try counts as at least.
const FAILED_LATENCY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
