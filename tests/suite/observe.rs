//! What the product tells about requests: settings, log files, the admin listener.

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;
use kubeng_harness::process::Kubeng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{SOON, get, ingress, launch, serve_with, service};

async fn manifests() -> (Backend, Vec<(&'static str, String)>) {
    let web = Backend::start("web").await.unwrap();
    let text =
        service("web", &[&web]) + &ingress("web", "web.example.com", &[("/", "Prefix", "web")]);
    (web, vec![("a.yaml", text)])
}

async fn until<T, F: Future<Output = Option<T>>>(mut found: impl FnMut() -> F) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < end, "it never came");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn lines(path: &Path, count: usize) -> Vec<String> {
    until(|| async {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        (lines.len() == count).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn a_log_file_that_was_moved_is_opened_again_on_sighup() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, moved) = (scratch.path().join("access.log"), scratch.path().join("moved.log"));
    let settings = scratch.path().join("kubeng.toml");
    let text = "access-log-format = \"$request_method $uri $status\"\n";
    std::fs::write(&settings, text).unwrap();
    let (_web, files) = manifests().await;
    let make = || launch().arg("--settings").arg(&settings).arg("--access-log").arg(&path);
    let (mut kubeng, _folder) = serve_with(make, &files).await;
    get(&kubeng, "web.example.com", "/before?x=1").await;
    assert_eq!(lines(&path, 1).await, ["GET /before 200"]);
    std::fs::rename(&path, &moved).unwrap();
    let pid = Pid::from_raw(kubeng.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until(|| async { path.exists().then_some(()) }).await;
    get(&kubeng, "web.example.com", "/behind").await;
    get(&kubeng, "none.example.com", "/").await;
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    assert_eq!(lines(&path, 2).await, ["GET /behind 200", "GET / 404"]);
    assert_eq!(lines(&moved, 1).await, ["GET /before 200"]);
}

#[tokio::test]
async fn a_format_that_cannot_be_used_stops_the_start() {
    let arguments = ["--access-log", "--access-log-format", "$remote_adr"];
    let launch = arguments.iter().fold(launch(), kubeng_harness::process::Launch::arg);
    let mut kubeng = launch.start().unwrap();
    let status = kubeng.wait_for_end(SOON).await.unwrap();
    assert_eq!(status.code(), Some(2));
    let line = kubeng.wait_for_line(SOON, |line| line.contains("$remote_addr is")).await;
    assert!(line.unwrap().contains("access-log-format"));
}

async fn ask(kubeng: &Kubeng, path: &str) -> (u16, Value) {
    let answer = kubeng.admin(path).await.unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
}

/// The recent requests as soon as there are `count`.
async fn recorded(kubeng: &Kubeng, count: usize) -> Value {
    until(|| async {
        let (status, found) = ask(kubeng, "/api/v1/requests?since=5m&limit=10").await;
        assert_eq!(status, 200);
        (found["requests"].as_array().unwrap().len() == count).then_some(found)
    })
    .await
}

#[tokio::test]
async fn recent_requests_keys_and_last_hits_can_be_asked_for() {
    let (_web, files) = manifests().await;
    let (kubeng, _folder) = serve_with(launch, &files).await;
    let routes = "/api/v1/routes";
    assert_eq!(ask(&kubeng, routes).await.1["routes"][0]["lastHit"], Value::Null);
    for _ in 0..3 {
        get(&kubeng, "web.example.com", "/x?token=1").await;
    }
    recorded(&kubeng, 3).await;
    // Only now: the order is that of their ends, which clients of several workers do not see.
    get(&kubeng, "none.example.com", "/").await;
    let found = recorded(&kubeng, 4).await;
    assert!(!found.to_string().contains("token"), "{found}");
    assert_eq!(found["requests"][0]["reason"], "no_route");
    for (query, count) in [
        ("status=2xx", 3),
        ("status=404", 1),
        ("host=Web.Example.com", 3),
        ("namespace=shop", 3),
        ("namespace=fin", 0),
        ("until=1h", 0),
        ("limit=2", 2),
    ] {
        let (_, found) = ask(&kubeng, &format!("/api/v1/requests?{query}")).await;
        assert_eq!(found["requests"].as_array().unwrap().len(), count, "{query}: {found}");
    }
    let (status, problem) = ask(&kubeng, "/api/v1/requests?status=ok").await;
    assert_eq!((status, &problem["type"]), (400, &"/problems/malformed".into()));
    let (_, keys) = ask(&kubeng, "/api/v1/request-keys?host=web.example.com").await;
    assert_eq!(keys["keys"][0]["path"], "/x", "{keys}");
    assert_eq!(keys["keys"][0]["count"], 3, "{keys}");
    let hit = ask(&kubeng, routes).await.1["routes"][0]["lastHit"].clone();
    assert!(hit.as_str().is_some_and(|hit| hit.ends_with('Z')), "{hit}");
}

#[tokio::test]
async fn debug_headers_need_the_secret_of_the_file() {
    let scratch = tempfile::tempdir().unwrap();
    let secret = scratch.path().join("secret");
    std::fs::write(&secret, "a-secret-of-the-test\n").unwrap();
    let (_web, files) = manifests().await;
    let make = || launch().arg("--debug-secret-file").arg(&secret);
    let (kubeng, _folder) = serve_with(make, &files).await;
    let route = |given: &'static str| {
        let http = kubeng.http;
        async move {
            let request = Request::get("/").header("host", "web.example.com");
            let request =
                request.header("x-kubeng-debug", "1").header("x-kubeng-debug-secret", given);
            let answer =
                Client::plain(http).send(request.body(Bytes::new()).unwrap()).await.unwrap();
            answer.headers.get("x-kubeng-route").map(|route| route.to_str().unwrap().to_owned())
        }
    };
    let expected = "Ingress/shop/web#web.example.com/";
    assert_eq!(route("a-secret-of-the-test").await.as_deref(), Some(expected));
    assert_eq!(route("a-guess-of-the-test").await, None);
}
