//! Writes one status: a JSON Merge Patch (RFC 7386) that fails if the Ingress has changed meanwhile.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::Ingress as ForeignIngress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use kubeng_config::name::ObjectKey;
use serde_json::{Value, json};

use super::plan::Wish;
use crate::cluster::{ANSWER_WITHIN, Access, AskError, FIELD_MANAGER};
use crate::judged::Judged;
use crate::kind::Body;
use crate::kind::ingress::Ingress;

/// Writes statuses of Ingresses.
pub(crate) struct Writer {
    access: Access,
}

/// What a write came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the status shows.
    pub(crate) shows: Vec<String>,
    pub(crate) was_written: bool,
}

/// Whom an error is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blame {
    /// This Ingress; others may go well.
    Ingress,
    /// The server, or our rights: others would fail, too.
    Server,
}

/// Whom `error` is about. What conflicts twice changes faster than it can be written.
pub(crate) fn blame(error: &AskError) -> Blame {
    match error.code() {
        Some(409 | 422) => Blame::Ingress,
        Some(_) | None => Blame::Server,
    }
}

impl Writer {
    pub(crate) fn new(access: Access) -> Self {
        Self { access }
    }

    /// Makes the status of `ingress` so as `wish` wants it.
    pub(crate) async fn write(
        &self,
        ingress: &Judged<'_>,
        wish: &Wish,
    ) -> Result<Outcome, AskError> {
        let unwritten = |shows| Ok(Outcome { shows, was_written: false });
        let written = match wish {
            Wish::Leave => unwritten(ingress.object.status_addresses.clone()),
            Wish::Show(addresses) => self.show(ingress, addresses).await,
            Wish::Clear { ours } => self.clear(ingress, ours).await,
        };
        match written {
            // It is gone; the watch says so, too.
            Err(error) if error.code() == Some(404) => unwritten(Vec::new()),
            outcome => outcome,
        }
    }

    async fn show(
        &self,
        ingress: &Judged<'_>,
        addresses: &[String],
    ) -> Result<Outcome, AskError> {
        match self.patch(ingress.key, ingress.version, addresses).await {
            Err(error) if error.code() == Some(409) => {}
            outcome => return outcome,
        }
        let live = self.live(ingress.key).await?;
        let shows = Ingress::status_addresses(&live);
        if shows == *addresses || !has_same_class(ingress, &live) {
            return Ok(Outcome { shows, was_written: false });
        }
        self.patch(ingress.key, version_of(&live), addresses).await
    }

    async fn clear(&self, ingress: &Judged<'_>, ours: &[String]) -> Result<Outcome, AskError> {
        let live = self.live(ingress.key).await?;
        let shows = Ingress::status_addresses(&live);
        if shows != *ours || !has_same_class(ingress, &live) || !was_written_by_us(&live) {
            // Nothing to do as long as it stays as it is.
            return Ok(Outcome { shows: Vec::new(), was_written: false });
        }
        self.patch(ingress.key, version_of(&live), &[]).await
    }

    async fn live(&self, key: &ObjectKey) -> Result<ForeignIngress, AskError> {
        let get = |client| async move { ingresses(client, key).get(&key.name).await };
        self.access.ask(ANSWER_WITHIN, get).await
    }

    /// Fails with 409 when the Ingress is not of this version any more.
    async fn patch(
        &self,
        key: &ObjectKey,
        version: &str,
        addresses: &[String],
    ) -> Result<Outcome, AskError> {
        let manager = Some(FIELD_MANAGER.into());
        let params = PatchParams { field_manager: manager, ..PatchParams::default() };
        let body = Patch::Merge(body(version, addresses));
        let patch = |client| async move {
            ingresses(client, key).patch_status(&key.name, &params, &body).await
        };
        self.access.ask(ANSWER_WITHIN, patch).await?;
        Ok(Outcome { shows: addresses.to_vec(), was_written: true })
    }
}

fn ingresses(client: Client, key: &ObjectKey) -> Api<ForeignIngress> {
    Api::namespaced(client, &key.namespace)
}

fn body(version: &str, addresses: &[String]) -> Value {
    let entries: Vec<Value> = addresses
        .iter()
        .map(|address| match address.parse::<IpAddr>() {
            Ok(_) => json!({ "ip": address }),
            Err(_) => json!({ "hostname": address }),
        })
        .collect();
    let entries = if entries.is_empty() { Value::Null } else { Value::Array(entries) };
    json!({
        "metadata": { "resourceVersion": version },
        "status": { "loadBalancer": { "ingress": entries } },
    })
}

/// Whether the class, on which it depends whose it is, is still as it was judged.
fn has_same_class(ingress: &Judged<'_>, live: &ForeignIngress) -> bool {
    match &ingress.object.body {
        Body::Ingress(judged) => {
            let live = Ingress::decode(live.clone());
            live.class == judged.class && live.class_annotation == judged.class_annotation
        }
        Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::Upstream(_) => false,
    }
}

/// Whether the addresses in the status were last written with our name.
fn was_written_by_us(live: &ForeignIngress) -> bool {
    let entries = live.metadata.managed_fields.as_deref().unwrap_or_default();
    let owners: Vec<&ManagedFieldsEntry> =
        entries.iter().filter(|entry| owns_addresses(entry)).collect();
    // A field that two have written with one value belongs to both.
    !owners.is_empty() && owners.iter().all(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

fn owns_addresses(entry: &ManagedFieldsEntry) -> bool {
    entry.subresource.as_deref() == Some("status")
        && entry.fields_v1.as_ref().is_some_and(|fields| {
            fields.0.pointer("/f:status/f:loadBalancer/f:ingress").is_some()
        })
}

fn version_of(live: &ForeignIngress) -> &str {
    live.metadata.resource_version.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(managers: &[(&str, &str, Value)]) -> ForeignIngress {
        let entries: Vec<Value> = managers
            .iter()
            .map(|(manager, subresource, fields)| {
                json!({ "manager": manager, "subresource": subresource, "fieldsV1": fields })
            })
            .collect();
        serde_json::from_value(json!({ "metadata": { "managedFields": entries } })).unwrap()
    }

    #[test]
    fn only_addresses_that_nobody_but_us_has_written_are_ours() {
        let addresses = || json!({ "f:status": { "f:loadBalancer": { "f:ingress": {} } } });
        let spec = json!({ "f:spec": { "f:rules": {} } });
        for (managers, expected) in [
            (vec![], false),
            (vec![("kubectl", "", spec.clone())], false),
            (vec![("kubectl", "", spec), ("kubeng", "status", addresses())], true),
            (vec![("other", "status", addresses())], false),
            (vec![("kubeng", "status", addresses()), ("other", "status", addresses())], false),
            (vec![("kubeng", "status", json!({ "f:status": {} }))], false),
        ] {
            assert_eq!(was_written_by_us(&live(&managers)), expected, "{managers:?}");
        }
    }

    #[test]
    fn a_patch_names_the_version_and_each_address_by_its_kind() {
        let addresses = ["10.0.0.1".into(), "2001:db8::1".into(), "lb.example".into()];
        let expected = json!({
            "metadata": { "resourceVersion": "7" },
            "status": { "loadBalancer": { "ingress": [
                { "ip": "10.0.0.1" }, { "ip": "2001:db8::1" }, { "hostname": "lb.example" },
            ] } },
        });
        assert_eq!(body("7", &addresses), expected);
        // In a merge patch null removes.
        assert_eq!(body("7", &[])["status"]["loadBalancer"]["ingress"], Value::Null);
    }
}
