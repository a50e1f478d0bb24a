//! Rights: those of `deploy/rbac.yaml` suffice, and a missing one is named.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::inside::inside;
use super::objects::{ingress, service, slice};
use super::rig::{WITHIN, answered, backend, eventually};

#[test]
fn a_missing_right_is_named_and_serving_begins_when_it_is_granted() {
    inside(async |rig| {
        let _one = backend("one", "10.50.0.2").await?;
        rig.put(&service("web")).await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        rig.put(&ingress("web", "web.example", "web")).await?;
        let roles: Api<ClusterRole> = Api::all(rig.client.clone());
        let shipped = roles.get("kubeng-reader").await?;
        let mut rules = shipped.rules.clone().unwrap_or_default();
        rules.retain(|rule| !rule.resources.iter().flatten().any(|it| it == "services"));
        let params = PatchParams::default();
        let fewer = Patch::Merge(json!({ "rules": rules }));
        roles.patch("kubeng-reader", &params, &fewer).await?;

        let mut kubeng = rig.launch().start()?;
        let line = kubeng.wait_for_line(WITHIN, |line| line.contains("KNG-1704")).await?;
        assert!(line.contains("services") && line.contains("list"), "{line}");
        assert_eq!(kubeng.admin("/readyz").await?.status, 503);
        roles
            .patch("kubeng-reader", &params, &Patch::Merge(json!({ "rules": shipped.rules })))
            .await?;
        kubeng.wait_until_ready(WITHIN).await?;
        answered(&kubeng, "web.example", 200, "one").await
    });
}

#[test]
fn the_rights_that_are_shipped_suffice_for_everything() {
    inside(async |rig| {
        let _one = backend("one", "10.50.0.2").await?;
        rig.put(&service("web")).await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        let (secret, _) = super::objects::secret("web-tls", "web.example");
        rig.put(&secret).await?;
        let host = "web.example";
        rig.put(&super::objects::with_tls(ingress("web", host, "web"), host, "web-tls")).await?;
        let kubeng = rig.kubeng().await?;
        answered(&kubeng, host, 200, "one").await?;
        eventually(async || rig.shown("web").await, |shown| !shown.is_empty()).await?;
        eventually(async || rig.told("web").await, |told| !told.is_empty()).await?;
        // A server whose definitions are new answers 429 for a moment.
        let problems = async || {
            let answer = kubeng.admin("/api/v1/problems").await?;
            Ok(String::from_utf8(answer.body.to_vec())?)
        };
        eventually(problems, |problems| !problems.contains("KNG-1704")).await?;
        let refused: Vec<String> =
            kubeng.log().into_iter().filter(|line| line.contains("403")).collect();
        assert_eq!(refused, Vec::<String>::new());
        Ok(())
    });
}
