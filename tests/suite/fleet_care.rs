//! What a Fleet says of its replicas reaches them, what it gives to its Routes is served, and one process
//! alone can serve it.

use std::time::{Duration, Instant};

use http::Request;
use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;
use kubeng_harness::fleet::{FleetRig, Member};
use kubeng_harness::process::{Kubeng, Launch};
use serde_json::Value;

use crate::support::{SOON, ingress, save};

fn rig() -> FleetRig {
    FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap()
}

/// Waits until `look` gives what is wanted.
#[track_caller]
fn until<'a, T: std::fmt::Debug>(
    look: impl AsyncFn() -> T + 'a,
    is_wanted: impl Fn(&T) -> bool + 'a,
) -> impl Future<Output = T> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            let found = look().await;
            if is_wanted(&found) {
                return found;
            }
            assert!(began.elapsed() < SOON * 3, "{caller}: {found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn text(member: &Member, path: &str) -> String {
    let answer = member.admin(path).await;
    answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default()
}

async fn json(member: &Member, path: &str) -> Value {
    member.json(path).await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_what_their_fleet_says_and_their_settings_only_ask_for_more() {
    let rig = rig();
    let drift =
        |every: &str| format!("  drift: {{ heartbeatEvery: {every}, tableCheckEvery: 70s }}\n");
    rig.write_fleet("prod", &drift("40s")).unwrap();
    let mut controller = rig.controller("c1", &[]).unwrap();
    controller.until_ready(SOON).await.unwrap();
    let labels = ["--label", "site=bj", "--label", "canary="];
    let mut patient = rig.replica("patient", "prod", &[&controller], &labels).await.unwrap();
    let mut eager =
        rig.replica("eager", "prod", &[&controller], &["--heartbeat", "3"]).await.unwrap();
    for replica in [&mut patient, &mut eager] {
        replica.until_ready(SOON).await.unwrap();
    }
    let says = async |replica: &Member, words: &str| {
        let words = words.to_owned();
        until(async || text(replica, "/status").await, move |text| text.contains(&words)).await;
    };
    says(&patient, "every 40 s; looks at what it runs every 70 s").await;
    says(&eager, "every 3 s; looks at what it runs every 70 s").await;
    // As it changes, without a restart; in both directions nobody counts as unreachable.
    rig.write_fleet("prod", &drift("1s")).unwrap();
    says(&patient, "every 1 s;").await;
    says(&eager, "every 1 s;").await;
    let list = async || json(&controller, "/api/v1/replicas").await;
    let all_in_sync = |answer: &Value| {
        let all = answer["replicas"].as_array().cloned().unwrap_or_default();
        all.len() == 2 && all.iter().all(|replica| replica["state"] == "InSync")
    };
    let told = until(list, all_in_sync).await;
    let labels = &told["replicas"][1]["labels"];
    assert_eq!((&labels["site"], &labels["canary"]), (&"bj".into(), &"".into()), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_that_intend_something_else_are_told_of_and_count_each_others_replicas() {
    let rig = rig();
    rig.write_fleet("prod", "  environment: test\n").unwrap();
    let mut first = rig.controller("c1", &[]).unwrap();
    first.until_ready(SOON).await.unwrap();
    let peer = format!("http://{}", first.admin);
    // It does not see one namespace, so it intends something else.
    let flags = ["--peer-admin", &peer, "--namespace", "none"];
    let mut second = rig.controller("c2", &flags).unwrap();
    second.until_ready(SOON).await.unwrap();
    let mut replica = rig.replica("r1", "prod", &[&first], &[]).await.unwrap();
    replica.until_ready(SOON).await.unwrap();
    let fleet = async || json(&second, "/api/v1/fleets/prod").await;
    let is_programmed = |fleet: &Value| fleet["states"]["InSync"] == 1;
    let told = until(fleet, is_programmed).await;
    assert_eq!(told["environment"], "test", "{told}");
    assert_eq!(told["conditions"][1]["status"], "True", "{told}");
    assert_eq!(told["elsewhere"][0]["same"], true, "{told}");

    let web = ingress("web", "web.example", &[("/", "Prefix", "web")]);
    save(&rig.manifests(), "web.yaml", &web);
    until(fleet, |fleet| fleet["elsewhere"][0]["same"] == false).await;
    let problems = async || text(&second, "/api/v1/problems").await;
    let told = until(problems, |problems| problems.contains("KNG-1746")).await;
    let metrics = async || text(&second, "/metrics").await;
    until(metrics, |metrics| metrics.contains("kubeng_controllers_disagree 1")).await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubeng"));
    let admin = format!("http://{}", second.admin);
    let output = command.args(["fleet", "list", "--admin", &admin]).output().await.unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("test") && out.contains("Programmed"), "{out}");
    assert!(err.contains(&format!("fleet prod: controller {peer} intends")), "{err}");

    // The Problem says who intends what, in the log too, and is over when both intend the same.
    let told: Value = serde_json::from_str(&told).unwrap();
    let all = told["problems"].as_array().unwrap();
    let problem = all.iter().find(|problem| problem["code"] == "KNG-1746").unwrap();
    let message = problem["message"].as_str().unwrap();
    let theirs = json(&first, "/api/v1/fleets/prod").await["digest"].as_str().unwrap().to_owned();
    for word in [peer.as_str(), &theirs[..12], "this controller intends", "position"] {
        assert!(message.contains(word), "{word:?} is not in {problem}");
    }
    let is_logged = second.log().iter().any(|line| line.contains("KNG-1746"));
    assert!(is_logged, "{}", second.log_end());
    // The first one knows of no other, so it compares with nobody.
    assert!(!text(&first, "/api/v1/problems").await.contains("KNG-1746"));
    std::fs::remove_file(rig.manifests().join("web.yaml")).unwrap();
    until(fleet, |fleet| fleet["elsewhere"][0]["same"] == true).await;
    until(problems, |problems| !problems.contains("KNG-1746")).await;
    until(metrics, |metrics| metrics.contains("kubeng_controllers_disagree 0")).await;
}

async fn asked(kubeng: &Kubeng, body: usize) -> (u16, Option<String>) {
    let request = Request::post("/").header("host", "web.example");
    let body = bytes::Bytes::from(vec![b'x'; body]);
    let answer = Client::plain(kubeng.http).send(request.body(body).unwrap()).await.unwrap();
    (answer.status.as_u16(), answer.backend().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_serves_a_fleet_object_with_its_defaults_and_says_when_there_is_none() {
    let backend = Backend::start("one").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path();
    let fleet = |name: &str| {
        format!(
            "apiVersion: kubeng.io/v1alpha1\nkind: Fleet\nmetadata: {{ name: {name} }}\nspec:\n  \
             serves: {{ ingressClasses: [kubeng] }}\n  listeners:\n  \
             - {{ name: http, port: 80, protocol: HTTP }}\n  \
             defaults: {{ limits: {{ requestBody: 1Ki }} }}\n"
        )
    };
    save(manifests, "other.yaml", &fleet("other"));
    save(manifests, "web.yaml", &ingress("web", "web.example", &[("/", "Prefix", "web")]));
    save(manifests, "service.yaml", &crate::support::service("web", &[&backend]));
    let mut kubeng = Launch::new(env!("CARGO_BIN_EXE_kubeng"))
        .fleet("prod")
        .manifests(manifests)
        .start()
        .unwrap();
    let ready = async || {
        let answer = kubeng.admin("/readyz").await;
        answer.map(|it| String::from_utf8_lossy(&it.body).into_owned()).unwrap_or_default()
    };
    let told = until(ready, |text| text.contains("KNG-1111")).await;
    assert!(told.contains("Fleet/prod") && told.contains("there is other"), "{told}");

    save(manifests, "prod.yaml", &fleet("prod"));
    save(manifests, "other.yaml", "");
    kubeng.wait_until_ready(SOON).await.unwrap();
    let small = (200, Some("one".to_owned()));
    until(async || asked(&kubeng, 1000).await, |answer| *answer == small).await;
    assert_eq!(asked(&kubeng, 1025).await.0, 413, "the default of the Fleet");

    // What is served stays while the Fleet is gone, and follows it when it is back.
    std::fs::remove_file(manifests.join("prod.yaml")).unwrap();
    let problems = async || {
        let answer = kubeng.admin("/api/v1/problems").await;
        answer.map(|it| String::from_utf8_lossy(&it.body).into_owned()).unwrap_or_default()
    };
    until(problems, |text| text.contains("KNG-1111")).await;
    assert_eq!(asked(&kubeng, 1000).await, small);
    save(manifests, "prod.yaml", &fleet("prod").replace("1Ki", "2Ki"));
    until(async || asked(&kubeng, 1025).await, |answer| *answer == small).await;
}
