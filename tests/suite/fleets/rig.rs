//! One controller or several, replicas, a backend, and the commands of the program.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::StatusCode;
use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;
use kubeng_harness::fleet::{FleetRig, Member};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{ingress, save, service};

/// The longest wait for what takes seconds on an idle machine.
pub(super) const WAIT: Duration = Duration::from_secs(90);

/// Within so long a change on the machine of a replica is told of.
pub(super) const FOUND_WITHIN: Duration = Duration::from_secs(10);

/// Told by the Fleet of replicas that are looked after closely.
pub(super) const CLOSELY: &str = "  drift: {heartbeatEvery: 2s, probeEvery: 10s}\n";

/// Controllers that are ready, and what they read.
pub(super) struct Rig {
    pub(super) fleet: FleetRig,
    pub(super) controllers: Vec<Member>,
    pub(super) web: Backend,
    /// Fleets, and with them classes, that are routed to.
    names: Vec<String>,
    /// Where the program is that members are started from.
    programs: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

/// What `kubeng replica list` shows of one replica.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) state: String,
    pub(super) digest: String,
    pub(super) text: String,
}

impl Rig {
    /// One controller, and fleets by name with more of their spec; each serves the class of its name.
    pub(super) async fn start(fleets: &[(&str, &str)]) -> Self {
        let programs = tempfile::tempdir().unwrap();
        let program = programs.path().join("kubeng");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubeng"), &program).unwrap();
        let fleet = FleetRig::new(program).unwrap();
        let web = Backend::start("web").await.unwrap();
        for (name, more) in fleets {
            fleet.write_fleet(name, more).unwrap();
            let path = fleet.manifests().join(format!("fleet-{name}.yaml"));
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace("[kubeng]", &format!("[{name}]"))).unwrap();
        }
        let names = fleets.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut rig = Self { fleet, controllers: Vec::new(), web, names, programs };
        save(&rig.fleet.manifests(), "service.yaml", &service("web", &[&rig.web]));
        rig.route("/", "web");
        rig.one_more_controller().await;
        rig
    }

    pub(super) async fn one_more_controller(&mut self) {
        let name = format!("controller-{}", self.controllers.len() + 1);
        let mut controller = self.fleet.controller(&name, &[]).unwrap();
        controller.until_ready(WAIT).await.unwrap();
        self.controllers.push(controller);
    }

    /// What every fleet serves from here on: one Ingress with this path.
    pub(super) fn route(&self, path: &str, service: &str) {
        let of = |name: &String| {
            let text = ingress(&format!("to-{name}"), &host(name), &[(path, "Prefix", service)]);
            text.replace("ingressClassName: kubeng", &format!("ingressClassName: {name}"))
        };
        let text: String = self.names.iter().map(of).collect();
        save(&self.fleet.manifests(), "routes.yaml", &text);
    }

    /// Starts a replica that follows all controllers, and waits until it serves what it should.
    pub(super) async fn replica(&self, fleet: &str, name: &str, more: &[&str]) -> Member {
        let controllers: Vec<&Member> = self.controllers.iter().collect();
        let more = [&["--heartbeat", "1"], more].concat();
        let mut member = self.fleet.replica(name, fleet, &controllers, &more).await.unwrap();
        member.until_ready(WAIT).await.unwrap();
        self.until(&format!("{fleet}/{name}"), "InSync").await;
        member
    }

    /// Exchanges the program that members are started from, until this is told the next time.
    pub(super) fn exchange_program(&self, program: PathBuf) {
        let scratch = self.programs.path().join("next");
        std::os::unix::fs::symlink(program, &scratch).unwrap();
        std::fs::rename(scratch, self.programs.path().join("kubeng")).unwrap();
    }

    /// A folder for files beside the program.
    pub(super) fn scratch(&self) -> PathBuf {
        self.programs.path().to_owned()
    }

    /// Gives a command to the first controller.
    pub(super) async fn kubeng(&self, arguments: &[&str]) -> Said {
        kubeng(&self.controllers[0], arguments).await
    }

    /// What `kubeng replica list` shows of `FLEET/NAME`, if it does.
    pub(super) async fn shown(&self, replica: &str) -> Option<Shown> {
        shown(&self.controllers[0], replica).await
    }

    /// Lists replicas until this one is shown in this state.
    #[track_caller]
    pub(super) fn until(&self, replica: &str, state: &str) -> impl Future<Output = Shown> {
        until(&self.controllers[0], replica, move |shown| shown.state == state)
    }

    /// The open deviation of a replica, once it is listed.
    #[track_caller]
    pub(super) fn open_drift(&self, replica: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                let listed = self.kubeng(&["drift", "list"]).await;
                let line = listed.out.lines().find(|line| line.contains(replica));
                if let Some(id) = line.and_then(|line| line.split_whitespace().next()) {
                    assert_eq!(listed.code, Some(1), "{listed:?}");
                    return id.to_owned();
                }
                assert!(began.elapsed() < WAIT, "{caller}: {listed:?}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Has a deviation healed; nothing is listed as open from then on, nor does it come back.
    pub(super) async fn heal(&self, id: &str) {
        let healed = self.kubeng(&["drift", "heal", id, "--by", "ann"]).await;
        assert_eq!(healed.code, Some(0), "{healed:?}");
        let began = Instant::now();
        // Replicas tell of themselves every second here, and are judged as often.
        while began.elapsed() < Duration::from_secs(4) {
            let listed = self.kubeng(&["drift", "list"]).await;
            assert_eq!(listed.code, Some(0), "after it was healed: {listed:?}");
        }
        let all = self.kubeng(&["drift", "list", "--all"]).await;
        let line = all.out.lines().find(|line| line.starts_with(id)).unwrap_or_default();
        assert!(line.contains("healed"), "{all:?}");
    }

    /// The name of the one Route of a fleet.
    pub(super) async fn route_name(&self, fleet: &str) -> String {
        let routes = self.controllers[0].json(&format!("/api/v1/routes?fleet={fleet}")).await;
        let routes = routes.unwrap();
        assert_eq!(routes["routes"].as_array().map(Vec::len), Some(1), "{routes}");
        routes["routes"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the one Route of a fleet is for `path`, and all replicas serve it; gives its name.
    pub(super) async fn until_routed(&self, fleet: &str, path: &str) -> String {
        let began = Instant::now();
        loop {
            let name = self.route_name(fleet).await;
            let listed = self.kubeng(&["fleet", "list"]).await;
            let line = listed.out.lines().find(|line| line.starts_with(&format!("{fleet} ")));
            let replicas = cell(&listed.out, line.unwrap_or_default(), "REPLICAS");
            let is_served = replicas == cell(&listed.out, line.unwrap_or_default(), "INSYNC");
            if name.ends_with(path) && is_served {
                return name;
            }
            assert!(began.elapsed() < WAIT, "{name}: {listed:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The Problems of this code that the first controller tells.
    pub(super) async fn problems(&self, code: &str) -> Vec<Value> {
        let all = self.controllers[0].json("/api/v1/problems").await.unwrap();
        let all = all["problems"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|problem| problem["code"] == code).collect()
    }

    /// Waits until there is a Problem of this code about `replica`, or none.
    #[track_caller]
    pub(super) fn until_told(
        &self,
        code: &str,
        replica: &str,
        is_wanted: bool,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                let told = self.problems(code).await;
                if told.iter().any(|one| one.to_string().contains(replica)) == is_wanted {
                    return;
                }
                assert!(began.elapsed() < WAIT, "{caller}: {code}: {told:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The host that a fleet serves.
pub(super) fn host(fleet: &str) -> String {
    format!("{fleet}.example.com")
}

/// How a replica of `fleet` answers.
pub(super) async fn ask(replica: &Member, fleet: &str) -> StatusCode {
    ask_at(replica, fleet, "/").await
}

/// The same for another path than the root.
pub(super) async fn ask_at(replica: &Member, fleet: &str, path: &str) -> StatusCode {
    Client::plain(replica.address).get(&host(fleet), path).await.unwrap().status
}

/// Gives a command to a member.
pub(super) async fn kubeng(member: &Member, arguments: &[&str]) -> Said {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubeng"));
    command.args(arguments).args(["--admin", &format!("http://{}", member.admin)]);
    let output = command.env_clear().kill_on_drop(true).output().await.unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What `kubeng replica list` of a controller shows of `FLEET/NAME`, if it does.
pub(super) async fn shown(controller: &Member, replica: &str) -> Option<Shown> {
    let listed = kubeng(controller, &["replica", "list"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let shown = |line: &str| {
        let cell = |column: &str| cell(&listed.out, line, column);
        let is_it = format!("{}/{}", cell("FLEET"), cell("NAME")) == replica;
        let (state, digest, text) = (cell("STATE"), cell("DIGEST"), cell("TEXT"));
        is_it.then_some(Shown { state, digest, text })
    };
    listed.out.lines().skip(1).find_map(shown)
}

/// What stands under the head of a column in a line of `table`.
pub(super) fn cell(table: &str, line: &str, column: &str) -> String {
    let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    let head = table.lines().next().unwrap();
    let begin = |column: &str| {
        let mut found = head.match_indices(column).map(|(at, _)| at);
        found.find(|at| head[*at..].split_whitespace().next() == Some(column)).unwrap()
    };
    let at = heads.iter().position(|head| *head == column).unwrap();
    let end = heads.get(at + 1).map_or(line.len(), |next| begin(next));
    line.get(begin(column)..end.min(line.len())).unwrap_or_default().trim().to_owned()
}

/// Lists replicas until this one is shown as it should be.
#[track_caller]
pub(super) fn until(
    controller: &Member,
    replica: &str,
    is_wanted: impl Fn(&Shown) -> bool,
) -> impl Future<Output = Shown> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            let shown = shown(controller, replica).await;
            match shown {
                Some(shown) if is_wanted(&shown) => return shown,
                Some(_) | None => {}
            }
            assert!(
                began.elapsed() < WAIT,
                "{caller}: {replica} is shown as {shown:?}\n{}",
                controller.log_end()
            );
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
}
