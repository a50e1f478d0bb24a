//! The commands, as people and scripts call them.

use std::process::{Command, Output};

use crate::support::{ingress, secret, secret_until};

fn kubeng(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubeng")).args(arguments).env_clear().output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
pub(crate) fn check(arguments: &[&str], code: i32, words: &[&str]) -> String {
    let output = kubeng(arguments);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?} does not say {word:?}\n{text}");
    }
    text
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                       spec:\n  ports:\n  - {port: 80}\n---\n";

fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn good() -> tempfile::TempDir {
    let rules = [("/", "Prefix", "web"), ("/cart", "Exact", "web")];
    let tls = ingress("tls", "tls.example.com", &[("/", "Prefix", "web")])
        .replace("  rules:", "  tls:\n  - {hosts: [tls.example.com], secretName: cert}\n  rules:");
    folder(&[
        ("a.yaml", SERVICE.to_owned() + &ingress("web", "shop.example.com", &rules)),
        ("b.yaml", tls + &secret("cert", "tls.example.com")),
    ])
}

#[test]
fn validate_tells_a_certificate_that_has_ended() {
    let tls = ingress("tls", "tls.example.com", &[("/", "Prefix", "web")])
        .replace("  rules:", "  tls:\n  - {hosts: [tls.example.com], secretName: cert}\n  rules:");
    let ended = folder(&[
        ("a.yaml", SERVICE.to_owned() + &tls),
        ("b.yaml", secret_until("cert", "tls.example.com", 2020)),
    ]);
    let words = ["KNG-1304", "Secret/shop/cert", "2020-01-01", "b.yaml:"];
    check(&["validate", ended.path().to_str().unwrap()], 1, &words);
}

