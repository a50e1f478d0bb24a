//! What people are told of replicas, and what they do about them: the admin listener and the commands,
//! with a controller and replicas that have no proxy.

mod rig;

use bytes::Bytes;
use http::Request;
use kubeng_config::drift::ReplicaState;
use kubeng_harness::client::{Answer, Client};
use serde_json::Value;

use rig::Rig;

async fn send(rig: &Rig, request: Request<Bytes>) -> Answer {
    Client::plain(rig.admin).send(request).await.unwrap()
}

async fn get(rig: &Rig, path: &str) -> (u16, Value) {
    let request = Request::get(path).header("host", "127.0.0.1").body(Bytes::new()).unwrap();
    let answer = send(rig, request).await;
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Posts with these fields beside those that are needed.
async fn post(rig: &Rig, path: &str, fields: &[(&str, &str)], body: &'static str) -> Answer {
    let mut request = Request::post(path).header("host", "127.0.0.1");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    send(rig, request.body(Bytes::from_static(body.as_bytes())).unwrap()).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn the_listener_tells_of_fleets_replicas_and_what_they_run() {
    let rig = Rig::start().await;
    rig.join("r1").await;
    rig.join("r2").await;
    rig.drift("r2").await;
    rig.until("r2", ReplicaState::Drifted).await;

    let (status, fleets) = get(&rig, "/api/v1/fleets").await;
    assert_eq!((status, &fleets["fleets"][0]["name"]), (200, &"prod".into()), "{fleets}");
    let (_, fleet) = get(&rig, "/api/v1/fleets/prod").await;
    assert_eq!(fleet["states"]["InSync"], 1, "{fleet}");
    let (_, all) = get(&rig, "/api/v1/replicas?fleet=prod").await;
    assert_eq!(all["replicas"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(
        get(&rig, "/api/v1/replicas?fleet=other").await.1["replicas"],
        serde_json::json!([])
    );
    let (_, one) = get(&rig, "/api/v1/replicas/prod/r2").await;
    assert_eq!(one["state"], "Drifted", "{one}");
    assert!(one["heartbeat"]["build"]["version"].is_string(), "{one}");

    let (_, groups) = get(&rig, "/api/v1/compare?fleet=prod").await;
    assert_eq!(groups["groups"].as_array().map(Vec::len), Some(2), "{groups}");
    let sides = "/api/v1/compare?left=replica:prod/r1&right=replica:prod/r2";
    let (_, compared) = get(&rig, sides).await;
    assert_eq!(compared["differences"][0]["pointer"], "/timeouts/requestMs", "{compared}");
    assert!(compared["text"].as_str().unwrap().contains("+  requestMs: 90000"), "{compared}");
    let (_, same) = get(&rig, "/api/v1/compare?left=intended:prod&right=replica:prod/r1").await;
    assert_eq!(same["equal"], true, "{same}");
    for format in ["json", "yaml", "nginx"] {
        for of in ["replicas/prod/r2", "fleets/prod"] {
            let (status, _) = get(&rig, &format!("/api/v1/{of}/export?format={format}")).await;
            assert_eq!(status, 200, "{of} {format}");
        }
    }
    // It is told once the evidence has been stored.
    rig.open_record().await;
    let began = std::time::Instant::now();
    while !get(&rig, "/api/v1/problems").await.1.to_string().contains("KNG-1741") {
        assert!(began.elapsed() < crate::support::SOON, "the problem is not told");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for (path, status) in [
        ("/api/v1/fleets/none", 404),
        ("/api/v1/replicas/prod/none", 404),
        ("/api/v1/replicas/prod/none/export", 404),
        ("/api/v1/replicas/prod/r1/export?format=xml", 400),
        ("/api/v1/compare", 400),
        ("/api/v1/compare?left=replica:prod/r1", 400),
        ("/api/v1/compare?left=nothing&right=intended:prod", 400),
        ("/api/v1/compare?left=intended:none&right=intended:prod", 404),
        ("/api/v1/drift/none", 404),
    ] {
        let (found, body) = get(&rig, path).await;
        assert_eq!(found, status, "{path}: {body}");
    }
    rig.end().await;
}

#[tokio::test]
async fn what_is_changed_needs_the_version_that_was_read_and_no_page_of_others() {
    let rig = Rig::start().await;
    rig.join("r1").await;
    rig.drift("r1").await;
    let record = rig.open_record().await;
    let (heal, dismiss) = (
        format!("/api/v1/drift/{}/heal", record.id),
        format!("/api/v1/drift/{}/dismiss", record.id),
    );
    let etag = record.etag();
    let tag = ("if-match", etag.as_str());
    for (path, fields, body, status) in [
        (&heal, vec![JSON], "{}", 428),
        (&heal, vec![JSON, ("if-match", "\"old\"")], "{}", 412),
        (&heal, vec![tag], "{}", 415),
        (&heal, vec![JSON, tag, ("origin", "http://evil.example")], "{}", 403),
        (&heal, vec![JSON, tag], "{\"why\": 1}", 400),
        (&heal, vec![JSON, tag], "[", 400),
        (&dismiss, vec![JSON, tag], "{}", 422),
        (&dismiss, vec![JSON, tag], "{\"reason\": \"a\\nb\"}", 422),
    ] {
        let answer = post(&rig, path, &fields, body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{path} {fields:?} {body}: {text}");
        assert!(text.contains("/problems/"), "{text}");
    }
    assert_eq!(rig.state("r1"), Some(ReplicaState::Drifted), "nothing has changed");
    let answer = post(&rig, &heal, &[JSON, tag], "{\"by\": \"me\"}").await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{text}");
    assert!(text.contains("\"resolution\":\"healed\""), "{text}");
    rig.until("r1", ReplicaState::InSync).await;
    let again = post(&rig, &heal, &[JSON, ("if-match", "*")], "{}").await;
    assert_eq!(again.status, 409);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deviation_is_found_compared_explained_and_healed_by_commands_alone() {
    let rig = Rig::start().await;
    rig.join("r1").await;
    rig.join("r2").await;
    let fine = rig.kubeng(&["drift", "list"], 0).await;
    assert!(fine.starts_with("ID"), "{fine}");
    rig.drift("r2").await;
    let record = rig.open_record().await;

    let listed = rig.kubeng(&["replica", "list", "--fleet", "prod"], 0).await;
    let line = listed.lines().find(|line| line.starts_with("r2")).unwrap();
    assert!(line.contains("Drifted") && line.contains("which differs in 1 place"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("r1") && line.contains("InSync")));
    let fleets = rig.kubeng(&["fleet", "list"], 0).await;
    assert!(fleets.contains("prod") && fleets.contains("Production"), "{fleets}");

    let compared = rig.kubeng(&["compare", "prod/r1", "prod/r2"], 1).await;
    assert!(compared.contains("fleet prod: 1 runs "), "{compared}");
    assert!(compared.contains("(intended): r1"), "{compared}");
    assert!(compared.contains("~ policy default /timeouts/requestMs: null -> 90000"), "{compared}");
    assert!(compared.contains("\n+  requestMs: 90000"), "{compared}");
    rig.kubeng(&["compare", "intended:prod", "prod/r1"], 0).await;
    let folder = tempfile::tempdir().unwrap();
    for format in ["yaml", "json"] {
        let exported = rig.kubeng(&["replica", "export", "prod/r2", "--format", format], 0).await;
        let file = folder.path().join(format!("r2.{format}"));
        std::fs::write(&file, exported).unwrap();
        rig.kubeng(&["compare", file.to_str().unwrap(), "prod/r2"], 0).await;
        rig.kubeng(&["compare", file.to_str().unwrap(), "intended:prod"], 1).await;
    }
    let nginx = rig.kubeng(&["replica", "export", "prod/r2", "--format", "nginx"], 0).await;
    assert!(nginx.contains("a.example"), "{nginx}");

    let open = rig.kubeng(&["drift", "list"], 1).await;
    assert!(open.contains(&record.id), "{open}");
    let shown = rig.kubeng(&["drift", "show", &record.id], 1).await;
    assert!(shown.contains("/timeouts/requestMs: intended null, runs 90000"), "{shown}");
    let adopted = rig.kubeng(&["drift", "adopt", &record.id], 0).await;
    assert!(
        adopted.contains("kind: RouteOverride") && adopted.contains("request: 1m30s"),
        "{adopted}"
    );
    rig.drift_anew("r2").await;
    let record = rig.open_record().await;
    let unexplained = rig.kubeng(&["drift", "dismiss", &record.id], 2).await;
    assert!(unexplained.contains("reason is missing"), "{unexplained}");
    rig.kubeng(&["drift", "heal", &record.id], 0).await;
    rig.until("r2", ReplicaState::InSync).await;
    rig.kubeng(&["drift", "list"], 0).await;
    let all = rig.kubeng(&["drift", "list", "--all"], 0).await;
    assert!(all.contains("healed") && all.contains("adopted"), "{all}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_gone_is_listed_until_it_is_forgotten() {
    let rig = Rig::start().await;
    rig.join("r1").await;
    let refused = rig.kubeng(&["replica", "forget", "prod/r1"], 2).await;
    assert!(refused.contains("stop it first"), "{refused}");
    rig.leave("r1").await;
    let away = rig.kubeng(&["replica", "export", "prod/r1"], 2).await;
    assert!(away.contains("502"), "{away}");
    rig.kubeng(&["replica", "forget", "prod/r1"], 0).await;
    let listed = rig.kubeng(&["replica", "list"], 0).await;
    assert!(!listed.contains("r1"), "{listed}");
    for wrong in [
        &["replica", "export", "r1"][..],
        &["compare", "r1", "r2"],
        &["drift", "show", "none"],
        &["replica", "list", "--admin", "https://127.0.0.1:1"],
        &["replica", "list", "--admin", "http://127.0.0.1:1"],
    ] {
        rig.kubeng_at(wrong, 2).await;
    }
    rig.end().await;
}
