//! The commands that look at manifests, where those describe fleets; and what they say of endpoints.

use std::path::Path;

use kubeng_harness::process::Launch;

use crate::commands::check;
use crate::controller::{Controller, fleet};
use crate::support::{SOON, ingress, launch, save};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                       spec:\n  ports:\n  - {name: http, port: 80}\n---\n";

/// An Ingress of a class, whose host has the name of the Ingress.
fn of_class(name: &str, class: &str) -> String {
    let text = ingress(name, &format!("{name}.example.com"), &[("/", "Prefix", "web")]);
    text.replace("ingressClassName: kubeng", &format!("ingressClassName: {class}"))
}

fn slice(addresses: &[&str]) -> String {
    let endpoints = addresses.iter().map(|address| format!("- addresses: [{address}]\n"));
    let endpoints: String = endpoints.collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata:\n  name: web-1\n  namespace: shop\n\
         \x20 labels: {{kubernetes.io/service-name: web}}\n\
         addressType: IPv4\nports:\n- {{name: http, port: 8080}}\n\
         endpoints:\n{endpoints}---\n"
    )
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        save(folder.path(), name, text);
    }
    folder
}

fn path(folder: &tempfile::TempDir) -> &str {
    folder.path().to_str().unwrap()
}

fn two_fleets() -> String {
    SERVICE.to_owned()
        + &(fleet("one", "first", 80) + &fleet("two", "second", 81))
        + &(of_class("a", "first") + &of_class("b", "second"))
}

#[test]
fn validate_checks_what_every_fleet_serves_and_what_none_does() {
    let broken = of_class("c", "kubeng").replace("name: web,", "name: nobody,");
    let main = include_str!("../../deploy/kubernetes/fleet.yaml");
    let text = format!("{main}---\n{broken}");
    let one = folder(&[("a.yaml", &text)]);
    check(&["validate", path(&one)], 1, &["KNG-1101", "nobody", "1 routes, 1 errors"]);
    let two = folder(&[("a.yaml", &two_fleets())]);
    let words = ["fleet one: 1 routes", "fleet two: 1 routes", "2 routes, 0 errors, 0 warnings"];
    check(&["validate", path(&two)], 0, &words);
    check(&["validate", path(&two), "--fleet", "two"], 0, &["1 routes, 0 errors"]);
    let class = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: third}\n\
                 spec: {controller: kubeng.io/ingress-controller}\n---\n";
    save(two.path(), "third.yaml", &(class.to_owned() + &of_class("d", "third")));
    check(&["validate", path(&two)], 1, &["KNG-1111", "class \"third\" belongs to no fleet"]);
    // Without --fleet `kubeng run` would serve that one.
    let at_home = ["validate", path(&two), "--fleet", "default", "--allow-warnings"];
    check(&at_home, 0, &["KNG-1113", "1 routes, 0 errors"]);
}

#[test]
fn the_only_fleet_is_looked_at_and_of_several_one_has_to_be_named() {
    let main = include_str!("../../deploy/kubernetes/fleet.yaml");
    let text = format!("{main}---\n{SERVICE}{}", of_class("a", "kubeng"));
    let one = folder(&[("a.yaml", &text)]);
    let two = folder(&[("a.yaml", &two_fleets())]);
    let request = "GET http://a.example.com/";
    check(&["explain", "--manifests", path(&one), request], 0, &["Ingress/shop/a", "a.yaml:"]);
    check(&["export", "--manifests", path(&one)], 0, &["fleet: main", "Ingress/shop/a#"]);
    check(&["diff", path(&one), path(&one)], 0, &["0 parts differ"]);
    for arguments in [
        &["explain", "--manifests", path(&two), request][..],
        &["export", "--manifests", path(&two)],
        &["diff", path(&two), path(&two)],
    ] {
        check(arguments, 2, &["--fleet NAME: one, two"]);
        let unknown = [arguments, &["--fleet", "three"]].concat();
        check(&unknown, 2, &["no Fleet \"three\"; there is one, two"]);
        check(&[arguments, &["--fleet", "one"]].concat(), 0, &[]);
        let without_effect = [arguments, &["--fleet", "one", "--without-class"]].concat();
        check(&without_effect, 2, &["--without-class has no effect"]);
    }
    let of = |fleet| ["explain", "--manifests", path(&two), "--fleet", fleet, request];
    check(&of("one"), 0, &["Ingress/shop/a"]);
    check(&of("two"), 1, &["404"]);
    // The classes that only Fleets know are not those of the settings.
    check(&of("default"), 1, &["404"]);
}

