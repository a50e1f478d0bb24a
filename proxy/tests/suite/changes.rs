//! Changes under traffic: no request fails, no connection is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kubeng_config::address::AddressRule;
use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource, WrittenEndpoint};
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::listener::Protocol;
use kubeng_config::matching::HostMatch;
use kubeng_config::part::Part;
use kubeng_config::route::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_endpoints_and_routes_change() {
    let mut replica = Replica::start();
    let endpoints =
        [serve_text("hello").await, serve_text("hello").await, serve_text("hello").await];
    replica.serve(&endpoints);
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU32::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (stop, served, to) = (stop.clone(), served.clone(), replica.http);
        clients.spawn(async move {
            // One connection for all requests: none may be closed.
            let mut tcp = TcpStream::connect(to).await.unwrap();
            let mut space = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                tcp.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
                let mut text = String::new();
                while !text.ends_with("hello") {
                    let count = tcp.read(&mut space).await.unwrap();
                    assert_ne!(count, 0, "the connection ended behind {text:?}");
                    text.push_str(std::str::from_utf8(&space[..count]).unwrap());
                }
                assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..300_usize {
        replica.set_endpoints(&endpoints[round % 3..=round % 3]);
        let host: HostMatch = format!("h{round}.example").parse().unwrap();
        let forward = || Action::Forward(vec![to("web")]);
        replica.change([
            route(&format!("r{round}"), host, "/", vec![], forward()),
            route(
                "all",
                HostMatch::Any,
                if round % 2 == 0 { "/" } else { "/x" },
                vec![],
                forward(),
            ),
        ]);
        if round >= 10 {
            replica.remove([PartKey::Route(route_id(&format!("r{}", round - 10)))]);
        }
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(served.load(Ordering::Relaxed) > 300);
}

#[tokio::test]
async fn ports_come_and_go_while_running() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let port = nobody();
    let mut held = TcpStream::connect(replica.http).await.unwrap();
    let applied = replica.change([listener("more", port, Protocol::Http)]);
    assert!(applied.unbound.is_empty(), "{:?}", applied.unbound);
    assert_eq!(get(port, "a", "/").await.status, 404, "no route names this listener");
    replica.remove([PartKey::Listener("more".parse().unwrap())]);
    while TcpStream::connect(port).await.is_ok() {
        tokio::task::yield_now().await;
    }
    held.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    held.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("hello"), "{text}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_tried_again() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let applied = replica.change([listener("more", port, Protocol::Http)]);
    assert_eq!(applied.unbound.len(), 1);
    assert_eq!(applied.unbound[0].address, port);
    assert_eq!(get(replica.http, "a", "/").await.body, "hello", "the rest serves");
    assert_eq!(replica.writer.retry_ports().len(), 1);
    drop(taken);
    assert!(replica.writer.retry_ports().is_empty());
    assert_eq!(get(port, "a", "/").await.status, 404);
}

/// A Backend with an address and a name that only this machine answers for.
fn written(address: &str, addresses: AddressRule) -> AnyPart {
    let endpoint = |text: &str| WrittenEndpoint::new(text.parse().unwrap(), 80);
    let value = Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Balance::RoundRobin,
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Written(vec![endpoint(address), endpoint("localhost")]),
        resolve: None,
        addresses,
        proxy_protocol: None,
    };
    AnyPart::Backend(backend_id("web"), Part::new(value))
}

#[tokio::test]
async fn what_is_written_beside_a_name_takes_effect_at_once() {
    let mut replica = Replica::start();
    let addresses = |replica: &Replica| -> Vec<String> {
        let set = replica.writer.endpoints(&backend_id("web")).unwrap();
        set.as_slice().iter().map(|one| one.address.to_string()).collect()
    };
    replica.change([written("10.9.0.1", AddressRule::Operator)]);
    let started = std::time::Instant::now();
    while !addresses(&replica).contains(&"127.0.0.1:80".to_owned()) {
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "the name is resolved");
        tokio::task::yield_now().await;
    }
    assert!(replica.writer.unresolved().is_empty());
    replica.change([written("10.9.0.2", AddressRule::Tenant)]);
    assert!(addresses(&replica).iter().all(|address| address == "10.9.0.2:80"));
    let told = replica.writer.unresolved();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0].backend, told[0].name.as_str()), (&backend_id("web"), "localhost"));
    replica.remove([PartKey::Backend(backend_id("web"))]);
    assert!(replica.writer.unresolved().is_empty());
}
