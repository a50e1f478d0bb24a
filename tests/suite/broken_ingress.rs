//! An Ingress of a folder with a mistake in it: it refuses what it means, opens nothing wider, and
//! takes nothing from others.

use std::time::{Duration, Instant};

use kubeng_harness::backend::Backend;
use kubeng_harness::process::Kubeng;

use crate::support::{SOON, get, ingress, save, serve, service, until};

/// Asks for each URL: who answers, or else the status.
async fn check(kubeng: &Kubeng, what: &str, expected: &[(&str, &str)]) {
    for (url, wanted) in expected {
        let (host, path) = url.split_at(url.find('/').unwrap());
        let answer = get(kubeng, host, path).await;
        let status = answer.status.as_u16().to_string();
        assert_eq!(answer.backend().unwrap_or(&status), *wanted, "{what}: {url}");
    }
}

/// Waits until the Problems have all of `words`, or none of them.
async fn problems(kubeng: &Kubeng, words: &[&str], wanted: bool) {
    let began = Instant::now();
    loop {
        let answer = kubeng.admin("/api/v1/problems").await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if words.iter().all(|word| text.contains(word) == wanted) {
            return;
        }
        assert!(began.elapsed() < SOON, "{words:?} {wanted}: the problems are still {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Rules of another Ingress that are wider than what is broken.
fn wider() -> String {
    ingress("any", "", &[("/", "Prefix", "wide")])
        + &ingress("wildcard", "*.example.com", &[("/", "Prefix", "wide")])
        + &ingress("same-host", "shared.example.com", &[("/", "Prefix", "wide")])
}

/// An Ingress `broken` for `/admin` under two hosts, with `right` written as `wrong`.
fn broken(right: &str, wrong: &str) -> String {
    let both = ["shared", "alone"].map(|name| {
        let host = format!("{name}.example.com");
        ingress(&format!("broken-{name}"), &host, &[("/admin", "Prefix", "own")])
    });
    let text = both.concat();
    assert!(text.contains(right), "{right} is not in {text}");
    text.replace(right, wrong)
}

async fn backends() -> (Backend, Backend, String) {
    let own = Backend::start("own").await.unwrap();
    let wide = Backend::start("wide").await.unwrap();
    let text = service("own", &[&own]) + &service("wide", &[&wide]) + &wider();
    (own, wide, text)
}

#[tokio::test]
async fn one_field_of_a_wrong_type_opens_nothing_wider_and_closes_nothing_of_others() {
    let (_own, _wide, others) = backends().await;
    {
        let (kubeng, _folder) = serve(&[("a.yaml", others.clone())]).await;
        check(&kubeng, "without it", &[("shared.example.com/admin", "wide")]).await;
    }
    for (right, wrong, field) in [
        ("pathType: Prefix", "pathType: 7", "/spec/rules/0/http/paths/0/pathType"),
        ("{number: 80}", "{number: x}", "/spec/rules/0/http/paths/0/backend/service/port/number"),
        ("name: own", "name: [own]", "/spec/rules/0/http/paths/0/backend/service/name"),
    ] {
        let files = [("a.yaml", others.clone()), ("b.yaml", broken(right, wrong))];
        let (kubeng, _folder) = serve(&files).await;
        problems(&kubeng, &["KNG-1002", "Ingress/shop/broken-alone", "b.yaml", field], true).await;
        let expected = [
            ("shared.example.com/admin/x", "503"),
            ("alone.example.com/admin", "503"),
            ("shared.example.com/", "wide"),
            ("other.example.com/admin", "wide"),
        ];
        check(&kubeng, wrong, &expected).await;
    }
}

#[tokio::test]
async fn paths_that_cannot_be_read_keep_their_host_from_wider_rules_only() {
    let (_own, _wide, others) = backends().await;
    let text = broken("paths:\n", "paths: 7\n").lines().fold(String::new(), |text, line| {
        // What stood below the paths.
        let is_left_over = line.starts_with("      - ") || line.starts_with("        ");
        if is_left_over { text } else { text + line + "\n" }
    });
    let (kubeng, _folder) = serve(&[("a.yaml", others), ("b.yaml", text)]).await;
    problems(&kubeng, &["KNG-1002", "/spec/rules/0/http/paths", "7 is not a sequence"], true).await;
    let expected = [
        ("alone.example.com/admin", "503"),
        ("alone.example.com/", "503"),
        // Another Ingress has all of this host.
        ("shared.example.com/admin", "wide"),
        ("other.example.com/", "wide"),
    ];
    check(&kubeng, "paths: 7", &expected).await;
}

#[tokio::test]
async fn an_ingress_in_an_old_version_refuses_what_it_means_until_it_is_mended() {
    let (_own, _wide, others) = backends().await;
    let right = broken("pathType", "pathType");
    let old = right
        .replace("networking.k8s.io/v1", "extensions/v1beta1")
        .replace("service: {name: own, port: {number: 80}}", "serviceName: own, servicePort: 80");
    let (kubeng, folder) = serve(&[("a.yaml", others), ("b.yaml", old.clone())]).await;
    let words = ["KNG-1005", "extensions/v1beta1", "networking.k8s.io/v1", "b.yaml", "\"line\":1"];
    problems(&kubeng, &words, true).await;
    let expected = [
        ("shared.example.com/admin/x", "503"),
        ("alone.example.com/admin", "503"),
        ("shared.example.com/", "wide"),
        ("other.example.com/admin", "wide"),
    ];
    check(&kubeng, "old", &expected).await;
    save(folder.path(), "b.yaml", &right);
    until(&kubeng, "alone.example.com", "/admin", |answer| answer.backend() == Some("own")).await;
    problems(&kubeng, &["KNG-1005"], false).await;
    // What was known goes on.
    save(folder.path(), "b.yaml", &old);
    problems(&kubeng, &["KNG-1005"], true).await;
    let known = [("shared.example.com/admin", "own"), ("alone.example.com/admin", "own")];
    check(&kubeng, "known before", &known).await;
}
