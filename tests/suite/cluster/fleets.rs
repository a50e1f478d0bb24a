//! Statuses of Fleets: written by the leading controller with the rights of `deploy/rbac.yaml`.

use anyhow::Context as _;
use kubeng_harness::fleet::FleetRig;
use serde_json::Value;

use super::inside::inside;
use super::rig::{Rig, WITHIN, eventually};

fn fleet(spec: &str) -> String {
    format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: Fleet\nmetadata: {{ name: prod }}\nspec:\n  \
         serves: {{ ingressClasses: [kubeng] }}\n  listeners:\n  \
         - {{ name: http, port: 80, protocol: HTTP }}\n{spec}"
    )
}

async fn status(rig: &Rig) -> anyhow::Result<Value> {
    let text = rig.cluster.kubectl(&["get", "fleet", "prod", "-o", "json"], "").await?;
    let fleet: Value = serde_json::from_str(&text)?;
    Ok(fleet["status"].clone())
}

/// The status and reason of a condition, with what it says.
fn condition(status: &Value, kind: &str) -> (String, String, String) {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

async fn until(rig: &Rig, kind: &str, status_wanted: &str, reason: &str) -> anyhow::Result<Value> {
    let is_wanted = |told: &Value| {
        let (status, why, _) = condition(told, kind);
        (status.as_str(), why.as_str()) == (status_wanted, reason)
    };
    eventually(async || status(rig).await, is_wanted).await
}

#[test]
fn a_fleet_shows_whether_it_is_taken_and_how_many_replicas_serve_it() {
    inside(async |rig| {
        let apply = async |text: &str| {
            rig.cluster.kubectl(&["apply", "--validate=false", "-f", "-"], text).await
        };
        apply(&fleet("")).await?;
        let fleets = FleetRig::new(env!("CARGO_BIN_EXE_kubeng"))?;
        let account = rig.account.to_str().context("a path that is no text")?.to_owned();
        let more = ["--kubernetes", "--kubeconfig", &account];
        let mut controller = fleets.controller("c1", &more)?;
        controller.until_ready(WITHIN).await?;
        let told = until(&rig, "Programmed", "False", "NoReplicas").await?;
        assert_eq!(condition(&told, "Accepted").0, "True");
        assert_eq!(told["observedGeneration"], 1, "{told}");

        let mut replica = fleets.replica("r1", "prod", &[&controller], &[]).await?;
        replica.until_ready(WITHIN).await?;
        let told = until(&rig, "Programmed", "True", "Programmed").await?;
        assert_eq!(told["replicas"]["inSync"], 1, "{told}");
        assert_eq!(told["replicas"]["states"]["InSync"], 1, "{told}");
        let digest = told["configurationDigest"].clone();
        assert_eq!(digest.as_str().map(str::len), Some(64), "{told}");
        // What it runs it tells by itself, a heartbeat later.
        let runs = serde_json::json!([{"digest": digest, "replicas": 1}]);
        let told = eventually(async || status(&rig).await, |told| told["running"] == runs).await?;
        assert_eq!(told["problems"], 0, "{told}");

        // What cannot be taken leaves what is served, and says so in the same place.
        apply(&fleet("  drift: { heartbeatEvery: 90s }\n")).await?;
        let told = until(&rig, "Accepted", "False", "Invalid").await?;
        let (.., message) = condition(&told, "Accepted");
        assert!(message.contains("/spec/drift/heartbeatEvery"), "{message}");
        assert_eq!(condition(&told, "Programmed").0, "True");
        apply(&fleet("  drift: { heartbeatEvery: 2s }\n")).await?;
        until(&rig, "Accepted", "True", "Accepted").await?;

        replica.stop(WITHIN).await?;
        let told = until(&rig, "Programmed", "False", "Unreachable").await?;
        assert_eq!(told["replicas"]["known"], 1, "{told}");
        let refused =
            controller.log().into_iter().filter(|line| line.contains("status not written"));
        assert_eq!(refused.collect::<Vec<_>>(), Vec::<String>::new());
        Ok(())
    });
}
