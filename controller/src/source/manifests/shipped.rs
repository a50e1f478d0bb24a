//! The manifests that are shipped: they parse, say what they seem to say, and fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{
    Container, Namespace, PersistentVolumeClaim, PodSpec, PodTemplateSpec, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{IngressClass, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::yaml;

type Labels = BTreeMap<String, String>;

fn deploy(folder: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(folder)
}

/// Every document of the YAML files of a folder, with the name of its file.
fn documents(folder: &str) -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(deploy(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let documents = yaml::read(&text, 1).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        all.extend(documents.into_iter().map(|document| (name.clone(), document.value)));
    }
    assert!(!all.is_empty(), "{folder}");
    all
}

/// Reads a document as what it says it is. A field that nobody knows would be lost on the way.
#[track_caller]
fn typed<T: Serialize + DeserializeOwned>((file, value): &(String, Value)) -> T {
    let typed: T = T::deserialize(value).unwrap_or_else(|error| panic!("{file}: {error}"));
    let written = serde_json::to_value(&typed).unwrap();
    assert!(plain(&written) == plain(value), "{file}: a field of {} is lost", value["kind"]);
    typed
}

/// With numbers of one kind: bounds in schemas are read as fractions.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(all) => all.iter().map(plain).collect(),
        Value::Object(all) => all.iter().map(|(name, it)| (name.clone(), plain(it))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

fn of_kind<T: Serialize + DeserializeOwned>(all: &[(String, Value)], kind: &str) -> Vec<T> {
    all.iter().filter(|(_, value)| value["kind"] == kind).map(typed).collect()
}

#[test]
fn every_shipped_object_has_only_fields_of_its_kind() {
    for folder in ["", "crds", "kubernetes"] {
        for document in &documents(folder) {
            match document.1["kind"].as_str().unwrap_or_default() {
                "Namespace" => drop(typed::<Namespace>(document)),
                "ServiceAccount" => drop(typed::<ServiceAccount>(document)),
                "ClusterRole" => drop(typed::<ClusterRole>(document)),
                "ClusterRoleBinding" => drop(typed::<ClusterRoleBinding>(document)),
                "Role" => drop(typed::<Role>(document)),
                "RoleBinding" => drop(typed::<RoleBinding>(document)),
                "IngressClass" => drop(typed::<IngressClass>(document)),
                "CustomResourceDefinition" => drop(typed::<CustomResourceDefinition>(document)),
                "Deployment" => drop(typed::<Deployment>(document)),
                "DaemonSet" => drop(typed::<DaemonSet>(document)),
                "PersistentVolumeClaim" => drop(typed::<PersistentVolumeClaim>(document)),
                "Service" => drop(typed::<Service>(document)),
                "PodDisruptionBudget" => drop(typed::<PodDisruptionBudget>(document)),
                "NetworkPolicy" => drop(typed::<NetworkPolicy>(document)),
                // Of our own; what may stand in it is for its reader to say.
                "Fleet" => assert_eq!(document.1["spec"]["listeners"].as_array().unwrap().len(), 2),
                other => panic!("{}: nobody looks after the kind {other:?}", document.0),
            }
        }
    }
}

/// What runs: its name, what selects its Pods, and the Pods.
fn workloads(all: &[(String, Value)]) -> Vec<(String, LabelSelector, PodTemplateSpec)> {
    let deployments = of_kind::<Deployment>(all, "Deployment").into_iter().map(|it| {
        let spec = it.spec;
        (it.metadata.name.unwrap(), spec.selector, spec.template)
    });
    let sets = of_kind::<DaemonSet>(all, "DaemonSet").into_iter().map(|it| {
        let spec = it.spec;
        (it.metadata.name.unwrap(), spec.selector, spec.template)
    });
    deployments.chain(sets).collect()
}

fn labels(template: &PodTemplateSpec) -> Labels {
    template.metadata.as_ref().and_then(|it| it.labels.clone()).unwrap_or_default()
}

fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn ports(pod: &PodSpec) -> BTreeSet<String> {
    let ports = pod.containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| port.name.clone()).collect()
}

#[test]
fn what_selects_pods_selects_the_right_ones() {
    let all = documents("kubernetes");
    let workloads = workloads(&all);
    assert_eq!(workloads.len(), 3);
    for (name, selector, template) in &workloads {
        let own = selector.match_labels.clone().unwrap();
        assert!(selects(&own, &labels(template)), "{name} does not select its Pods");
        for (other, _, template) in workloads.iter().filter(|(other, ..)| other != name) {
            assert!(!selects(&own, &labels(template)), "{name} selects Pods of {other}");
        }
    }
    let of = |selector: &Labels| -> &PodTemplateSpec {
        let mut found = workloads.iter().filter(|(.., pod)| selects(selector, &labels(pod)));
        let (Some((.., pod)), None) = (found.next(), found.next()) else {
            panic!("{selector:?} selects not one workload")
        };
        pod
    };
    for service in of_kind::<Service>(&all, "Service") {
        let spec = service.spec.unwrap();
        let there = ports(of(&spec.selector.unwrap()).spec.as_ref().unwrap());
        for port in spec.ports.unwrap() {
            let Some(IntOrString::String(target)) = port.target_port else { panic!("no name") };
            assert!(there.contains(&target), "{target} is no port of the Pods");
        }
    }
    for budget in of_kind::<PodDisruptionBudget>(&all, "PodDisruptionBudget") {
        of(&budget.spec.unwrap().selector.unwrap().match_labels.unwrap());
    }
}

#[track_caller]
fn check_container(name: &str, pod: &PodSpec, container: &Container) {
    let own = container.security_context.as_ref().unwrap();
    assert_eq!(own.allow_privilege_escalation, Some(false), "{name}");
    assert_eq!(own.read_only_root_filesystem, Some(true), "{name}");
    let dropped = own.capabilities.as_ref().and_then(|it| it.drop.clone());
    assert_eq!(dropped, Some(vec!["ALL".to_owned()]), "{name}");
    assert!(own.privileged.is_none(), "{name}");
    let there = ports(pod);
    for probe in [&container.startup_probe, &container.liveness_probe, &container.readiness_probe] {
        let asked = probe.as_ref().and_then(|probe| probe.http_get.as_ref()).unwrap();
        assert!(matches!(&asked.port, IntOrString::String(port) if there.contains(port)), "{name}");
    }
    let ready = container.readiness_probe.as_ref().unwrap().http_get.as_ref().unwrap();
    assert_eq!(ready.path.as_deref(), Some("/readyz"), "{name}");
    let resources = container.resources.as_ref().unwrap();
    assert!(resources.requests.is_some() && resources.limits.is_some(), "{name}");
    let mounted: BTreeSet<&str> =
        container.volume_mounts.iter().flatten().map(|mount| mount.name.as_str()).collect();
    let volumes: BTreeSet<&str> =
        pod.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    assert_eq!(mounted, volumes, "{name}: volumes and mounts");
    for mount in container.volume_mounts.iter().flatten() {
        let args = container.args.as_ref().unwrap();
        assert!(args.iter().any(|arg| arg.contains(&mount.mount_path)), "{name}: {mount:?}");
    }
}

#[test]
fn pods_have_no_more_rights_than_they_need_and_time_to_drain() {
    let all = documents("kubernetes");
    for (name, _, template) in workloads(&all) {
        let pod = template.spec.unwrap();
        let context = pod.security_context.as_ref().unwrap();
        assert_eq!(context.run_as_non_root, Some(true), "{name}");
        assert_eq!(context.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault", "{name}");
        assert!(pod.host_network.is_none() && pod.host_pid.is_none(), "{name}");
        let asks_api = pod.service_account_name.as_deref() == Some("kubeng");
        assert_eq!(asks_api, name == "kubeng-controller", "only controllers ask the API server");
        assert_eq!(pod.automount_service_account_token, (!asks_api).then_some(false), "{name}");
        let [container] = &pod.containers[..] else { panic!("{name}: one container") };
        check_container(&name, &pod, container);
        let args = container.args.as_ref().unwrap();
        let drain = args.iter().find_map(|arg| arg.strip_prefix("--drain="));
        let drain: i64 = drain.map_or(25, |seconds| seconds.parse().unwrap());
        assert!(pod.termination_grace_period_seconds.unwrap() > drain, "{name}");
    }
}

/// The lines of a unit, without comments.
fn unit(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(deploy("systemd").join(name)).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}: {line}");
        (key.to_owned(), value.to_owned())
    };
    lines.map(pair).collect()
}

