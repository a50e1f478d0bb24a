//! `kubeng controller`: many fleets in one process, and one leader among those that share a folder.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kubeng_harness::client::{Answer, Client};

use crate::support::{SOON, ingress, save};

/// A running controller. It is killed when this is dropped.
pub(crate) struct Controller {
    child: Child,
    pub(crate) admin: SocketAddr,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Controller {
    pub(crate) fn start(manifests: &Path, authority: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (admin, listen) = (free(), free());
        let child = Command::new(env!("CARGO_BIN_EXE_kubeng"))
            .args(["controller", "--admin", &admin.to_string(), "--listen", &listen.to_string()])
            .arg("--manifests")
            .arg(manifests)
            .arg("--authority")
            .arg(authority)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, admin }
    }

    async fn ask(&self, path: &str) -> Option<Answer> {
        Client::plain(self.admin).get(&self.admin.to_string(), path).await.ok()
    }

    /// Asks until the answer is as it should be.
    pub(crate) async fn until(&self, path: &str, is_wanted: impl Fn(u16, &str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let answer = self.ask(path).await;
            let text = answer.as_ref().map(|answer| String::from_utf8_lossy(&answer.body));
            let text = text.map(std::borrow::Cow::into_owned).unwrap_or_default();
            let status = answer.map_or(0, |answer| answer.status.as_u16());
            if is_wanted(status, &text) {
                return text;
            }
            assert!(began.elapsed() < SOON, "{path} still answers {status}: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn fleet(name: &str, class: &str, port: u16) -> String {
    format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: Fleet\nmetadata: {{name: {name}}}\n\
         spec:\n  serves: {{ingressClasses: [{class}]}}\n\
         \x20 listeners:\n  - {{name: http, port: {port}, protocol: HTTP}}\n---\n"
    )
}

#[tokio::test]
async fn every_fleet_has_its_own_configuration_and_a_broken_one_its_last() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let of_class = |name: &str, class: &str| {
        let text = ingress(name, &format!("{name}.example.com"), &[("/", "Prefix", "web")]);
        text.replace("ingressClassName: kubeng", &format!("ingressClassName: {class}"))
    };
    save(&manifests, "fleets.yaml", &(fleet("one", "first", 80) + &fleet("two", "second", 81)));
    save(&manifests, "web.yaml", &(of_class("a", "first") + &of_class("b", "second")));
    let controller = Controller::start(&manifests, &folder.path().join("authority"));
    controller.until("/readyz", |status, _| status == 200).await;
    for (name, own, other) in
        [("one", "a.example.com", "b.example.com"), ("two", "b.example.com", "a.example.com")]
    {
        let path = format!("/api/v1/snapshot?format=json&fleet={name}");
        let text = controller.until(&path, |status, _| status == 200).await;
        assert!(text.contains(own) && !text.contains(other), "{name}: {text}");
    }
    let text = controller.until("/api/v1/routes?fleet=three", |status, _| status == 404).await;
    assert!(text.contains("one, two"), "{text}");
    // What is wrong with one is told, and its last form counts.
    save(&manifests, "fleets.yaml", &(fleet("one", "first", 80) + &fleet("two", "second", 0)));
    let problems = |wanted: bool| {
        move |status: u16, text: &str| status == 200 && text.contains("Fleet/two") == wanted
    };
    let text = controller.until("/api/v1/problems", problems(true)).await;
    assert!(text.contains("/spec/listeners/0/port"), "{text}");
    let path = "/api/v1/explain?request=GET+http://b.example.com/&fleet=two";
    let text = controller.until(path, |status, _| status == 200).await;
    assert!(text.contains("Ingress/shop/b"), "{text}");
    save(&manifests, "fleets.yaml", &fleet("one", "first", 80));
    controller.until("/api/v1/routes?fleet=two", |status, _| status == 404).await;
    controller.until("/api/v1/problems", problems(false)).await;
}

#[tokio::test]
async fn when_the_leader_is_killed_the_next_one_leads_in_a_later_term() {
    let folder = tempfile::tempdir().unwrap();
    let (manifests, authority) = (folder.path().join("manifests"), folder.path().join("authority"));
    std::fs::create_dir(&manifests).unwrap();
    let term = || {
        let text = std::fs::read_to_string(authority.join("leader.epoch")).unwrap_or_default();
        text.trim().parse::<u32>().unwrap_or_default()
    };
    let until = async |wanted: u32| {
        let began = Instant::now();
        while term() != wanted {
            assert!(began.elapsed() < SOON, "the term is {} and not {wanted}", term());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let first = Controller::start(&manifests, &authority);
    until(1).await;
    let second = Controller::start(&manifests, &authority);
    second.until("/readyz", |status, _| status == 200).await;
    assert_eq!(term(), 1, "who follows raises nothing");
    drop(first);
    until(2).await;
    drop(second);
}
