//! Listeners of every kind, and what is sent to them as bytes.

use std::net::SocketAddr;
use std::time::Duration;

use kubeng_config::backend::ProxyVersion;
use kubeng_config::delta::AnyPart;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::part::Part;
use kubeng_config::route::{Action, Attachment, Rank, Route, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// One on a free port of 127.0.0.`last`; that of a replica's other sockets must be another.
pub(crate) fn on(last: u8, protocol: Protocol) -> Listener {
    Listener::new(SocketAddr::from(([127, 0, 0, last], 0)), protocol)
}

/// Puts it in, and gives where it really listens.
pub(crate) fn put(replica: &mut Replica, id: &str, listener: &Listener) -> SocketAddr {
    let part = AnyPart::Listener(id.parse().unwrap(), Part::new(listener.clone()));
    let applied = replica.change([part]);
    assert!(applied.unbound.is_empty(), "{:?}", applied.unbound);
    let open = replica.writer.open_ports();
    open.into_iter().find(|(asked, _)| *asked == listener.address).unwrap().1
}

/// A Route of everything for `host` on one Listener.
pub(crate) fn forward(name: &str, listener: &str, host: &str, targets: Vec<Target>) -> AnyPart {
    let hosts: Vec<HostMatch> = vec![host.parse().unwrap()];
    let value = Route {
        rank: Rank { created: 0, rule: 0 },
        attached: vec![Attachment { listener: listener.parse().unwrap(), hosts }],
        matches: vec![Match::of_path(PathMatch::Otherwise)],
        filters: vec![],
        policy: "default".parse().unwrap(),
        action: Action::Forward(targets),
    };
    AnyPart::Route(route_id(name), Part::new(value))
}

/// A Backend with these Endpoints.
pub(crate) fn put_backend(
    replica: &mut Replica,
    name: &str,
    endpoints: &[SocketAddr],
    proxy_protocol: Option<ProxyVersion>,
) {
    let AnyPart::Backend(id, part) = backend(name, kubeng_config::backend::BackendProtocol::Http1)
    else {
        unreachable!()
    };
    let mut spec = (**part.value()).clone();
    spec.proxy_protocol = proxy_protocol;
    let part = AnyPart::Backend(id.clone(), Part::new(spec));
    replica.change_with([part], [], [(id, endpoint_set(endpoints))], []);
}

/// A listener of plain TCP on 127.0.0.3 that leads to these Endpoints.
pub(crate) fn put_tcp(replica: &mut Replica, endpoints: &[SocketAddr]) -> SocketAddr {
    let to_there = put(replica, "tcp", &on(3, Protocol::Tcp));
    put_backend(replica, "raw", endpoints, None);
    replica.change([forward("tcp", "tcp", "*", vec![to("raw")])]);
    to_there
}

/// The value of a metric; a missing one is 0.
pub(crate) fn metric(replica: &Replica, name: &str) -> u64 {
    let text = replica.proxy.facts().metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// Waits until so many connections were refused by this rule; a client may see the end first.
#[track_caller]
pub(crate) fn refused(replica: &Replica, rule: &str, count: u64) {
    let name = format!("kubeng_connections_refused_total{{rule=\"{rule}\"}}");
    let start = std::time::Instant::now();
    while metric(replica, &name) != count {
        assert!(start.elapsed() < Duration::from_secs(10), "{rule}: {}", metric(replica, &name));
        std::thread::yield_now();
    }
}

/// An Endpoint that answers what it reads with `name`, a colon and the same, when the client has
/// ended its half.
pub(crate) async fn serve_raw(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            spawn(async move {
                let mut all = Vec::new();
                if tcp.read_to_end(&mut all).await.is_ok() {
                    let _ = tcp.write_all(&[name.as_bytes(), b":", &all].concat()).await;
                }
            });
        }
    });
    address
}

/// Sends all, ends the half, and reads what comes; an error counts as the end.
pub(crate) async fn exchange(to: SocketAddr, bytes: &[u8]) -> String {
    let mut tcp = TcpStream::connect(to).await.unwrap();
    let talk = async {
        // It may be closed already.
        let _ = tcp.write_all(bytes).await;
        let _ = tcp.shutdown().await;
        rest(&mut tcp).await
    };
    talk.await
}

/// What comes until the end, within 10 s.
pub(crate) async fn rest(tcp: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut all)).await;
    let _ = end.expect("the connection ends");
    String::from_utf8_lossy(&all).into_owned()
}
