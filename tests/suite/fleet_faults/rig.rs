//! A fleet of real processes with one site, and what is asked of it.

use std::net::SocketAddr;
use std::time::Duration;

use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;
use kubeng_harness::fleet::{FleetRig, Member};

use crate::support::{ingress, save, service};

/// Longest wait for what takes a second on an idle machine: a replica may pause for 5 s between
/// tries, and tells of itself each second.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// The host that is served from the beginning.
pub(crate) const HOST: &str = "web.example";

/// The folders of a fleet `prod` that serves [`HOST`], and what answers there.
pub(crate) struct Site {
    pub(crate) rig: FleetRig,
    _backend: Backend,
}

impl Site {
    /// Manifests only: nothing runs.
    pub(crate) async fn new() -> Self {
        let rig = FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap();
        let backend = Backend::start("one").await.unwrap();
        rig.write_fleet("prod", "").unwrap();
        save(&rig.manifests(), "service.yaml", &service("web", &[&backend]));
        let site = Self { rig, _backend: backend };
        site.serve(HOST);
        site
    }

    /// Has one more host served.
    pub(crate) fn serve(&self, host: &str) {
        let name = host.replace('.', "-");
        let text = ingress(&name, host, &[("/", "Prefix", "web")]);
        save(&self.rig.manifests(), &format!("{name}.yaml"), &text);
    }

    /// A controller that is ready.
    pub(crate) async fn controller(&self, name: &str) -> Member {
        let mut controller = self.rig.controller(name, &[]).unwrap();
        controller.until_ready(SOON).await.unwrap();
        controller
    }

    /// A replica that has joined by a token of its own, and is ready.
    pub(crate) async fn replica(&self, name: &str, controllers: &[SocketAddr]) -> Member {
        let token = self.rig.token("prod").await.unwrap();
        let replica = self.rig.replica_at(("prod", name), controllers, Some(&token), &[]);
        let mut replica = replica.unwrap();
        replica.until_ready(SOON).await.unwrap();
        replica
    }
}

/// Asks `what` until it gives something.
#[track_caller]
pub(crate) fn until<T>(
    what: &str,
    ask: impl AsyncFn() -> Result<T, String>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let began = std::time::Instant::now();
        loop {
            match ask().await {
                Ok(found) => return found,
                Err(why) => {
                    assert!(began.elapsed() < SOON, "{caller}: {what} does not hold: {why}");
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What `host` answers at a replica, by a new connection; 0 for no answer.
pub(crate) async fn status(replica: &Member, host: &str) -> u16 {
    let answer = Client::plain(replica.address).get(host, "/").await;
    answer.map_or(0, |answer| answer.status.as_u16())
}

/// Waits until each of `replicas` serves `host`.
#[track_caller]
pub(crate) fn served<'a>(
    replicas: impl IntoIterator<Item = &'a Member>,
    host: &'a str,
) -> impl Future<Output = ()> {
    let replicas: Vec<&Member> = replicas.into_iter().collect();
    let caller = std::panic::Location::caller();
    async move {
        for replica in replicas {
            let what = format!("{caller}: {} serves {host}", replica.name);
            let ask = async || match status(replica, host).await {
                200 => Ok(()),
                other => Err(format!("it answers {other}\n{}", replica.log_end())),
            };
            until(&what, ask).await;
        }
    }
}

/// The replica of this name as one of `controllers` tells of it that has a line to it.
pub(crate) async fn told(
    controllers: &[&Member],
    fleet: &str,
    name: &str,
) -> Result<serde_json::Value, String> {
    let mut last = format!("no controller has a line to {name}");
    for controller in controllers {
        match controller.json(&format!("/api/v1/replicas/{fleet}/{name}")).await {
            Ok(view) if view["connected"] == true => return Ok(view),
            Ok(view) => last = view.to_string(),
            Err(error) => last = format!("{error:#}"),
        }
    }
    Err(last)
}

/// Waits until the replicas of these names in fleet `prod` are in this state at one of
/// `controllers`, and have told of themselves; gives the last of them.
#[track_caller]
pub(crate) fn in_state<'a>(
    controllers: &'a [&'a Member],
    names: &'a [&'a str],
    state: &'a str,
) -> impl Future<Output = serde_json::Value> {
    let caller = std::panic::Location::caller();
    async move {
        let mut last = serde_json::Value::Null;
        for name in names {
            let ask = async || {
                let view = told(controllers, "prod", name).await?;
                let has_told = !view["heartbeat"].is_null();
                if has_told && view["state"] == state { Ok(view) } else { Err(view.to_string()) }
            };
            last = until(&format!("{caller}: {name} is {state}"), ask).await;
        }
        last
    }
}

/// Waits until the screen of a replica has all of `words`, and gives it.
#[track_caller]
pub(crate) fn shows<'a>(replica: &'a Member, words: &'a [&'a str]) -> impl Future<Output = String> {
    let what = format!("{}: {} shows {words:?}", std::panic::Location::caller(), replica.name);
    async move {
        let ask = async || {
            let screen = replica.screen().await.map_err(|error| format!("{error:#}"))?;
            let has_all = words.iter().all(|word| screen.contains(word));
            if has_all { Ok(screen) } else { Err(format!("{screen}\n{}", replica.log_end())) }
        };
        until(&what, ask).await
    }
}