#[test]
fn validate_says_nothing_is_wrong_or_everything_that_is() {
    let good = good();
    check(&["validate", good.path().to_str().unwrap()], 0, &["3 routes, 0 errors"]);
    let bad = folder(&[
        ("a.yaml", SERVICE.to_owned()),
        ("b.yaml", ingress("web", "bad_host!", &[("/", "Prefix", "web")])),
        ("c.yaml", ingress("port", "a.example.com", &[("/", "Prefix", "nobody")])),
        ("d.yaml", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nspec: [\n".into()),
        (
            "e.yaml",
            ingress("field", "e.example.com", &[("/", "Prefix", "web")])
                .replace("  rules:", "  rulez: []\n  rules:"),
        ),
    ]);
    let path = bad.path().to_str().unwrap();
    let text = check(
        &["validate", path],
        1,
        &["KNG-1206", "KNG-1101", "KNG-1004", "KNG-1001", "rulez", "\"rules\"", "d.yaml:"],
    );
    let of_field = text.lines().find(|line| line.contains("KNG-1001")).unwrap();
    assert!(of_field.contains("e.yaml:6:"), "the line of the field: {of_field}");
    let output = kubeng(&["validate", path, "--output", "json"]);
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = problems.as_array().unwrap();
    assert!(problems.len() >= 4, "{problems:?}");
    for problem in problems {
        for field in ["code", "severity", "object", "field", "message", "remedy"] {
            assert!(problem[field].is_string(), "{problem}");
        }
    }
}

#[test]
fn explain_names_the_winner_and_why_others_lost() {
    let folder = good();
    let path = folder.path().to_str().unwrap();
    let explain = |request: &str, code, words: &[&str]| {
        check(&["explain", "--manifests", path, request], code, words)
    };
    explain(
        "GET https://shop.example.com/cart",
        0,
        &["Service/shop/web:80", "= /cart", "lost", "less special", "a.yaml:"],
    );
    explain("GET https://shop.example.com/other", 0, &["path /", "does not take /other"]);
    explain("GET http://unknown.example.com/", 1, &["404"]);
    explain("GET ftp://shop.example.com/", 2, &["neither http:// nor https://"]);
    explain("GET http://shop.example.com/a/../../b", 2, &["400", "above the root"]);
    let json = kubeng(&[
        "explain",
        "--manifests",
        path,
        "--output",
        "json",
        "POST http://shop.example.com/cart",
        "-H",
        "X-Test: 1",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["outcome"]["is"], "forwarded", "{json}");
    assert_eq!(json["route"], "Ingress/shop/web#shop.example.com=/cart");
}

#[test]
fn an_nginx_export_lists_the_servers_that_manifests_name() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, \
                 namespace: shop, labels: {kubernetes.io/service-name: web}}\n\
                 addressType: IPv4\nports:\n- {port: 8080}\nendpoints:\n- addresses: [10.0.0.1]\n\
                 - addresses: [10.0.0.2]\n";
    let manifests = good();
    let export = |wanted: &[&str]| {
        let path = manifests.path().to_str().unwrap();
        check(&["export", "--manifests", path, "--format", "nginx"], 0, wanted);
    };
    export(&["upstream \"Service/shop/web:80\"", "# endpoints are discovered"]);
    std::fs::write(manifests.path().join("c.yaml"), slice).unwrap();
    export(&["    server 10.0.0.1:8080 weight=1;", "    server 10.0.0.2:8080 weight=1;"]);
}

#[test]
fn export_never_shows_a_secret_and_diff_reads_it_back() {
    let before = good();
    let path = before.path().to_str().unwrap();
    let mut exports = Vec::new();
    for format in ["yaml", "json", "nginx"] {
        let output = kubeng(&["export", "--manifests", path, "--format", format]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("shop.example.com"), "{format}");
        assert!(!text.contains("PRIVATE KEY"), "{format}");
        let again = kubeng(&["export", "--manifests", path, "--format", format]);
        assert_eq!(text.as_bytes(), again.stdout, "{format}: the same bytes each time");
        exports.push(text);
    }
    let key = std::fs::read_to_string(before.path().join("b.yaml")).unwrap();
    let line = key.split("PRIVATE KEY-----\n").nth(1).unwrap().lines().next().unwrap().trim();
    assert!(exports.iter().all(|export| !export.contains(line)), "no part of the key");
    let files = folder(&[("a.yaml", exports[0].clone()), ("a.json", exports[1].clone())]);
    for name in ["a.yaml", "a.json"] {
        let exported = files.path().join(name);
        check(&["diff", path, exported.to_str().unwrap()], 0, &["0 parts differ"]);
    }
    let after = folder(&[(
        "a.yaml",
        SERVICE.to_owned() + &ingress("web", "shop.example.com", &[("/", "Prefix", "web")]),
    )]);
    let after = after.path().to_str().unwrap();
    check(
        &["diff", path, after],
        1,
        &["- route Ingress/shop/web#shop.example.com=/cart", "- certificate"],
    );
    let edited = exports[1].replace("shop.example.com", "ship.example.com");
    let files = folder(&[("edited.json", edited)]);
    let edited = files.path().join("edited.json");
    check(&["diff", edited.to_str().unwrap(), path], 2, &["digest"]);
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    check(&["run"], 2, &["--manifests DIR", "--kubernetes"]);
    check(&["run", "--http", "80"], 2, &["--http"]);
    check(&["run", "--manifests", "x", "--admin", "0.0.0.0:1"], 2, &["--admin-exposed"]);
    check(&["run", "--settings", "/does/not/exist"], 2, &["/does/not/exist"]);
    check(&["validate", "/does/not/exist"], 2, &["/does/not/exist"]);
    check(&["explian"], 2, &["explain"]);
    check(&["diff", "http://127.0.0.1:1", "x"], 2, &["http://127.0.0.1:1"]);
}

#[test]
fn completions_and_manual_come_from_the_same_definitions() {
    for shell in ["bash", "zsh", "fish"] {
        check(&["completions", shell], 0, &["manifests", "drain"]);
    }
    check(&["man"], 0, &[".TH kubeng", "validate"]);
    check(&["man", "run"], 0, &["KUBENG_MANIFESTS"]);
    check(&["--version"], 0, &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn a_token_is_one_line_for_a_fleet_of_an_authority_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let create = ["token", "create", "--authority", path, "--fleet", "prod"];
    check(&create, 2, &["holds no authority", "the folder that the controllers share"]);
    kubeng_controller::distribution::authority::Authority::open(folder.path()).unwrap();
    let token = check(&create, 0, &["kng1."]);
    assert_eq!(token.lines().count(), 1, "{token}");
    check(&[&create[..], &["--for", "25h"]].concat(), 2, &["24 hours"]);
    check(&[&create[..], &["--for", "1x"]].concat(), 2, &["30m"]);
    check(&[&create[..], &["--uses", "0"]].concat(), 2, &["1 to 1000"]);
}

#[test]
fn who_stops_to_read_changes_no_exit_code() {
    let bad = folder(&[("a.yaml", ingress("web", "a.example.com", &[("/", "Prefix", "nobody")]))]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_kubeng"))
        .args(["export", "--manifests", bad.path().to_str().unwrap()])
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}
