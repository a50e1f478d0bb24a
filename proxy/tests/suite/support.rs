//! A replica to test, Backends to send to, and clients to ask with.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeng_config::address::AddressRule;
use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::certificate::{Certificate, Der, Secret, ServerName, ServerNameId};
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::filter::Filter;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::name::{BackendId, CertificateId, RouteId, SecretId};
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::route::{Action, Attachment, Rank, Route, Target, TargetAction};
use kubeng_config::snapshot::Snapshot;
use kubeng_proxy::{Applied, Limits, Proxy, ProxySettings, TableWriter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A replica with a Listener `http` and a Listener `https`, each on a free port.
pub(crate) struct Replica {
    pub(crate) proxy: Proxy,
    pub(crate) writer: TableWriter,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    snapshot: Snapshot,
}

pub(crate) fn settings() -> ProxySettings {
    let limits = Limits { head: Duration::from_millis(500), ..Limits::default() };
    ProxySettings { workers: 2, limits, drain: Duration::from_secs(5), ..ProxySettings::default() }
}

impl Replica {
    pub(crate) fn start() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: ProxySettings) -> Self {
        let (proxy, writer) = Proxy::start(settings).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut this = Self { proxy, writer, http: any, https: any, snapshot: Snapshot::default() };
        // Two Listeners cannot both be named by port 0, so one is on another loopback address.
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let applied = this.change([
            listener("http", any, Protocol::Http),
            listener("https", other, Protocol::Https),
            policy("default", Policy::default()),
        ]);
        assert!(applied.unbound.is_empty(), "{:?}", applied.unbound);
        for (asked, local) in this.writer.open_ports() {
            if asked == any {
                this.http = local;
            } else {
                this.https = local;
            }
        }
        this
    }

    pub(crate) fn change(&mut self, parts: impl IntoIterator<Item = AnyPart>) -> Applied {
        self.change_with(parts, [], [], [])
    }

    pub(crate) fn remove(&mut self, keys: impl IntoIterator<Item = PartKey>) -> Applied {
        self.change_with([], keys, [], [])
    }

    pub(crate) fn change_with(
        &mut self,
        parts: impl IntoIterator<Item = AnyPart>,
        removed: impl IntoIterator<Item = PartKey>,
        endpoints: impl IntoIterator<Item = (BackendId, Arc<EndpointSet>)>,
        secrets: impl IntoIterator<Item = (SecretId, Secret)>,
    ) -> Applied {
        let newer = self.snapshot.edited(parts, removed).unwrap();
        let mut delta = self.snapshot.delta_to(&newer);
        delta.endpoints = endpoints.into_iter().collect();
        delta.secrets = secrets.into_iter().collect();
        self.snapshot = newer;
        self.writer.apply(&delta).unwrap()
    }

    /// Serves everything from one Backend with these Endpoints.
    pub(crate) fn serve(&mut self, endpoints: &[SocketAddr]) {
        self.serve_as(endpoints, BackendProtocol::Http1, vec![]);
    }

    pub(crate) fn serve_as(
        &mut self,
        endpoints: &[SocketAddr],
        protocol: BackendProtocol,
        filters: Vec<Filter>,
    ) {
        let id = backend_id("web");
        let parts = [
            backend("web", protocol),
            route("all", HostMatch::Any, "/", filters, Action::Forward(vec![to("web")])),
        ];
        self.change_with(parts, [], [(id, endpoint_set(endpoints))], []);
    }

    pub(crate) fn set_endpoints(&self, endpoints: &[SocketAddr]) {
        self.writer.set_endpoints(&[(backend_id("web"), endpoint_set(endpoints))]);
    }
}

pub(crate) fn listener(id: &str, address: SocketAddr, protocol: Protocol) -> AnyPart {
    AnyPart::Listener(id.parse().unwrap(), Part::new(Listener::new(address, protocol)))
}

pub(crate) fn policy(id: &str, value: Policy) -> AnyPart {
    AnyPart::Policy(id.parse().unwrap(), Part::new(value))
}

pub(crate) fn backend_id(name: &str) -> BackendId {
    format!("Service/test/{name}:80").parse().unwrap()
}

