use kubeng_config::address::AddressRule;
use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::policy::retry::RetryOn;

use super::*;
use crate::backend::BackendState;
use crate::backend::sticky::StickyKey;
use crate::backend::tls::CompiledTls;

fn context(ports: &[u16]) -> RequestContext {
    let state = BackendState::default();
    let endpoints = ports.iter().map(|&port| Endpoint::new(([127, 0, 0, 1], port).into()));
    state.store(&Arc::new(EndpointSet::new(endpoints.collect())));
    let spec = Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Balance::RoundRobin,
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: AddressRule::Operator,
        proxy_protocol: None,
    };
    let id = "Service/test/web:80".parse().unwrap();
    RequestContext {
        started: Some((Instant::now(), std::time::SystemTime::now())),
        policy: Some(Arc::default()),
        backend: Some(Arc::new(CompiledBackend {
            traffic: Arc::default(),
            tls: CompiledTls::of(&id, &spec, None),
            id,
            spec: Arc::new(spec),
            connection_key: 0,
            state: Arc::new(state),
        })),
        ..RequestContext::default()
    }
}

fn with_policy(ports: &[u16], change: impl FnOnce(&mut Policy)) -> RequestContext {
    let mut policy = Policy::default();
    change(&mut policy);
    RequestContext { policy: Some(Arc::new(policy)), ..context(ports) }
}

