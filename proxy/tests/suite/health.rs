//! Endpoints that are asked whether they are well: over HTTP, gRPC, TCP, with and without TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use kubeng_config::backend::health::{HealthCheck, HttpProbe, Probe};
use kubeng_config::backend::resilience::Resilience;
use kubeng_config::backend::{Backend, BackendProtocol};
use kubeng_config::delta::PartKey;
use kubeng_proxy::Health;

use crate::support::*;

fn asked(probe: Probe, interval: u64) -> impl FnOnce(&mut Backend) {
    let health = HealthCheck {
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(500),
        unhealthy_after: 2,
        ..HealthCheck::new(probe)
    };
    let resilience = Resilience { health: Some(health), ..Resilience::default() };
    |backend| backend.resilience = Some(Box::new(resilience))
}

fn http(path: &str) -> Probe {
    let statuses = vec![(200, 299), (401, 401)];
    Probe::Http(HttpProbe { path: path.parse().unwrap(), host: None, statuses })
}

fn health_of(replica: &Replica, address: SocketAddr) -> Option<Health> {
    let all = replica.proxy.facts().health();
    all.into_iter().find(|one| one.address == address).map(|one| one.health)
}

async fn until_health(replica: &Replica, address: SocketAddr, wanted: Health) {
    let comes = async {
        while health_of(replica, address) != Some(wanted) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), comes).await;
    assert!(in_time.is_ok(), "{wanted:?}: {:?}", replica.proxy.facts().health());
}

/// A Backend that is well while the switch says so; it counts its questions.
async fn switched(text: &'static str) -> (SocketAddr, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (is_well, questions) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (switch, count) = (is_well.clone(), questions.clone());
    let address = serve(move |request| {
        if request.uri().path() != "/healthz" {
            return Response::new(Full::from(text));
        }
        count.fetch_add(1, Ordering::SeqCst);
        let status = if switch.load(Ordering::SeqCst) { 401 } else { 500 };
        Response::builder().status(status).body(Full::new(Bytes::new())).unwrap()
    })
    .await;
    (address, is_well, questions)
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_unwell_gets_nothing_until_it_is_well_again() {
    let (one, switch, _) = switched("one").await;
    let (two, _, _) = switched("two").await;
    let mut replica = Replica::start();
    replica.serve_with(&[one, two], asked(http("/healthz"), 30), |_| {});
    until_health(&replica, one, Health::Well).await;
    until_health(&replica, two, Health::Well).await;
    switch.store(false, Ordering::SeqCst);
    until_health(&replica, one, Health::Unwell).await;
    for _ in 0..8 {
        assert_eq!(get(replica.http, "a", "/").await.body, "two");
    }
    let faults = replica.proxy.facts().health();
    assert_eq!(faults.iter().find_map(|one| one.fault.as_deref()), Some("status 500"));
    let metrics = replica.proxy.facts().metrics();
    assert!(metrics.contains("kubeng_endpoints{health=\"unwell\"} 1\n"), "{metrics}");
    switch.store(true, Ordering::SeqCst);
    until_health(&replica, one, Health::Well).await;
    let mut ones = 0;
    for _ in 0..8 {
        ones += u32::from(get(replica.http, "a", "/").await.body == "one");
    }
    assert_eq!(ones, 4);
}

#[tokio::test]
async fn an_endpoint_that_was_never_asked_is_used_and_one_that_is_nowhere_is_found() {
    let (here, _, _) = switched("here").await;
    let nowhere = nobody();
    let mut replica = Replica::start();
    replica.serve_with(&[here], asked(http("/healthz"), 3_600_000), |_| {});
    assert_eq!(get(replica.http, "a", "/").await.body, "here", "before any answer");
    replica.serve_with(&[here, nowhere], asked(Probe::Tcp, 30), |_| {});
    until_health(&replica, nowhere, Health::Unwell).await;
    until_health(&replica, here, Health::Well).await;
    // Without the check nothing is known any more.
    replica.serve_with(&[here, nowhere], |_| {}, |_| {});
    until_health(&replica, nowhere, Health::Unknown).await;
}

#[tokio::test]
async fn a_backend_is_asked_once_whatever_the_number_of_its_routes_and_not_when_it_is_gone() {
    let (address, _, questions) = switched("x").await;
    let mut replica = Replica::start();
    replica.serve_with(&[address], asked(http("/healthz"), 100), |_| {});
    let routes = (0..20).map(|number| {
        let action = kubeng_config::route::Action::Forward(vec![to("web")]);
        let host = kubeng_config::matching::HostMatch::Any;
        route(&format!("r{number}"), host, &format!("/{number}"), vec![], action)
    });
    replica.change(routes);
    until_health(&replica, address, Health::Well).await;
    let before = questions.load(Ordering::SeqCst);
    let began = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let intervals = usize::try_from(began.elapsed().as_millis() / 100).unwrap();
    let asked = questions.load(Ordering::SeqCst) - before;
    assert!((1..=intervals + 1).contains(&asked), "{asked} in {intervals} intervals");
    let keys = (0..20).map(|number| route_id(&format!("r{number}"))).chain([route_id("all")]);
    let keys = keys.map(PartKey::Route).chain([PartKey::Backend(backend_id("web"))]);
    replica.remove(keys.collect::<Vec<_>>());
    // A question may be under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = questions.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(questions.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn grpc_and_http2_are_asked_in_their_own_way() {
    let is_well = Arc::new(AtomicBool::new(true));
    let address = serve_grpc_health(is_well.clone()).await;
    let mut replica = Replica::start();
    let probe = || Probe::Grpc { service: "shop.Cart".into() };
    let change = |backend: &mut Backend| {
        backend.protocol = BackendProtocol::Grpc;
        asked(probe(), 30)(backend);
    };
    replica.serve_with(&[address], change, |_| {});
    until_health(&replica, address, Health::Well).await;
    is_well.store(false, Ordering::SeqCst);
    until_health(&replica, address, Health::Unwell).await;
    let (address, switch, _) = switched("h2").await;
    let change = |backend: &mut Backend| {
        backend.protocol = BackendProtocol::Http2;
        asked(http("/healthz"), 30)(backend);
    };
    replica.serve_with(&[address], change, |_| {});
    until_health(&replica, address, Health::Well).await;
    switch.store(false, Ordering::SeqCst);
    until_health(&replica, address, Health::Unwell).await;
}

/// Answers `Health/Check` about `shop.Cart`.
async fn serve_grpc_health(is_well: Arc<AtomicBool>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let is_well = is_well.clone();
            spawn(async move {
                let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    let status = if is_well.load(Ordering::SeqCst) { 1 } else { 2 };
                    let head = Response::builder().header("content-type", "application/grpc");
                    let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                    body.send_data(message, false).unwrap();
                    let mut trailers = hyper::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    address
}
