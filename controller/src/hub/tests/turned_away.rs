//! Who is not taken in, and what is told of it.

use super::*;

#[tokio::test]
async fn who_is_mistaken_or_unknown_is_turned_away() {
    let rig = Rig::start(calm(), None);
    let identified = Identified { fleet: "prod".parse().unwrap(), replica: "r1".parse().unwrap() };
    let other = rig.hub.join(identified.clone(), hello("prod", "r2")).await;
    assert_eq!(other.err(), Some(TurnedAway::Mistaken(identified)));
    let test = Identified { fleet: "test".parse().unwrap(), replica: "r1".parse().unwrap() };
    let unknown = rig.hub.join(test, hello("test", "r1")).await;
    assert_eq!(unknown.err(), Some(TurnedAway::UnknownFleet("test".parse().unwrap())));
    rig.feeds.send_replace(Arc::default());
    let gone = Some(TurnedAway::UnknownFleet("prod".parse().unwrap()));
    assert_eq!(rig.line("r1").await.err(), gone, "it is known that there is none");
    rig.end().await;

    let rig = Rig::of(watch::channel(Arc::default()).0, FleetFeeds::new(), None);
    assert_eq!(rig.line("r1").await.err(), Some(TurnedAway::NotReady), "nothing is known yet");
    rig.feeds.send_replace(Arc::default());
    assert_eq!(rig.line("r1").await.err(), gone);
    rig.end().await;
}