fn setting<T>(work: impl FnOnce(Setting<'_>) -> T) -> T {
    let key = StickyKey::new(Some(b"key")).unwrap();
    work(Setting { since_start: Duration::ZERO, zone: None, sticky_key: &key })
}

fn next_port(ctx: &mut RequestContext) -> Result<u16, Reason> {
    setting(|setting| choose(ctx, Instant::now(), setting).map(|to| to.address.port()))
}

fn fails(ctx: &mut RequestContext, failure: Failure, replay: Replay) -> Next {
    setting(|setting| failed(ctx, failure, replay, setting))
}

fn answers(ctx: &mut RequestContext, status: u16, replay: Replay) -> Next {
    let status = StatusCode::from_u16(status).unwrap();
    setting(|setting| answered(ctx, status, replay, setting))
}

#[test]
fn tries_end_with_the_policy_or_with_the_endpoints() {
    let mut ctx = context(&[1, 2, 3, 4, 5]);
    let mut ports = Vec::new();
    for _ in 0..3 {
        ports.push(next_port(&mut ctx).unwrap());
        let next = fails(&mut ctx, Failure::Connect, Replay::Harmful);
        assert_eq!(next == Next::Retry, ports.len() < 3, "two retries by default");
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3, "each on another endpoint");

    let mut ctx = context(&[1]);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(fails(&mut ctx, Failure::ConnectTimeout, Replay::Harmful), Next::Retry);
    assert_eq!(next_port(&mut ctx), Err(Reason::ConnectTimeout), "it says what happened");
    assert_eq!(next_port(&mut context(&[])), Err(Reason::NoEndpoint));
}

/// How a request goes on: with the defaults, and with a policy that wants all reasons.
#[track_caller]
fn check(failure: Failure, replay: Replay, by_default: Next, if_wanted: Next) {
    let mut ctx = context(&[1, 2]);
    next_port(&mut ctx).unwrap();
    assert_eq!(fails(&mut ctx, failure, replay), by_default, "{failure:?} {replay:?} by default");
    let mut ctx = with_policy(&[1, 2], |policy| {
        policy.retry.on = RetryOn { reset: true, timeout: true, statuses: vec![] };
    });
    next_port(&mut ctx).unwrap();
    assert_eq!(fails(&mut ctx, failure, replay), if_wanted, "{failure:?} {replay:?} if wanted");
}

#[test]
fn a_request_that_may_have_been_seen_is_repeated_only_where_that_is_harmless_and_wanted() {
    use Next::{GiveUp, Retry};
    use Replay::{Harmful, Harmless, Impossible};
    for failure in [Failure::Connect, Failure::ConnectTimeout, Failure::Tls, Failure::Local] {
        check(failure, Harmful, Retry, Retry);
    }
    check(Failure::Full, Harmful, Retry, Retry);
    check(Failure::Refused, Harmful, Retry, Retry);
    check(Failure::Refused, Impossible, GiveUp, GiveUp);
    check(Failure::Unseen, Harmful, Retry, Retry);
    check(Failure::Unseen, Impossible, GiveUp, GiveUp);
    check(Failure::Stale, Harmless, Retry, Retry);
    for failure in [Failure::Reset, Failure::Timeout] {
        check(failure, Harmless, GiveUp, Retry);
    }
    for failure in [Failure::Stale, Failure::Reset, Failure::Timeout] {
        check(failure, Harmful, GiveUp, GiveUp);
        check(failure, Impossible, GiveUp, GiveUp);
    }
    check(Failure::BadAnswer, Harmless, GiveUp, GiveUp);
}

#[test]
fn a_policy_may_say_that_all_methods_bear_to_be_repeated() {
    let mut ctx = with_policy(&[1, 2], |policy| {
        policy.retry.on.reset = true;
        policy.retry.methods = Repeat::All;
    });
    next_port(&mut ctx).unwrap();
    assert_eq!(fails(&mut ctx, Failure::Reset, Replay::Harmful), Next::Retry);
    assert_eq!(fails(&mut ctx, Failure::Reset, Replay::Impossible), Next::GiveUp);
}

#[test]
fn a_stale_connection_is_tried_again_on_the_same_endpoint() {
    let mut ctx = context(&[1]);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(fails(&mut ctx, Failure::Stale, Replay::Harmless), Next::Retry);
    assert_eq!(next_port(&mut ctx), Ok(1));
}

#[test]
fn what_an_endpoint_took_leave_of_before_it_looked_is_sent_there_again() {
    let mut ctx = context(&[1]);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(fails(&mut ctx, Failure::Unseen, Replay::Harmful), Next::Retry);
    assert_eq!(next_port(&mut ctx), Ok(1));
}

#[test]
fn listed_statuses_are_repeated_and_the_last_one_is_passed_on() {
    let wanted = |policy: &mut Policy| {
        policy.retry.on.statuses = vec![503];
        policy.retry.retries_max = 1;
    };
    let mut ctx = with_policy(&[1, 2, 3], wanted);
    next_port(&mut ctx).unwrap();
    assert_eq!(answers(&mut ctx, 503, Replay::Harmless), Next::Retry);
    next_port(&mut ctx).unwrap();
    assert_eq!(answers(&mut ctx, 503, Replay::Harmless), Next::GiveUp);
    assert!(ctx.tries.is_answered && ctx.reason.is_none());
    for (status, replay) in
        [(503, Replay::Harmful), (500, Replay::Harmless), (200, Replay::Harmless)]
    {
        let mut ctx = with_policy(&[1, 2, 3], wanted);
        next_port(&mut ctx).unwrap();
        assert_eq!(answers(&mut ctx, status, replay), Next::GiveUp, "{status} {replay:?}");
    }
}

#[test]
fn retries_have_a_budget_that_all_requests_of_a_backend_share() {
    let first = context(&[1, 2]);
    let mut all: Vec<_> =
        (0..5).map(|_| RequestContext { backend: first.backend.clone(), ..context(&[]) }).collect();
    let next = all.iter_mut().map(|ctx| {
        next_port(ctx).unwrap();
        fails(ctx, Failure::Local, Replay::Harmless)
    });
    let retried = next.filter(|next| *next == Next::Retry).count();
    assert_eq!(retried, 3, "of five in flight");
    all.clear();
    let mut ctx = first;
    next_port(&mut ctx).unwrap();
    assert_eq!(fails(&mut ctx, Failure::Local, Replay::Harmless), Next::Retry, "it was given back");
}

#[test]
fn pauses_grow_to_their_bound_and_are_scattered() {
    let mut ctx = context(&[1]);
    let mut pauses = |count| {
        ctx.tries.count = count;
        let pauses: Vec<_> = (0..100).map(|_| pause(&ctx)).collect();
        (pauses.iter().min().copied().flatten(), pauses.iter().max().copied().flatten())
    };
    assert_eq!(pauses(0), (None, None));
    assert_eq!(pauses(1), (None, None), "the first retry is for another endpoint");
    let millis = Duration::from_millis;
    for (count, longest) in [(2, 25), (3, 50), (4, 100), (5, 200), (6, 250), (10, 250), (255, 250)]
    {
        let (least, most) = pauses(count);
        let (least, most) = (least.unwrap(), most.unwrap());
        assert!(
            least >= millis(longest) / 2 && most <= millis(longest),
            "{count}: {least:?} {most:?}"
        );
        assert!(most - least > millis(longest) / 8, "{count}: {least:?} {most:?}");
    }
}

#[test]
fn limits_bound_each_other() {
    let seconds = Duration::from_secs;
    let mut ctx = with_policy(&[1], |policy| policy.timeouts.request = Some(seconds(3)));
    let (started, _) = ctx.started.unwrap();
    let at = |ctx: &mut RequestContext, after| {
        setting(|setting| choose(ctx, started + seconds(after), setting))
    };
    let to = at(&mut ctx, 1).unwrap();
    assert_eq!((to.connect, to.read), (seconds(2), seconds(2)));
    assert_eq!(ctx.tries.ends, Some(started + seconds(3)));
    assert_eq!(at(&mut ctx, 3).unwrap_err(), Reason::RequestTimeout);

    let mut ctx = with_policy(&[1], |policy| {
        policy.timeouts.first_byte = Some(seconds(4));
        policy.timeouts.per_try = Some(seconds(90));
    });
    let to = at(&mut ctx, 0).unwrap();
    assert_eq!((to.connect, to.read), (seconds(5), seconds(60)), "the longer of both silences");
    assert_eq!(first_byte_by(&ctx, started), Some(started + seconds(4)));
    assert_eq!(ctx.tries.ends, Some(started + seconds(90)));

    let mut ctx = context(&[1]);
    at(&mut ctx, 0).unwrap();
    assert_eq!((ctx.tries.ends, first_byte_by(&ctx, started)), (None, None), "none by default");
}

#[test]
fn want_on_this_side_ejects_nobody() {
    let mut ctx = context(&[1, 2]);
    let first = next_port(&mut ctx).unwrap();
    assert_eq!(fails(&mut ctx, Failure::Local, Replay::Harmful), Next::Retry);
    assert_ne!(next_port(&mut ctx).unwrap(), first, "another is tried");
    assert_eq!(fails(&mut ctx, Failure::Local, Replay::Harmful), Next::Retry);
    assert_eq!(next_port(&mut ctx), Err(Reason::LocalResources));
    ctx.tries.failed.clear();
    let ports = [next_port(&mut ctx).unwrap(), next_port(&mut ctx).unwrap()];
    assert_ne!(ports[0], ports[1], "both are in rotation");
}

#[test]
fn the_only_endpoint_is_asked_again_rather_than_nobody() {
    let mut ctx = with_policy(&[1], |policy| {
        policy.retry.on.statuses = vec![503];
        policy.retry.retries_max = 3;
    });
    assert_eq!(next_port(&mut ctx), Ok(1));
    for _ in 0..3 {
        let next = answers(&mut ctx, 503, Replay::Harmless);
        assert_eq!(next, Next::Retry);
        assert_eq!(next_port(&mut ctx), Ok(1));
    }
    let next = answers(&mut ctx, 503, Replay::Harmless);
    assert_eq!(next, Next::GiveUp, "and the last answer is passed on");
}

#[test]
fn a_refused_stream_goes_elsewhere_and_comes_back_where_there_is_nobody_else() {
    let mut ctx = context(&[1, 2]);
    let first = next_port(&mut ctx).unwrap();
    assert_eq!(fails(&mut ctx, Failure::Refused, Replay::Harmful), Next::Retry);
    assert_eq!(pause(&ctx), None, "another one may have room");
    let second = next_port(&mut ctx).unwrap();
    assert_ne!(second, first);
    assert_eq!(fails(&mut ctx, Failure::Refused, Replay::Harmful), Next::Retry);
    assert!(pause(&ctx).is_some());
    assert!([first, second].contains(&next_port(&mut ctx).unwrap()));
    assert_eq!(fails(&mut ctx, Failure::Refused, Replay::Harmful), Next::GiveUp, "not for ever");
    assert_eq!(ctx.reason, Some(Reason::StreamRefused));

    let mut ctx = context(&[1]);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(fails(&mut ctx, Failure::Refused, Replay::Harmful), Next::Retry);
    assert!(pause(&ctx).is_some(), "it has just said that it has enough");
    assert_eq!(next_port(&mut ctx), Ok(1));
}

#[test]
fn no_room_on_any_connection_is_told_as_such_and_blames_nobody() {
    let mut ctx = context(&[1]);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(fails(&mut ctx, Failure::Full, Replay::Harmful), Next::Retry);
    assert_eq!(next_port(&mut ctx), Err(Reason::EndpointsFull));
}
