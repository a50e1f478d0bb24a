use kubeng_config::address::AddressRule;
use kubeng_config::backend::{Backend, BackendProtocol};
use kubeng_config::endpoint::Endpoint;
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::position::Position;

use super::*;

fn policy(name: &str, retries: u8) -> AnyPart {
    let mut policy = Policy::default();
    policy.retry.retries_max = retries;
    AnyPart::Policy(name.parse().unwrap(), Part::new(policy))
}

fn backend_id(name: &str) -> BackendId {
    format!("Service/shop/{name}:80").parse().unwrap()
}

fn backend(name: &str) -> AnyPart {
    let backend = Part::new(Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Default::default(),
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: AddressRule::Tenant,
        proxy_protocol: None,
    });
    AnyPart::Backend(backend_id(name), backend)
}

fn set(port: u16) -> Arc<EndpointSet> {
    Arc::new(EndpointSet::new(vec![Endpoint::new(([10, 0, 0, 1], port).into())]))
}

/// Two Backends with Endpoints, and `parts`.
fn snapshot(parts: impl IntoIterator<Item = AnyPart>) -> Snapshot {
    let all = [backend("a"), backend("b")].into_iter().chain(parts);
    Snapshot::default().edited(all, []).unwrap()
}

fn position(at: u64) -> Position {
    let mut position = Position::default();
    position.advance("kubernetes", at);
    position
}

fn published(snapshot: &Snapshot, at: u64) -> Arc<Published> {
    let endpoints = [(backend_id("a"), set(1)), (backend_id("b"), set(2))].into_iter().collect();
    let position = position(at);
    Arc::new(Published { snapshot: snapshot.clone(), endpoints, position, ..Published::default() })
}

/// What a replica says that it serves.
fn serves(snapshot: &Snapshot, epoch: u32, at: u64) -> SignedStatement {
    let statement = Statement {
        fleet: "prod".parse().unwrap(),
        epoch: Epoch(epoch),
        position: position(at),
        target: snapshot.digest(),
        model_version: MODEL_VERSION,
    };
    SignedStatement { statement, signature: None }
}

/// A session in epoch 3 that remembers `known`.
fn session(serves: Option<&SignedStatement>, known: &[&Snapshot]) -> Session {
    let history = Arc::new(History::default());
    known.iter().for_each(|snapshot| history.note(snapshot));
    let mut session = Session::new("prod".parse().unwrap(), serves, history, None);
    session.epoch(Epoch(3));
    session
}

#[track_caller]
fn offer(said: Option<ToReplica>) -> Offer {
    let Some(ToReplica::Offer(offer)) = said else { panic!("no Offer, but {said:?}") };
    *offer
}

#[track_caller]
fn silent(session: &mut Session) {
    let said = session.say();
    assert!(said.is_none(), "{said:?}");
}

#[track_caller]
fn endpoints(said: Option<ToReplica>) -> Vec<(BackendId, Arc<EndpointSet>)> {
    let Some(ToReplica::Endpoints { sets, .. }) = said else { panic!("no Endpoints: {said:?}") };
    sets
}

fn ack(offer: &Offer) -> FromReplica {
    FromReplica::Ack { nonce: offer.nonce, digest: offer.delta.target, problems: Vec::new() }
}

fn nack(offer: &Offer, reason: NackReason) -> FromReplica {
    FromReplica::Nack { nonce: offer.nonce, reason, problems: Vec::new() }
}

fn holdings(snapshot: &Snapshot) -> FromReplica {
    let delta = Snapshot::default().delta_to(snapshot);
    let parts = delta.upserts.iter().map(|part| (part.key(), part.digest())).collect();
    FromReplica::Holdings(snapshot.digest(), parts)
}

fn keys(offer: &Offer) -> Vec<String> {
    offer.delta.upserts.iter().map(|part| part.key().to_string()).collect()
}