#[test]
fn units_are_hardened_alike() {
    let whole = unit("kubeng.service");
    let from = whole.iter().position(|(key, _)| key == "NoNewPrivileges").unwrap();
    let hardening = &whole[from..whole.len() - 1];
    assert!(hardening.len() >= 12, "{hardening:?}");
    for (name, command) in
        [("kubeng-proxy.service", "proxy"), ("kubeng-controller.service", "controller")]
    {
        let lines = unit(name);
        for line in hardening {
            assert!(lines.contains(line), "{name}: {line:?}");
        }
        let value = |wanted: &str| {
            let found: Vec<_> = lines.iter().filter(|(key, _)| key == wanted).collect();
            let [(_, value)] = found[..] else { panic!("{name}: {wanted} {found:?}") };
            value.as_str()
        };
        let start = value("ExecStart");
        assert!(start.starts_with(&format!("/usr/local/bin/kubeng {command} --")), "{start}");
        let state = format!("--data /var/lib/{}", value("StateDirectory"));
        assert!(start.contains(&state), "{name}: {state}");
        assert_eq!((value("Type"), value("NotifyAccess")), ("notify", "main"), "{name}");
        assert_eq!((value("Restart"), value("User")), ("always", "kubeng"), "{name}");
        assert!(value("TimeoutStopSec").parse::<u32>().unwrap() > 25, "{name}");
    }
}
