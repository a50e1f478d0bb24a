//! Where changes are written: a folder of manifests, or an API server.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::manifest::{self, Folder};

/// Which backend is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Color {
    Red,
    Blue,
}

/// How much there is, and what answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) routes: usize,
    pub(crate) red: SocketAddr,
    pub(crate) blue: SocketAddr,
}

/// Something to write Ingresses, Services and EndpointSlices to.
#[derive(Clone)]
pub(crate) struct Store {
    place: Place,
    to: To,
}

#[derive(Clone)]
enum To {
    Folder(Folder),
    Cluster(Client),
}

impl Color {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Blue => "blue",
        }
    }
}

impl Store {
    pub(crate) fn folder(path: &Path, place: Place) -> Self {
        Self { place, to: To::Folder(Folder::new(path)) }
    }

    pub(crate) fn cluster(client: Client, place: Place) -> Self {
        Self { place, to: To::Cluster(client) }
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Writes all that is there from the beginning, the Ingresses pointing at red.
    pub(crate) async fn fill(&self) -> Result<()> {
        let Place { routes, red, blue } = self.place;
        for namespace in 0..=namespace_of(routes - 1) {
            let namespace = namespace_name(namespace);
            if let To::Cluster(client) = &self.to {
                let api: Api<Namespace> = Api::all(client.clone());
                let value = json!({ "metadata": { "name": namespace } });
                apply(&api, &namespace, value).await?;
            }
            for (color, address) in [(Color::Red, red), (Color::Blue, blue)] {
                self.write_service(&namespace, color.name(), &[(address, true)]).await?;
            }
        }
        for name in (0..CHURN_SERVICES).map(churn_name) {
            let namespace = namespace_name(0);
            self.write_service(&namespace, &name, &self.churn_endpoints(0)).await?;
            // Endpoints that no route needs would not reach a replica.
            self.write_ingress(&namespace, &name, &format!("{name}.example.com"), &name).await?;
        }
        let mut writes = JoinSet::new();
        for number in 0..routes {
            let store = self.clone();
            writes.spawn(async move { store.point(number, Color::Red).await });
            if writes.len() >= WRITES_MAX
                && let Some(done) = writes.join_next().await
            {
                done??;
            }
        }
        while let Some(done) = writes.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Points the Ingress with this number at a backend.
    pub(crate) async fn point(&self, number: usize, color: Color) -> Result<()> {
        let namespace = namespace_name(namespace_of(number));
        let name = format!("app-{number}");
        self.write_ingress(&namespace, &name, &host(number), color.name()).await
    }

    /// Writes an Ingress for one more host.
    pub(crate) async fn add(&self, name: &str, host: &str, color: Color) -> Result<()> {
        self.write_ingress(&namespace_name(0), name, host, color.name()).await
    }

    /// Makes the event with this number of a steady churn: routes and endpoints by turns.
    ///
    /// It keeps away from the first routes, which others change and watch.
    pub(crate) async fn churn(&self, number: usize) -> Result<()> {
        let (number, is_route) = (number / 2, number.is_multiple_of(2));
        let turn = number / CHURN_SERVICES + 1;
        let of_turn = number % CHURN_SERVICES;
        if is_route {
            let color = if turn.is_multiple_of(2) { Color::Red } else { Color::Blue };
            return self.point(self.place.routes - 1 - of_turn, color).await;
        }
        let endpoints = self.churn_endpoints(turn);
        self.write_slice(&namespace_name(0), &churn_name(of_turn), &endpoints).await
    }

    /// Two endpoints, of which one is ready.
    fn churn_endpoints(&self, turn: usize) -> [(SocketAddr, bool); 2] {
        let Place { routes: _, red, blue } = self.place;
        let is_even = turn.is_multiple_of(2);
        // A slice has one port for all of its endpoints; nobody asks for these.
        [(red, is_even), ((blue.ip(), red.port()).into(), !is_even)]
    }

    async fn write_service(
        &self,
        namespace: &str,
        name: &str,
        endpoints: &[(SocketAddr, bool)],
    ) -> Result<()> {
        match &self.to {
            To::Folder(folder) => {
                let text = manifest::service(namespace, name);
                folder.save(&format!("{namespace}/service-{name}.yaml"), &text)?;
            }
            To::Cluster(client) => {
                let api: Api<Service> = Api::namespaced(client.clone(), namespace);
                let ports = json!([{ "name": "http", "port": 80, "targetPort": 8080 }]);
                let value = json!({ "metadata": { "name": name }, "spec": { "ports": ports } });
                apply(&api, name, value).await?;
            }
        }
        self.write_slice(namespace, name, endpoints).await
    }

    async fn write_slice(
        &self,
        namespace: &str,
        name: &str,
        endpoints: &[(SocketAddr, bool)],
    ) -> Result<()> {
        match &self.to {
            To::Folder(folder) => {
                let text = manifest::slice(namespace, name, name, endpoints);
                folder.save(&format!("{namespace}/slice-{name}.yaml"), &text)?;
            }
            To::Cluster(client) => {
                let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
                let port = endpoints.first().map(|(address, _)| address.port());
                let endpoints = endpoints.iter().map(|(address, is_ready)| {
                    json!({ "addresses": [address.ip()], "conditions": { "ready": is_ready } })
                });
                let value = json!({
                    "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
                    "addressType": "IPv4",
                    "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
                    "endpoints": endpoints.collect::<Vec<_>>(),
                });
                apply(&api, name, value).await?;
            }
        }
        Ok(())
    }

    async fn write_ingress(
        &self,
        namespace: &str,
        name: &str,
        host: &str,
        service: &str,
    ) -> Result<()> {
        match &self.to {
            To::Folder(folder) => {
                let paths = [("/".to_owned(), service)];
                let text = manifest::ingress(namespace, name, host, &paths, None);
                folder.save(&format!("{namespace}/{name}.yaml"), &text)?;
            }
            To::Cluster(client) => {
                let api: Api<Ingress> = Api::namespaced(client.clone(), namespace);
                let backend = json!({ "service": { "name": service, "port": { "name": "http" } } });
                let paths = json!([{ "path": "/", "pathType": "Prefix", "backend": backend }]);
                let rules = json!([{ "host": host, "http": { "paths": paths } }]);
                let spec = json!({ "ingressClassName": "kubeng", "rules": rules });
                let value = json!({ "metadata": { "name": name }, "spec": spec });
                apply(&api, name, value).await?;
            }
        }
        Ok(())
    }
}

/// The host of the Ingress with this number.
pub(crate) fn host(number: usize) -> String {
    format!("app-{number}.apps.example.com")
}

fn namespace_of(number: usize) -> usize {
    number / 100
}

fn namespace_name(number: usize) -> String {
    format!("team-{number}")
}

fn churn_name(number: usize) -> String {
    format!("churn-{number}")
}

/// Makes the object be as `value` says, whether it is there or not.
async fn apply<K>(api: &Api<K>, name: &str, mut value: Value) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    api.patch(name, &PatchParams::apply("kubeng-benches").force(), &Patch::Apply(&value)).await?;
    Ok(())
}

/// How many Services have endpoints that change only for the sake of churn.
const CHURN_SERVICES: usize = 50;
const WRITES_MAX: usize = 8;
