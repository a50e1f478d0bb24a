//! The API server goes away and comes back, forgets, or is not there at all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kubeng_harness::client::{Client as HttpClient, Counts};
use kubeng_harness::process::Kubeng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::inside::inside;
use super::objects::{NAMESPACE, ingress, service, slice};
use super::rig::{Rig, WITHIN, answered, backend, eventually, log};

/// Requests, one after the other, over kept connections.
pub(super) struct Load {
    stop: CancellationToken,
    clients: JoinSet<Result<Counts>>,
}

impl Load {
    pub(super) fn start(kubeng: &Kubeng, host: &str) -> Self {
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for _ in 0..2 {
            let (stop, host) = (stop.clone(), host.to_owned());
            let mut client = HttpClient::plain(kubeng.http);
            clients.spawn(async move {
                while !stop.is_cancelled() {
                    let answer = client.get(&host, "/").await?;
                    ensure!(answer.status == 200, "{} {:?}", answer.status, answer.body);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(client.counts().await)
            });
        }
        Self { stop, clients }
    }

    /// Ends it. Every request was answered 200, and no connection was closed.
    pub(super) async fn stop_without_a_loss(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(counts) = self.clients.join_next().await {
            let counts = counts?.context("a request failed")?;
            let Counts { sent, answered, failed, opened, closed, retired } = counts;
            ensure!(sent > 0 && answered == sent && failed == 0, "{counts:?}");
            ensure!(opened == 1 + retired && closed == 0, "{counts:?}");
        }
        Ok(())
    }
}

/// One host that is served.
async fn serve_web(rig: &Rig) -> Result<()> {
    rig.put(&service("web")).await?;
    rig.put(&slice("web", &["10.50.0.2"])).await?;
    rig.put(&ingress("web", "web.example", "web")).await?;
    Ok(())
}

#[test]
fn an_api_server_that_is_killed_and_comes_back_costs_no_request() {
    inside(async |mut rig| {
        let _one = backend("one", "10.50.0.2").await?;
        let _two = backend("two", "10.50.0.3").await?;
        serve_web(&rig).await?;
        let mut kubeng = rig.kubeng().await?;
        answered(&kubeng, "web.example", 200, "one").await?;

        let load = Load::start(&kubeng, "web.example");
        rig.cluster.tell("stop-apiserver").await?;
        kubeng.wait_for_line(WITHIN, |line| line.contains("KNG-1704")).await?;
        assert_eq!(kubeng.admin("/readyz").await?.status, 200, "what is served goes on");
        rig.cluster.tell("start-apiserver").await?;
        rig.put(&ingress("more", "more.example", "web")).await?;
        rig.put(&slice("web", &["10.50.0.3"])).await?;
        answered(&kubeng, "more.example", 200, "two").await?;
        let problems = async || {
            let answer = kubeng.admin("/api/v1/problems").await?;
            Ok(String::from_utf8(answer.body.to_vec())?)
        };
        eventually(problems, |text| !text.contains("KNG-1704")).await?;
        load.stop_without_a_loss().await
    });
}

#[test]
fn a_watch_that_has_expired_loses_nothing_of_what_happened_meanwhile() {
    inside(async |mut rig| {
        let _one = backend("one", "10.50.0.2").await?;
        serve_web(&rig).await?;
        rig.put(&ingress("old", "old.example", "web")).await?;
        let kubeng = rig.kubeng().await?;
        answered(&kubeng, "old.example", 200, "one").await?;

        // While Kubeng stands still, things change, and a server that has just
        // started knows nothing of versions before its start.
        let pid = Pid::from_raw(kubeng.pid().cast_signed()).context("no process")?;
        kill_process(pid, Signal::STOP)?;
        let old = ingress("old", "old.example", "web");
        let changed = async {
            rig.delete(&old).await?;
            rig.put(&ingress("new", "new.example", "web")).await?;
            for number in 0..20 {
                let name = format!("filler-{number}");
                let map = json!({ "metadata": { "name": name, "namespace": NAMESPACE } });
                rig.put::<ConfigMap>(&serde_json::from_value(map)?).await?;
            }
            rig.cluster.tell("stop-apiserver").await?;
            rig.cluster.tell("start-apiserver").await
        };
        let changed = changed.await;
        kill_process(pid, Signal::CONT)?;
        changed?;
        answered(&kubeng, "new.example", 200, "one").await?;
        answered(&kubeng, "old.example", 404, "").await?;
        answered(&kubeng, "web.example", 200, "one").await?;
        rig.put(&ingress("later", "later.example", "web")).await?;
        answered(&kubeng, "later.example", 200, "one").await?;

        // This server counts from its start, and nobody but Kubeng lists Ingresses.
        let metrics = rig.cluster.kubectl(&["get", "--raw", "/metrics"], "").await?;
        let is_list = |line: &&str| {
            line.starts_with("apiserver_request_total{")
                && line.contains("resource=\"ingresses\"")
                && line.contains("verb=\"LIST\"")
        };
        ensure!(metrics.lines().any(|line| is_list(&line)), "the watch had not expired");
        Ok(())
    });
}

#[test]
fn readiness_waits_for_an_api_server_that_is_not_there_yet() {
    inside(async |mut rig| {
        let _one = backend("one", "10.50.0.2").await?;
        serve_web(&rig).await?;
        rig.cluster.tell("stop-apiserver").await?;
        let mut kubeng = rig.launch().start()?;
        kubeng.wait_for_line(WITHIN, |line| line.contains("KNG-1704")).await?;
        assert_eq!(kubeng.admin("/livez").await?.status, 200);
        assert_eq!(kubeng.admin("/readyz").await?.status, 503);
        rig.cluster.tell("start-apiserver").await?;
        kubeng.wait_until_ready(WITHIN).await?;
        answered(&kubeng, "web.example", 200, "one").await
    });
}

#[test]
fn a_controller_that_is_started_again_serves_the_same() {
    inside(async |rig| {
        let _one = backend("one", "10.50.0.2").await?;
        serve_web(&rig).await?;
        let mut kubeng = rig.kubeng().await?;
        answered(&kubeng, "web.example", 200, "one").await?;
        kubeng.terminate()?;
        let status = kubeng.wait_for_end(WITHIN).await?;
        ensure!(status.success(), "{status}\n{}", log(&kubeng));
        rig.put(&ingress("more", "more.example", "web")).await?;
        let kubeng = rig.kubeng().await?;
        // At once: it was not ready before it knew everything.
        for host in ["web.example", "more.example"] {
            let (status, by) = super::rig::answer(&kubeng, host).await?;
            assert_eq!((status, by.as_deref()), (200, Some("one")), "{host}");
        }
        Ok(())
    });
}
