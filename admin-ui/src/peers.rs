//! Other controllers: asked every few seconds for their replicas and for what they intend.

use std::time::Duration;

use hyper::http::Method;
use kubeng_controller::replicas::Replicas;
use kubeng_controller::replicas::peers::PeerReport;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::client::{AdminClient, ClientError};

/// How often they are asked.
const ASKED_EVERY: Duration = Duration::from_secs(2);

/// How long they may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Tells `replicas` what the other controllers say, until it is told to stop.
pub async fn follow(replicas: Replicas, peers: Vec<AdminClient>, stop: CancellationToken) {
    // Who there is, is known before anybody has answered.
    let unasked = |peer: &AdminClient| PeerReport {
        url: peer.url().to_owned(),
        error: Some("it has not been asked yet".to_owned()),
        ..PeerReport::default()
    };
    replicas.set_peers(peers.iter().map(unasked).collect());
    let mut tick = tokio::time::interval(ASKED_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let mut asked = tokio::task::JoinSet::new();
        for (at, peer) in peers.iter().cloned().enumerate() {
            asked.spawn(async move { (at, report(&peer).await) });
        }
        let mut reports = tokio::select! {
            () = stop.cancelled() => return,
            reports = asked.join_all() => reports,
        };
        reports.sort_by_key(|(at, _)| *at);
        replicas.set_peers(reports.into_iter().map(|(_, report)| report).collect());
    }
}

async fn report(peer: &AdminClient) -> PeerReport {
    let url = peer.url().to_owned();
    let (replicas, fleets) = tokio::join!(
        list(peer, "/replicas?local=true", "replicas"),
        list(peer, "/fleets", "fleets")
    );
    match (replicas, fleets) {
        (Ok(replicas), Ok(fleets)) => PeerReport { url, error: None, replicas, fleets },
        (Err(error), _) | (_, Err(error)) => {
            let error = Some(error.to_string());
            PeerReport { url, error, ..PeerReport::default() }
        }
    }
}

/// The elements of a list that can be read: a peer of another version may tell more.
async fn list<T: DeserializeOwned>(
    peer: &AdminClient,
    path: &str,
    member: &str,
) -> Result<Vec<T>, ClientError> {
    let answer = peer.ask(Method::GET, path, None, None, WITHIN).await?;
    let value: Value = serde_json::from_str(&answer.body).map_err(|_| ClientError::Unreadable)?;
    let all = value[member].as_array().ok_or(ClientError::Unreadable)?;
    Ok(all.iter().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect())
}