#[test]
fn a_replica_without_anything_gets_all_of_it_once() {
    let one = snapshot([policy("p", 1)]);
    let mut session = session(None, &[]);
    silent(&mut session);
    session.published(Arc::new(Published::default()));
    silent(&mut session);
    session.published(published(&one, 1));
    let first = offer(session.say());
    assert_eq!((first.delta.upserts.len(), first.delta.endpoints.len()), (3, 2));
    assert_eq!(session.offered(), Some(&first.statement.statement));
    silent(&mut session);
    session.heard(&ack(&first));
    assert_eq!(session.serves(), Some(&first.statement.statement));
    silent(&mut session);
}

#[test]
fn a_changed_part_travels_alone_and_what_came_meanwhile_in_one_step() {
    let one = snapshot([policy("p", 1), policy("q", 1)]);
    let mut session = session(None, &[]);
    session.published(published(&one, 1));
    let first = offer(session.say());
    for (retries, at) in [(2, 2), (3, 3), (4, 4)] {
        session.published(published(&snapshot([policy("p", retries), policy("q", 1)]), at));
        silent(&mut session);
    }
    session.heard(&ack(&first));
    let second = offer(session.say());
    assert_eq!(keys(&second), ["policy p"], "the newest one wins, without those between");
    assert_eq!(second.statement.statement.position, position(4));
    assert!(second.delta.endpoints.is_empty(), "no Backend is new");
    session.heard(&ack(&first));
    silent(&mut session);
}

#[test]
fn a_replica_that_comes_back_gets_all_endpoints_and_the_difference() {
    let (one, two) = (snapshot([policy("p", 1)]), snapshot([policy("p", 2)]));
    let serves = serves(&one, 3, 1);
    let mut session = session(Some(&serves), &[&one, &two]);
    session.published(published(&two, 2));
    let sets = endpoints(session.say());
    assert_eq!(sets, [(backend_id("a"), set(1)), (backend_id("b"), set(2))]);
    let next = offer(session.say());
    assert_eq!((next.delta.base, keys(&next)), (one.digest(), vec!["policy p".to_owned()]));
    session.heard(&ack(&next));
    silent(&mut session);
}

#[test]
fn a_replica_with_a_snapshot_that_is_forgotten_tells_its_parts() {
    let held = snapshot([policy("p", 1), policy("old", 1)]);
    let newest = snapshot([policy("p", 2), backend("c")]);
    let serves = serves(&held, 3, 1);
    let mut session = session(Some(&serves), &[&newest]);
    session.published(published(&newest, 2));
    assert!(matches!(session.say(), Some(ToReplica::TellHoldings)));
    silent(&mut session);
    session.heard(&holdings(&held));
    let sets = endpoints(session.say());
    assert_eq!(sets.len(), 2, "of Backends that it serves: {sets:?}");
    let next = offer(session.say());
    assert_eq!(
        keys(&next),
        ["policy p", "backend Service/shop/c:80"],
        "what differs or is missing"
    );
    assert_eq!(next.delta.removed, [PartKey::Policy("old".parse().unwrap())]);
    assert_eq!(next.delta.endpoints.len(), 1, "of the Backend that is new to it");
    let led_to = held.with(&next.delta).unwrap().digest();
    assert_eq!(led_to, newest.digest());
}

#[test]
fn who_holds_something_else_than_was_thought_is_asked_once_for_each_snapshot() {
    let (one, two) = (snapshot([policy("p", 1)]), snapshot([policy("p", 2)]));
    let serves = serves(&one, 3, 1);
    let mut session = session(Some(&serves), &[&one]);
    session.published(published(&two, 2));
    drop(endpoints(session.say()));
    let next = offer(session.say());
    session.heard(&nack(&next, NackReason::Base));
    assert!(matches!(session.say(), Some(ToReplica::TellHoldings)));
    session.heard(&holdings(&one));
    drop(endpoints(session.say()));
    let next = offer(session.say());
    session.heard(&nack(&next, NackReason::Base));
    silent(&mut session);
    session.published(published(&snapshot([policy("p", 3)]), 3));
    assert!(matches!(session.say(), Some(ToReplica::TellHoldings)), "for the new Snapshot");
}

