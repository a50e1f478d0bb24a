//! A control plane with Kubeng's rights and kinds, backends, and ways to look at both.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use kubeng_harness::backend::{Backend, canned};
use kubeng_harness::client::Client as HttpClient;
use kubeng_harness::cluster::Cluster;
use kubeng_harness::process::{Kubeng, Launch};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::objects::{NAMESPACE, PORT};

/// A control plane on which `deploy/` was applied.
pub(super) struct Rig {
    pub(super) cluster: Cluster,
    /// The administrator.
    pub(super) client: Client,
    /// The kubeconfig of the ServiceAccount of `deploy/rbac.yaml`.
    pub(super) account: PathBuf,
}

impl Rig {
    pub(super) async fn start(kubebox: &Path) -> Result<Self> {
        // An error says that a test of this process was here before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::start(kubebox).await?;
        for file in ["rbac.yaml", "crds", "ingressclass.yaml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
            let path = path.to_str().context("a path that is no text")?;
            cluster.kubectl(&["apply", "-f", path], "").await?;
        }
        cluster.kubectl(&["create", "namespace", NAMESPACE], "").await?;
        let account = cluster.kubeconfig_of("kubeng", "kubeng").await?;
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        Ok(Self { cluster, client, account })
    }

    /// Kubeng as it runs in a cluster.
    pub(super) fn launch(&self) -> Launch {
        self.launch_without_address().arg("--publish-address").arg(PUBLISHED)
    }

    /// The same, with no address to publish.
    pub(super) fn launch_without_address(&self) -> Launch {
        Launch::new(env!("CARGO_BIN_EXE_kubeng"))
            .bare()
            .arg("--kubernetes")
            .arg("--kubeconfig")
            .arg(&self.account)
    }

    /// Kubeng, ready.
    pub(super) async fn kubeng(&self) -> Result<Kubeng> {
        Launch::start_until_ready(|| self.launch(), WITHIN).await
    }

    /// Writes an object, whether it exists or not.
    pub(super) async fn put<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let params = PatchParams::apply("suite").force();
        let mut object = serde_json::to_value(object)?;
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        let name = object["metadata"]["name"].as_str().context("an object without a name")?;
        Ok(self.api::<K>().patch(name, &params, &Patch::Apply(&object)).await?)
    }

    pub(super) async fn delete<K>(&self, object: &K) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>().delete(&object.name_any(), &DeleteParams::default()).await?;
        Ok(())
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The addresses in the status of an Ingress.
    pub(super) async fn shown(&self, ingress: &str) -> Result<Vec<String>> {
        let live: Value = serde_json::to_value(self.api::<Ingress>().get(ingress).await?)?;
        let entries = live.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        let text = |entry: &Value| {
            let address = entry.get("ip").or_else(|| entry.get("hostname"));
            address.and_then(Value::as_str).map(str::to_owned)
        };
        Ok(entries.into_iter().flatten().filter_map(text).collect())
    }

    /// Reason and note of all Events about an Ingress.
    pub(super) async fn told(&self, ingress: &str) -> Result<Vec<(String, String)>> {
        let events = self.api::<Event>().list(&ListParams::default()).await?;
        let is_about = |event: &Event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|object| object.name.as_deref() == Some(ingress))
        };
        let told = events.items.into_iter().filter(is_about);
        Ok(told
            .map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default()))
            .collect())
    }
}

/// A backend at an address of the namespace.
pub(super) async fn backend(name: &str, address: &str) -> Result<Backend> {
    let address = SocketAddr::new(address.parse()?, PORT);
    Backend::start_with(name, address, canned).await
}

/// Status and backend of one request, over a connection of its own.
pub(super) async fn answer(kubeng: &Kubeng, host: &str) -> Result<(u16, Option<String>)> {
    let answer = HttpClient::plain(kubeng.http).get(host, "/").await?;
    Ok((answer.status.as_u16(), answer.backend().map(str::to_owned)))
}

/// Waits until a request for `host` is answered so.
pub(super) async fn answered(kubeng: &Kubeng, host: &str, status: u16, by: &str) -> Result<()> {
    let wanted = (status, (!by.is_empty()).then(|| by.to_owned()));
    let ask = async || answer(kubeng, host).await;
    let told = eventually(ask, |answer| *answer == wanted).await;
    told.with_context(|| format!("{host} is not answered {wanted:?}\n{}", log(kubeng)))?;
    Ok(())
}

/// Waits until the certificate for `host` is this one.
pub(super) async fn presented(kubeng: &Kubeng, host: &str, certificate: &[u8]) -> Result<()> {
    let ask = async || {
        let mut client = HttpClient::tls(kubeng.https, host)?;
        client.get(host, "/").await?;
        Ok(client.certificate().is_some_and(|leaf| leaf.as_ref() == certificate))
    };
    let told = eventually(ask, |is_it| *is_it).await;
    told.with_context(|| format!("the certificate of {host} is not presented\n{}", log(kubeng)))?;
    Ok(())
}

/// Asks again until the answer is wanted; gives it.
pub(super) async fn eventually<T: Debug>(
    ask: impl AsyncFn() -> Result<T>,
    is_wanted: impl Fn(&T) -> bool,
) -> Result<T> {
    let until = Instant::now() + WITHIN;
    loop {
        let answer = ask().await;
        match answer {
            Ok(answer) if is_wanted(&answer) => return Ok(answer),
            answer if Instant::now() > until => bail!("after {WITHIN:?} it still is {answer:?}"),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The end of its log.
pub(super) fn log(kubeng: &Kubeng) -> String {
    let lines = kubeng.log();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The address that statuses show.
pub(super) const PUBLISHED: &str = "192.0.2.7";

/// The longest wait for anything. Two cores that others use, too, may need much of it.
pub(super) const WITHIN: Duration = Duration::from_secs(40);
