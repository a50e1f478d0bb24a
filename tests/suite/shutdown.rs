//! Stopping: readiness first, requests in flight finish, the whole is bounded.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;
use kubeng_harness::process::Kubeng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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

/// Waits until readiness is off.
async fn until_leaving(kubeng: &Kubeng) {
    let began = Instant::now();
    while kubeng.admin("/readyz").await.unwrap().status != 503 {
        assert!(began.elapsed() < SOON, "readiness is still on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for the GOAWAY or the end of a new HTTP/2 connection, and tells when that came.
async fn goaway(http: SocketAddr) -> Instant {
    let mut tcp = TcpStream::connect(http).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    tcp.write_all(preface).await.unwrap();
    let mut head = [0; 9];
    while tcp.read_exact(&mut head).await.is_ok() && head[3] != 7 {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        tcp.read_exact(&mut payload).await.unwrap();
    }
    Instant::now()
}

#[tokio::test]
async fn connections_are_served_as_before_until_the_delay_is_over() {
    const DELAY: Duration = Duration::from_secs(4);
    let web = Backend::start("web").await.unwrap();
    let files = [
        ("a.yaml", service("web", &[&web])),
        ("b.yaml", ingress("web", "web.example.com", &[("/", "Prefix", "web")])),
    ];
    let launch = || launch().arg("--drain-delay").arg("4").arg("--drain").arg("30");
    let (mut kubeng, _folder) = serve_with(launch, &files).await;
    let http = kubeng.http;
    let mut kept = Client::plain(http);
    assert_eq!(kept.get("web.example.com", "/").await.unwrap().status, 200);
    let told = Instant::now();
    kubeng.terminate().unwrap();
    until_leaving(&kubeng).await;
    let leaving = tokio::task::JoinSet::from_iter([goaway(http)]);
    // One connection is asked until it is told that it ends, or does.
    let mut kept_answers = 0;
    let ended = loop {
        match kept.get("web.example.com", "/").await {
            Ok(answer) if answer.headers.get("connection").is_none_or(|it| it != "close") => {
                assert_eq!(answer.status, 200);
                kept_answers += 1;
            }
            Ok(_) | Err(_) => break Instant::now(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(kept_answers > 0, "a balancer that has not noticed yet is served on its connection");
    assert!(ended - told >= DELAY, "told to leave after {:?}", ended - told);
    let goaway = leaving.join_all().await.pop().unwrap();
    assert!(goaway - told >= DELAY, "GOAWAY after {:?}", goaway - told);
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
}

#[tokio::test]
async fn a_second_signal_leaves_out_the_rest_of_the_delay() {
    let launch = || launch().arg("--drain-delay").arg("600").arg("--drain").arg("610");
    let (mut kubeng, _folder) = serve_with(launch, &[]).await;
    kubeng.terminate().unwrap();
    until_leaving(&kubeng).await;
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
}
