//! A start tells no Problem that there is not, although objects arrive in parts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::inside::inside;
use super::objects::{ingress, secret, service, slice, with_tls};
use super::rig::{WITHIN, log};

#[test]
fn a_start_tells_no_problem_of_what_arrives_in_parts() {
    inside(async |rig| {
        let mut items: Vec<Value> = Vec::new();
        for number in 0..10 {
            let (name, host) = (format!("web-{number}"), format!("h{number}.example"));
            items.extend([
                json!(with_tls(ingress(&name, &host, &name), &host, &name)),
                json!(service(&name)),
                json!(slice(&name, &["10.50.0.2"])),
                json!(secret(&name, &host).0),
            ]);
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        rig.cluster.kubectl(&["apply", "-f", "-"], &list.to_string()).await?;

        let mut kubeng = rig.launch().start()?;
        let began = Instant::now();
        loop {
            if let Ok(listed) = kubeng.admin("/api/v1/problems").await {
                let listed = String::from_utf8(listed.body.to_vec())?;
                anyhow::ensure!(!listed.contains("KNG-"), "{listed}");
            }
            if kubeng.admin("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            anyhow::ensure!(began.elapsed() < WITHIN, "it is not ready\n{}", log(&kubeng));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let counted = kubeng.metrics().await?;
        anyhow::ensure!(counted.lines().any(|line| line == "kubeng_problems 0"), "{counted}");
        kubeng.terminate()?;
        anyhow::ensure!(kubeng.wait_for_end(WITHIN).await?.success(), "{}", log(&kubeng));
        let told: Vec<String> =
            kubeng.log().into_iter().filter(|line| line.contains("KNG-")).collect();
        anyhow::ensure!(told.is_empty(), "{told:?}");
        for number in 0..10 {
            let events = rig.told(&format!("web-{number}")).await?;
            let wrong: Vec<_> = events.iter().filter(|(_, note)| note.contains("KNG-")).collect();
            anyhow::ensure!(wrong.is_empty(), "{wrong:?}");
        }
        Ok(())
    });
}