pub(crate) fn route_id(name: &str) -> RouteId {
    format!("Ingress/test/{name}#default").parse().unwrap()
}

pub(crate) fn backend(name: &str, protocol: BackendProtocol) -> AnyPart {
    backend_with(name, |backend| backend.protocol = protocol)
}

pub(crate) fn backend_with(name: &str, change: impl FnOnce(&mut Backend)) -> AnyPart {
    let mut value = Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Balance::RoundRobin,
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: AddressRule::Operator,
        proxy_protocol: None,
    };
    change(&mut value);
    AnyPart::Backend(backend_id(name), Part::new(value))
}

pub(crate) fn to(name: &str) -> Target {
    Target { to: TargetAction::Backend(backend_id(name)), weight: 1 }
}

pub(crate) fn route(
    name: &str,
    host: HostMatch,
    prefix: &str,
    filters: Vec<Filter>,
    action: Action,
) -> AnyPart {
    let attach = |listener: &str| Attachment {
        listener: listener.parse().unwrap(),
        hosts: vec![host.clone()],
    };
    let value = Route {
        rank: Rank { created: 0, rule: 0 },
        attached: vec![attach("http"), attach("https")],
        matches: vec![Match::of_path(PathMatch::Prefix(prefix.parse().unwrap()))],
        filters,
        policy: "default".parse().unwrap(),
        action,
    };
    AnyPart::Route(route_id(name), Part::new(value))
}

pub(crate) fn endpoint_set(addresses: &[SocketAddr]) -> Arc<EndpointSet> {
    Arc::new(EndpointSet::new(addresses.iter().copied().map(Endpoint::new).collect()))
}

/// A certificate for `name` as parts of a Listener, and its key.
pub(crate) fn certificate(name: &str) -> (Vec<AnyPart>, (SecretId, Secret)) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate: CertificateId = format!("Secret/test/{name}").parse().unwrap();
    let key: SecretId = format!("{:x?}", made.signing_key.public_key_raw()).parse().unwrap();
    let value = Certificate {
        chain: vec![Der(made.cert.der().to_vec().into())],
        key: key.clone(),
        names: vec![name.to_owned()],
        not_after: 4_102_444_800,
        ocsp: None,
    };
    let server_name =
        ServerNameId { listener: "https".parse().unwrap(), host: name.parse().unwrap() };
    let parts = vec![
        AnyPart::Certificate(certificate.clone(), Part::new(value)),
        AnyPart::ServerName(server_name, Part::new(ServerName::of(certificate))),
    ];
    (parts, (key, Secret::new(made.signing_key.serialize_der())))
}

/// A Backend that answers every request with what `answer` makes of it, over HTTP/1 or h2c.
pub(crate) async fn serve<F>(answer: F) -> SocketAddr
where
    F: Fn(Request<Bytes>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map_or_else(|_| Bytes::new(), |b| b.to_bytes());
                    Ok::<_, Infallible>(answer(Request::from_parts(parts, body)))
                }
            });
            spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(tcp), service).await;
            });
        }
    });
    address
}

/// A Backend that answers with `text`.
pub(crate) async fn serve_text(text: &'static str) -> SocketAddr {
    serve(move |_| Response::new(Full::from(text))).await
}

/// A Backend that answers with the request line and headers that it got.
pub(crate) async fn serve_echo() -> SocketAddr {
    serve(|request| {
        let mut text = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        text.push_str(&format!("body: {}\n", request.body().len()));
        Response::new(Full::from(text))
    })
    .await
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends bytes and reads all that comes until the end, at most 10 s.
pub(crate) async fn talk(to: SocketAddr, bytes: &[u8]) -> String {
    let mut tcp = TcpStream::connect(to).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut answer))
        .await
        .expect("the connection ends")
        .ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request on a connection of its own: status, head and body as text.
pub(crate) async fn get(to: SocketAddr, host: &str, path: &str) -> Answer {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    Answer::read(&talk(to, text.as_bytes()).await)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

/// Runs beside the test, for as long as its runtime.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "the runtime of the test owns and ends it")]
    tokio::spawn(task);
}
