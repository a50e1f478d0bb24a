//! Stopping: readiness first, requests in flight finish, the whole is bounded.

use std::time::{Duration, Instant};

use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;

use crate::support::{SOON, ingress, launch, serve_with, service};

#[tokio::test]
async fn a_request_in_flight_finishes_and_the_process_ends_when_it_does() {
    let web = Backend::start("web").await.unwrap();
    let files = [
        ("a.yaml", service("web", &[&web])),
        ("b.yaml", ingress("web", "web.example.com", &[("/", "Prefix", "web")])),
    ];
    let (mut kubeng, _folder) = serve_with(|| launch().arg("--drain").arg("20"), &files).await;
    let http = kubeng.http;
    let slow = tokio::task::JoinSet::from_iter([async move {
        Client::plain(http).get("web.example.com", "/?after=1500").await
    }]);
    let began = Instant::now();
    while web.requests() == 0 {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kubeng.terminate().unwrap();
    let answer = slow.join_all().await.pop().unwrap().unwrap();
    assert_eq!(answer.status, 200);
    let status = kubeng.wait_for_end(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < Duration::from_secs(15), "it did not wait for the whole --drain");
    assert!(Client::plain(http).get("web.example.com", "/").await.is_err());
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_after_the_drain() {
    let web = Backend::start("web").await.unwrap();
    let files = [
        ("a.yaml", service("web", &[&web])),
        ("b.yaml", ingress("web", "web.example.com", &[("/", "Prefix", "web")])),
    ];
    let (mut kubeng, _folder) = serve_with(|| launch().arg("--drain").arg("1"), &files).await;
    let http = kubeng.http;
    let slow = tokio::task::JoinSet::from_iter([async move {
        Client::plain(http).get("web.example.com", "/?after=10000").await
    }]);
    let began = Instant::now();
    while web.requests() == 0 {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kubeng.terminate().unwrap();
    let status = kubeng.wait_for_end(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(slow.join_all().await.pop().unwrap().is_err(), "it was cut");
}

#[tokio::test]
async fn the_drain_bounds_the_whole_stop_with_its_delay() {
    let web = Backend::start("web").await.unwrap();
    let files = [
        ("a.yaml", service("web", &[&web])),
        ("b.yaml", ingress("web", "web.example.com", &[("/", "Prefix", "web")])),
    ];
    let launch = || launch().arg("--drain-delay").arg("4").arg("--drain").arg("5");
    let (mut kubeng, _folder) = serve_with(launch, &files).await;
    let http = kubeng.http;
    let slow = tokio::task::JoinSet::from_iter([async move {
        Client::plain(http).get("web.example.com", "/?after=20000").await
    }]);
    let began = Instant::now();
    while web.requests() == 0 {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told = Instant::now();
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    assert!(told.elapsed() < Duration::from_secs(8), "delay and drain were added up");
    assert!(slow.join_all().await.pop().unwrap().is_err(), "it was cut");
}

#[tokio::test]
async fn readiness_goes_off_while_requests_are_still_served() {
    let web = Backend::start("web").await.unwrap();
    let files = [
        ("a.yaml", service("web", &[&web])),
        ("b.yaml", ingress("web", "web.example.com", &[("/", "Prefix", "web")])),
    ];
    let (mut kubeng, _folder) =
        serve_with(|| launch().arg("--drain-delay").arg("2").arg("--drain").arg("5"), &files).await;
    kubeng.terminate().unwrap();
    let began = Instant::now();
    loop {
        let ready = kubeng.admin("/readyz").await.unwrap();
        if ready.status == 503 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(2), "readiness is still on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = Client::plain(kubeng.http).get("web.example.com", "/").await.unwrap();
    assert_eq!(answer.status, 200, "a balancer that has not noticed yet is served");
    assert_eq!(answer.headers["connection"], "close", "and told to go elsewhere");
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
}