#[tokio::test]
async fn manifests_are_compared_with_the_same_fleet_of_a_controller() {
    let scratch = tempfile::tempdir().unwrap();
    let manifests = folder(&[("a.yaml", &two_fleets())]);
    let controller = Controller::start(manifests.path(), &scratch.path().join("authority"));
    controller.until("/readyz", |status, _| status == 200).await;
    let both = |_, text: &str| text.contains("\"one\"") && text.contains("\"two\"");
    controller.until("/api/v1/fleets", both).await;
    let admin = format!("http://{}", controller.admin);
    let diff = |folder: &Path, fleet: &[&str], code, words: &[&str]| {
        let sides = ["diff", folder.to_str().unwrap(), &admin];
        check(&[&sides[..], fleet].concat(), code, words)
    };
    diff(manifests.path(), &[], 2, &["several fleets", "one, two"]);
    diff(manifests.path(), &["--fleet", "one"], 0, &["0 parts differ"]);
    diff(manifests.path(), &["--fleet", "two"], 0, &["0 parts differ"]);
    diff(manifests.path(), &["--fleet", "three"], 2, &["there is no fleet", "one, two"]);
    let edited = folder(&[("a.yaml", &(two_fleets() + &of_class("c", "second")))]);
    diff(edited.path(), &["--fleet", "one"], 0, &["0 parts differ"]);
    diff(edited.path(), &["--fleet", "two"], 1, &["- route Ingress/shop/c#", "1 parts differ"]);
}

#[tokio::test]
async fn manifests_with_a_fleet_are_compared_with_what_a_process_of_settings_makes_of_them() {
    let main = include_str!("../../deploy/kubernetes/fleet.yaml");
    let text = format!("{main}---\n{SERVICE}{}{}", of_class("a", "kubeng"), slice(&["127.0.0.9"]));
    let manifests = folder(&[("a.yaml", &text)]);
    let make = || launch().manifests(manifests.path());
    let kubeng = Launch::start_until_ready(make, SOON).await.unwrap();
    let admin = format!("http://{}", kubeng.admin);
    let same = check(&["diff", path(&manifests), &admin], 0, &["0 parts differ"]);
    assert!(!same.contains("not compared"), "{same}");
    let edited = folder(&[("a.yaml", &text.replace("127.0.0.9", "127.0.0.8"))]);
    let words = ["~ endpoints Service/shop/web:80", "/127.0.0.8:8080: {", "1 parts differ"];
    check(&["diff", path(&edited), &admin], 1, &words);
}

#[test]
fn diff_and_export_tell_the_endpoints_of_manifests() {
    let with = |addresses: &[&str]| {
        let text = SERVICE.to_owned() + &of_class("a", "kubeng") + &slice(addresses);
        folder(&[("a.yaml", &text)])
    };
    let (before, after) = (with(&["10.0.0.1", "10.0.0.2"]), with(&["10.0.0.2", "10.0.0.3"]));
    let words = [
        "~ endpoints Service/shop/web:80",
        "/10.0.0.1:8080: {",
        "/10.0.0.3:8080: null -> {",
        "1 parts differ",
    ];
    let found = check(&["diff", path(&before), path(&after)], 1, &words);
    assert!(!found.contains("10.0.0.2"), "{found}");
    let bare = folder(&[("a.yaml", &(SERVICE.to_owned() + &of_class("a", "kubeng")))]);
    check(&["diff", path(&before), path(&bare)], 1, &["/10.0.0.2:8080: {", "1 parts differ"]);
    let exported = check(&["export", "--manifests", path(&before)], 0, &["10.0.0.1:8080"]);
    let files = folder(&[("before.yaml", &exported)]);
    let exported = files.path().join("before.yaml");
    let exported = exported.to_str().unwrap();
    check(&["diff", exported, path(&before)], 0, &["0 parts differ"]);
    check(&["diff", exported, path(&after)], 1, &["/10.0.0.3:8080: null -> {"]);
    // Manifests without any EndpointSlice are those of a cluster, which makes them itself.
    let words = ["endpoints are not compared", "0 parts differ"];
    check(&["diff", exported, path(&bare)], 0, &words);
}
