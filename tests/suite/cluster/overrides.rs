//! RouteOverrides of a cluster: what the API server keeps, what it refuses, and what is served.

use super::inside::inside;
use super::objects::{NAMESPACE, ingress, service, slice};
use super::rig::{answered, backend, eventually};

/// An override for the Ingress `web` with this in its `spec`.
fn over(spec: &str) -> String {
    over_called("web", spec)
}

fn over_called(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: RouteOverride\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec:\n  \
         targetRef: {{kind: Ingress, name: web}}\n  {spec}\n"
    )
}

#[test]
fn an_override_is_served_and_what_is_misspelt_in_it_arrives() {
    inside(async |rig| {
        let _one = backend("one", "10.50.0.2").await?;
        rig.put(&service("web")).await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        rig.put(&ingress("web", "web.example", "web")).await?;
        let kubeng = rig.kubeng().await?;
        answered(&kubeng, "web.example", 200, "one").await?;
        let apply = async |text: &str| rig.cluster.kubectl(&["apply", "-f", "-"], text).await;

        apply(&over("patch: {maintenance: {status: 599}}")).await?;
        answered(&kubeng, "web.example", 599, "").await?;
        apply(&over("patch: {maintenance: null, auth: {basic: {secretRef: {name: users}}}}"))
            .await?;
        answered(&kubeng, "web.example", 503, "").await?;
        let users = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: users, namespace: {NAMESPACE}}}\n\
             type: Opaque\nstringData: {{auth: 'ann:$5$salt$x'}}\n"
        );
        apply(&users).await?;
        answered(&kubeng, "web.example", 401, "").await?;
        apply(&over("patch: {acess: {deny: [192.0.2.0/24]}, auth: null, maintenance: null}"))
            .await?;
        let problems = async || Ok(kubeng.admin("/api/v1/problems").await?.body);
        let is_told =
            |body: &bytes::Bytes| String::from_utf8_lossy(body).contains("\\\"access\\\"");
        eventually(problems, is_told).await?;
        answered(&kubeng, "web.example", 503, "").await?;

        for wrong in [
            "patch: {}",
            "patch: {timeouts: 5}",
            "layer: urgent\n  patch: {requestId: {}}",
            "layer: emergency\n  patch: {requestId: {}}",
            "rule: {host: web.example}\n  patch: {requestId: {}}",
            "expiresAt: tomorrow\n  patch: {requestId: {}}",
            "suspnded: true\n  patch: {requestId: {}}",
        ] {
            anyhow::ensure!(
                apply(&over_called("wrong", wrong)).await.is_err(),
                "it was taken: {wrong}"
            );
        }
        rig.cluster.kubectl(&["delete", "routeoverride", "-n", NAMESPACE, "web"], "").await?;
        answered(&kubeng, "web.example", 200, "one").await
    });
}
