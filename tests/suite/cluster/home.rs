//! `kubeng run` without `--fleet` in a cluster where there are Fleets: it serves what it served.

use kubeng_harness::process::Kubeng;

use super::inside::inside;
use super::objects::{ingress, service, slice};
use super::rig::{Rig, answered, backend, eventually};

fn fleet(name: &str) -> String {
    format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: Fleet\nmetadata: {{ name: {name} }}\nspec:\n  \
         serves: {{ ingressClasses: [kubeng] }}\n  listeners:\n  \
         - {{ name: http, port: 80, protocol: HTTP }}\n"
    )
}

async fn apply(rig: &Rig, name: &str) -> anyhow::Result<()> {
    rig.cluster.kubectl(&["apply", "-f", "-"], &fleet(name)).await.map(drop)
}

/// Waits until the Problems have all of `words`.
async fn told(kubeng: &Kubeng, words: &[&str]) -> anyhow::Result<String> {
    let problems = async || {
        let answer = kubeng.admin("/api/v1/problems").await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    };
    eventually(problems, |text| words.iter().all(|word| text.contains(word))).await
}

#[test]
fn a_fleet_in_the_cluster_takes_no_route_from_a_process_for_itself() {
    inside(async |rig| {
        let _one = backend("one", "10.50.0.2").await?;
        rig.put(&service("web")).await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        rig.put(&ingress("web", "web.example", "web")).await?;
        let kubeng = rig.kubeng().await?;
        answered(&kubeng, "web.example", 200, "one").await?;

        // One of another name lists our class and comes while requests are served.
        apply(&rig, "main").await?;
        told(&kubeng, &["KNG-1113", "Fleet/main", "--fleet main"]).await?;
        answered(&kubeng, "web.example", 200, "one").await?;
        rig.put(&ingress("later", "later.example", "web")).await?;
        answered(&kubeng, "later.example", 200, "one").await?;
        // One of our own name is told as such.
        apply(&rig, "default").await?;
        told(&kubeng, &["KNG-1003", "Fleet/default"]).await?;
        answered(&kubeng, "web.example", 200, "one").await?;

        // One that starts where they are serves the same at once.
        drop(kubeng);
        let kubeng = rig.kubeng().await?;
        for host in ["web.example", "later.example"] {
            let (status, by) = super::rig::answer(&kubeng, host).await?;
            assert_eq!((status, by.as_deref()), (200, Some("one")), "{host}");
        }
        told(&kubeng, &["KNG-1113", "Fleet/main"]).await?;
        let gone = ["delete", "fleets.kubeng.io", "main", "default"];
        rig.cluster.kubectl(&gone, "").await?;
        let problems = async || told(&kubeng, &[]).await;
        eventually(problems, |text| !text.contains("Fleet/")).await?;
        answered(&kubeng, "web.example", 200, "one").await
    });
}
