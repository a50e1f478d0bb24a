//! One of several controllers writes; the next one takes over when it goes.

use std::time::Instant;

use anyhow::{Context as _, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kubeng_harness::process::Kubeng;

use super::inside::inside;
use super::objects::ingress;
use super::rig::{PUBLISHED, Rig, WITHIN, eventually};

/// Whether it has ever said that it leads.
fn leads(kubeng: &Kubeng) -> bool {
    kubeng.log().iter().any(|line| line.contains("leading: statuses are written"))
}

/// Holder and number of the term.
async fn lease(rig: &Rig) -> Result<(Option<String>, i32)> {
    let leases: Api<Lease> = Api::namespaced(rig.client.clone(), "kubeng");
    let spec = leases.get("kubeng").await?.spec.context("an empty lease")?;
    Ok((spec.holder_identity, spec.lease_transitions.unwrap_or(0)))
}

#[test]
fn one_leads_and_another_takes_over_when_it_ends_or_is_killed() {
    inside(async |mut rig| {
        let mut first = rig.kubeng().await?;
        first.wait_for_line(WITHIN, |line| line.contains("leading:")).await?;
        let (holder, term) = lease(&rig).await?;
        let mut second = rig.kubeng().await?;
        rig.put(&ingress("a", "a.example", "web")).await?;
        eventually(async || rig.shown("a").await, |shown| shown == &[PUBLISHED]).await?;
        assert!(!leads(&second), "two lead");

        // Told to end, it gives the lease back: nobody waits for its end.
        let begin = Instant::now();
        first.terminate()?;
        first.wait_for_end(WITHIN).await?;
        assert_eq!(lease(&rig).await?.1, term, "giving back is no new term");
        second.wait_for_line(WITHIN, |line| line.contains("leading:")).await?;
        assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
        let (next, next_term) = lease(&rig).await?;
        assert!(next != holder && next_term > term, "{next:?} {next_term}");

        // Killed, it cannot: the next one waits as long as the lease says.
        let mut third = rig.kubeng().await?;
        drop(second);
        third.wait_for_line(WITHIN, |line| line.contains("leading:")).await?;
        assert!(lease(&rig).await?.1 > next_term);
        rig.put(&ingress("b", "b.example", "web")).await?;
        eventually(async || rig.shown("b").await, |shown| shown == &[PUBLISHED]).await?;

        // Without an API server it steps down, and leads again in a new term after that.
        let (_, term) = lease(&rig).await?;
        rig.cluster.tell("pause-apiserver").await?;
        third.wait_for_line(WITHIN, |line| line.contains("leading no more")).await?;
        rig.cluster.tell("resume-apiserver").await?;
        rig.put(&ingress("c", "c.example", "web")).await?;
        eventually(async || rig.shown("c").await, |shown| shown == &[PUBLISHED]).await?;
        assert!(lease(&rig).await?.1 > term);
        Ok(())
    });
}
