//! Statuses and Events: of our Ingresses all, of others none.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kubeng_harness::process::Launch;
use serde_json::json;

use super::inside::inside;
use super::objects::{ingress, ingress_class, ingress_of, service, slice};
use super::rig::{PUBLISHED, Rig, WITHIN, answered, eventually, log};

/// Waits until the status of an Ingress shows this.
async fn shows(rig: &Rig, ingress: &str, addresses: &[&str]) -> anyhow::Result<()> {
    eventually(async || rig.shown(ingress).await, |shown| *shown == addresses).await.map(|_| ())
}

/// Waits until an Ingress that comes after all others has its address: whatever
/// was to be written before it has been.
async fn settle(rig: &Rig, name: &str) -> anyhow::Result<()> {
    rig.put(&ingress(name, &format!("{name}.example"), "web")).await?;
    shows(rig, name, &[PUBLISHED]).await
}

/// Writes a status as another controller does.
async fn write_status(rig: &Rig, name: &str, address: &str) -> anyhow::Result<()> {
    let entries = json!([{ "ip": address }]);
    let status = json!({ "status": { "loadBalancer": { "ingress": entries } } });
    let params = PatchParams { field_manager: Some("other".into()), ..PatchParams::default() };
    rig.api::<Ingress>().patch_status(name, &params, &Patch::Merge(status)).await?;
    Ok(())
}

#[test]
fn our_ingresses_show_the_address_and_those_of_others_do_not() {
    inside(async |rig| {
        let classes: Api<IngressClass> = Api::all(rig.client.clone());
        let other = ingress_class("other", "example.com/other");
        classes.create(&PostParams::default(), &other).await?;
        rig.put(&service("web")).await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        rig.put(&ingress_of("other", "foreign", "foreign.example", "web")).await?;
        rig.put(&ingress_of("nobody", "unknown", "unknown.example", "web")).await?;
        rig.put(&ingress("early", "early.example", "web")).await?;
        let kubeng = rig.kubeng().await?;
        shows(&rig, "early", &[PUBLISHED]).await?;
        settle(&rig, "late").await?;

        // What somebody else puts into our Ingress is put right; into his own it stays.
        write_status(&rig, "early", "192.0.2.99").await?;
        write_status(&rig, "foreign", PUBLISHED).await?;
        shows(&rig, "early", &[PUBLISHED]).await?;
        settle(&rig, "later").await?;
        shows(&rig, "foreign", &[PUBLISHED]).await?;
        shows(&rig, "unknown", &[]).await?;
        answered(&kubeng, "unknown.example", 404, "").await?;
        answered(&kubeng, "foreign.example", 404, "").await?;

        // Who leaves our class loses what we wrote; what was written since stays.
        rig.put(&ingress("kept", "kept.example", "web")).await?;
        shows(&rig, "kept", &[PUBLISHED]).await?;
        rig.put(&ingress_of("other", "late", "late.example", "web")).await?;
        shows(&rig, "late", &[]).await?;
        let class = Patch::Merge(json!({ "spec": { "ingressClassName": "other" } }));
        rig.api::<Ingress>().patch("kept", &PatchParams::default(), &class).await?;
        write_status(&rig, "kept", "192.0.2.99").await?;
        settle(&rig, "last").await?;
        shows(&rig, "kept", &["192.0.2.99"]).await?;

        // A class that goes takes its Ingresses with it, and comes back with them.
        classes.delete("other", &DeleteParams::default()).await?;
        settle(&rig, "final").await?;
        shows(&rig, "kept", &["192.0.2.99"]).await?;

        let refused = kubeng.log().into_iter().filter(|line| line.contains("status not written"));
        assert_eq!(refused.collect::<Vec<_>>(), Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn statuses_show_the_addresses_of_the_publish_service_and_follow_them() {
    inside(async |rig| {
        let mut front = service("front");
        if let Some(spec) = &mut front.spec {
            spec.type_ = Some("LoadBalancer".into());
        }
        rig.put(&front).await?;
        rig.put(&ingress("web", "web.example", "web")).await?;
        let make = || rig.launch_without_address().arg("--publish-service").arg("shop/front");
        let kubeng = Launch::start_until_ready(make, WITHIN).await?;
        let balancer = async |entries: serde_json::Value| {
            let status =
                Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": entries } } }));
            let params = PatchParams::default();
            rig.api::<Service>().patch_status("front", &params, &status).await
        };
        balancer(json!([{ "ip": "192.0.2.20" }, { "ip": "192.0.2.10" }])).await?;
        shows(&rig, "web", &["192.0.2.10", "192.0.2.20"]).await?;
        balancer(json!([{ "hostname": "lb.example" }])).await?;
        shows(&rig, "web", &["lb.example"]).await?;

        // One that has no address says nothing about the Ingresses, and nothing is taken back
        // at the end.
        balancer(json!(null)).await?;
        rig.put(&ingress("late", "late.example", "web")).await?;
        answered(&kubeng, "late.example", 503, "").await?;
        drop(kubeng);
        shows(&rig, "web", &["lb.example"]).await?;
        shows(&rig, "late", &[]).await
    });
}

#[test]
fn every_ingress_is_told_once_what_became_of_it() {
    inside(async |rig| {
        rig.put(&service("web")).await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        let kubeng = rig.kubeng().await?;
        let reasons = async |ingress: &str| {
            let told = rig.told(ingress).await?;
            let mut reasons: Vec<String> = told.into_iter().map(|(reason, _)| reason).collect();
            reasons.sort_unstable();
            anyhow::Ok(reasons)
        };
        let told = async |ingress: &str, wanted: &[&str]| {
            let told = eventually(async || reasons(ingress).await, |told| told == wanted).await;
            told.map_err(|error| error.context(format!("{ingress}\n{}", log(&kubeng))))
        };
        rig.put(&ingress("fine", "fine.example", "web")).await?;
        told("fine", &["Accepted"]).await?;
        rig.put(&ingress("twin", "fine.example", "web")).await?;
        told("twin", &["Accepted", "Shadowed"]).await?;
        let (_, note) = rig.told("twin").await?.into_iter().find(|(r, _)| r == "Shadowed").unwrap();
        assert!(note.contains("fine"), "it does not say by whom: {note}");

        rig.put(&ingress("lame", "lame.example", "missing")).await?;
        told("lame", &["Accepted", "Degraded"]).await?;
        let (_, note) = rig.told("lame").await?.into_iter().find(|(r, _)| r == "Degraded").unwrap();
        assert!(note.contains("/spec/rules/0") && note.contains("missing"), "{note}");
        rig.put(&service("missing")).await?;
        told("lame", &["Accepted", "Accepted", "Degraded"]).await?;

        // Started again, it tells nobody again.
        drop(kubeng);
        let kubeng = rig.kubeng().await?;
        rig.put(&ingress("next", "next.example", "web")).await?;
        let next = eventually(async || reasons("next").await, |told| told == &["Accepted"]).await;
        next.map_err(|error| error.context(log(&kubeng)))?;
        assert_eq!(reasons("fine").await?, ["Accepted"]);
        assert_eq!(reasons("lame").await?, ["Accepted", "Accepted", "Degraded"]);
        assert_eq!(reasons("twin").await?, ["Accepted", "Shadowed"]);
        Ok(())
    });
}