#[test]
fn what_was_rejected_is_not_sent_again_but_in_another_term() {
    let (one, two) = (snapshot([policy("p", 1)]), snapshot([policy("p", 2)]));
    let mut session = session(None, &[]);
    session.published(published(&one, 1));
    let first = offer(session.say());
    session.heard(&nack(&first, NackReason::Rejected));
    silent(&mut session);
    session.published(published(&one, 2));
    silent(&mut session);
    session.published(published(&two, 3));
    let second = offer(session.say());
    assert_eq!(second.delta.base, Snapshot::default().digest(), "from what it still serves");
    session.heard(&nack(&second, NackReason::Rejected));
    silent(&mut session);
    session.epoch(Epoch(4));
    assert_eq!(offer(session.say()).statement.statement.epoch, Epoch(4));
}

#[test]
fn who_is_deposed_says_nothing_until_it_leads_again() {
    let one = snapshot([policy("p", 1)]);
    let mut session = session(None, &[]);
    session.published(published(&one, 1));
    let first = offer(session.say());
    session.heard(&nack(&first, NackReason::Epoch));
    assert!(session.is_deposed());
    session.published(published(&snapshot([policy("p", 2)]), 2));
    session.endpoints([(backend_id("a"), set(9))], None);
    silent(&mut session);
    session.epoch(Epoch(4));
    assert_eq!(offer(session.say()).statement.statement.epoch, Epoch(4));

    let serves = serves(&one, 5, 1);
    let mut session = self::session(Some(&serves), &[&one]);
    session.published(published(&snapshot([policy("p", 2)]), 2));
    silent(&mut session);
    assert!(session.is_deposed(), "the replica has heard of epoch 5");
}

#[test]
fn who_is_behind_waits_until_it_has_caught_up() {
    let (one, two) = (snapshot([policy("p", 1)]), snapshot([policy("p", 2)]));
    let there = serves(&one, 3, 5);
    let mut session = session(Some(&there), &[&one]);
    session.published(published(&two, 4));
    assert_eq!(endpoints(session.say()).len(), 2, "these are of no position");
    silent(&mut session);
    session.published(published(&two, 5));
    let next = offer(session.say());
    // It knows better than the controller.
    session.heard(&nack(&next, NackReason::Behind));
    silent(&mut session);
    session.published(published(&snapshot([policy("p", 3)]), 5));
    silent(&mut session);
    session.published(published(&two, 6));
    assert_eq!(offer(session.say()).delta.target, two.digest());

    let there = serves(&one, 2, 5);
    let mut session = self::session(Some(&there), &[&one]);
    session.published(published(&two, 4));
    drop(endpoints(session.say()));
    assert_eq!(offer(session.say()).delta.target, two.digest(), "a newer term may go back");
}

#[test]
fn a_new_term_is_told_though_no_part_changes() {
    let one = snapshot([policy("p", 1)]);
    let there = serves(&one, 2, 5);
    let mut session = session(Some(&there), &[&one]);
    session.published(published(&one, 5));
    drop(endpoints(session.say()));
    let next = offer(session.say());
    assert!(next.delta.is_empty());
    assert_eq!(next.statement.statement.epoch, Epoch(3));
    session.heard(&ack(&next));
    silent(&mut session);
}

#[test]
fn endpoints_of_what_is_offered_are_not_lost_while_it_is_applied() {
    let one = snapshot([]);
    let mut session = session(None, &[]);
    session.published(published(&one, 1));
    let first = offer(session.say());
    session.endpoints([(backend_id("a"), set(7)), (backend_id("elsewhere"), set(8))], None);
    assert_eq!(endpoints(session.say()), [(backend_id("a"), set(7))], "behind the Offer");
    session.heard(&ack(&first));
    silent(&mut session);
}

