//! Writes one status: a server-side apply that fails if the Ingress has changed meanwhile.
//!
//! The server knows by it which addresses are ours. So they can be taken back
//! without a look, and what somebody else has written since stays.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::Ingress as ForeignIngress;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::plan::Wish;
use crate::cluster::{ANSWER_WITHIN, Access, AskError, FIELD_MANAGER};
use crate::judged::Judged;
use crate::kind::ingress::Ingress;

/// Writes statuses of Ingresses.
pub(crate) struct Writer {
    access: Access,
}

/// Whom an error is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blame {
    /// It has changed meanwhile; the watch tells how.
    Change,
    /// This Ingress; others may go well.
    Ingress,
    /// The server, or our rights: others would fail, too.
    Server,
}

/// Whom `error` is about.
pub(crate) fn blame(error: &AskError) -> Blame {
    match error.code() {
        Some(404 | 409) => Blame::Change,
        Some(422) => Blame::Ingress,
        Some(_) | None => Blame::Server,
    }
}

impl Writer {
    pub(crate) fn new(access: Access) -> Self {
        Self { access }
    }

    /// Makes the status of `ingress` so as `wish` wants it. Gives what it shows after that.
    pub(crate) async fn write(
        &self,
        ingress: &Judged<'_>,
        wish: &Wish,
    ) -> Result<Vec<String>, AskError> {
        let body = match wish {
            Wish::Leave => return Ok(ingress.object.status_addresses.to_vec()),
            Wish::Show(addresses) => body(&ingress.key.name, ingress.version, addresses),
            Wish::Clear => body(&ingress.key.name, ingress.version, &[]),
        };
        // By force: that the addresses of our Ingresses are ours to write is not disputed.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let key = ingress.key;
        let apply = |client| async move {
            let api: Api<ForeignIngress> = Api::namespaced(client, &key.namespace);
            api.patch_status(&key.name, &params, &Patch::Apply(body)).await
        };
        let live = self.access.ask(ANSWER_WITHIN, apply).await?;
        Ok(Ingress::status_addresses(&live))
    }
}

/// All that is ours in the Ingress; what was ours and is not here goes.
fn body(name: &str, version: &str, addresses: &[String]) -> Value {
    let mut body = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name, "resourceVersion": version },
    });
    if !addresses.is_empty() {
        let entries: Vec<Value> = addresses
            .iter()
            .map(|address| match address.parse::<IpAddr>() {
                Ok(_) => json!({ "ip": address }),
                Err(_) => json!({ "hostname": address }),
            })
            .collect();
        body["status"] = json!({ "loadBalancer": { "ingress": entries } });
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_names_the_version_and_each_address_by_its_kind() {
        let addresses = ["10.0.0.1".into(), "2001:db8::1".into(), "lb.example".into()];
        let written = body("web", "7", &addresses);
        assert_eq!(written["metadata"], json!({ "name": "web", "resourceVersion": "7" }));
        assert_eq!(
            written["status"],
            json!({ "loadBalancer": { "ingress": [
                { "ip": "10.0.0.1" }, { "ip": "2001:db8::1" }, { "hostname": "lb.example" },
            ] } })
        );
        assert!(body("web", "7", &[]).get("status").is_none());
    }
}