#[test]
fn many_endpoints_come_in_several_messages() {
    let names: Vec<String> = (0..600).map(|nth| format!("b{nth}")).collect();
    let many = snapshot(names.iter().map(|name| backend(name)));
    let there = serves(&many, 3, 1);
    let mut session = session(Some(&there), &[&many]);
    session.published(published(&many, 1));
    let told = [endpoints(session.say()), endpoints(session.say())];
    assert_eq!(told.each_ref().map(Vec::len), [512, 90]);
    silent(&mut session);
}

#[test]
fn what_nobody_waits_for_changes_nothing() {
    let one = snapshot([policy("p", 1)]);
    let mut session = session(None, &[]);
    session.published(published(&one, 1));
    let first = offer(session.say());
    session.heard(&holdings(&one));
    session.heard(&FromReplica::Ack {
        nonce: first.nonce + 1,
        digest: one.digest(),
        problems: Vec::new(),
    });
    silent(&mut session);
    assert!(session.serves().is_none() && session.offered().is_some());
    // It serves something else than it was told to: it must tell what.
    session.heard(&FromReplica::Ack {
        nonce: first.nonce,
        digest: Snapshot::default().digest(),
        problems: Vec::new(),
    });
    assert!(matches!(session.say(), Some(ToReplica::TellHoldings)));
}

#[test]
fn a_backend_loses_its_last_endpoint_after_what_replaces_it_is_served() {
    let (one, two) = (snapshot([policy("p", 1)]), snapshot([policy("p", 2)]));
    let none = || Arc::new(EndpointSet::default());
    let mut session = session(None, &[]);
    session.published(published(&one, 1));
    let first = offer(session.say());
    session.heard(&ack(&first));
    session.published(published(&two, 2));
    session.endpoints([(backend_id("a"), none()), (backend_id("b"), set(3))], None);
    assert_eq!(endpoints(session.say()), [(backend_id("b"), set(3))], "others do not wait");
    let second = offer(session.say());
    silent(&mut session);
    session.heard(&ack(&second));
    assert_eq!(endpoints(session.say()), [(backend_id("a"), none())]);
    silent(&mut session);
    session.endpoints([(backend_id("b"), none())], None);
    assert_eq!(endpoints(session.say()), [(backend_id("b"), none())], "nothing replaces it");
}

#[test]
fn a_backend_waits_for_no_offer_that_is_not_made() {
    let (one, two) = (snapshot([policy("p", 1)]), snapshot([policy("p", 2)]));
    let mut session = session(None, &[]);
    session.published(published(&one, 1));
    let first = offer(session.say());
    session.heard(&ack(&first));
    session.published(published(&two, 2));
    session.endpoints([(backend_id("a"), Arc::new(EndpointSet::default()))], None);
    session.published(published(&one, 3));
    assert_eq!(endpoints(session.say()).len(), 1, "what it waited for has been taken back");
    silent(&mut session);
}

#[test]
fn what_the_fleet_says_of_its_care_is_told_first_and_whenever_it_changes() {
    let snapshot = snapshot([]);
    let with = |heartbeat: u64| {
        let mut published = (*published(&snapshot, 1)).clone();
        let heartbeat_every = std::time::Duration::from_secs(heartbeat);
        published.pulse = Some(Pulse { heartbeat_every, ..Pulse::default() });
        Arc::new(published)
    };
    let told = |said: Option<ToReplica>| {
        let Some(ToReplica::Pulse(pulse)) = said else { panic!("no pulse, but {said:?}") };
        pulse.heartbeat_every.as_secs()
    };
    let mut session = session(None, &[]);
    session.published(with(7));
    assert_eq!(told(session.say()), 7);
    let offer = offer(session.say());
    // It does not wait for an answer, and nothing else is sent for it.
    session.published(with(9));
    assert_eq!(told(session.say()), 9);
    session.heard(&ack(&offer));
    session.published(with(9));
    silent(&mut session);
}
