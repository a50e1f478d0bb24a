//! Listeners that the settings make: plain TCP, TLS that is passed on, balancers in front.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use kubeng_harness::backend::{Backend, Reply};
use kubeng_harness::client::Client;
use kubeng_harness::process::Kubeng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{SOON, ingress, launch, save, serve_with, service};

/// A free port of an address that nothing else here uses.
fn free(last: u8) -> SocketAddr {
    TcpListener::bind(SocketAddr::from(([127, 0, 1, last], 0))).unwrap().local_addr().unwrap()
}

/// An Upstream with one endpoint.
fn upstream(name: &str, protocol: &str, endpoint: SocketAddr) -> String {
    format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: Upstream\n\
         metadata: {{name: {name}, namespace: fin}}\n\
         spec:\n  protocol: {protocol}\n  tls: {{serverName: b.example}}\n\
         \x20 endpoints:\n  - {{address: {}, port: {}}}\n---\n",
        endpoint.ip(),
        endpoint.port()
    )
}

/// Who answers a request there; None when the connection is closed.
async fn who(to: SocketAddr) -> Option<String> {
    let answer = Client::plain(to).get("any.example", "/").await.ok()?;
    answer.backend().map(Into::into)
}

async fn until(kubeng: &Kubeng, to: SocketAddr, wanted: Option<&str>) {
    let began = Instant::now();
    while who(to).await.as_deref() != wanted {
        assert!(began.elapsed() < SOON, "{to} never {wanted:?}\n{}", kubeng.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn problems(kubeng: &Kubeng) -> String {
    String::from_utf8(kubeng.admin("/api/v1/problems").await.unwrap().body.to_vec()).unwrap()
}

#[tokio::test]
async fn connections_go_to_the_service_or_upstream_that_the_settings_name() {
    let [one, other] =
        [Backend::start("one").await.unwrap(), Backend::start("other").await.unwrap()];
    let (to_service, to_upstream, to_nothing) = (free(1), free(2), free(3));
    let make = || {
        launch()
            .arg(format!("--tcp={to_service}=shop/web:80"))
            .arg(format!("--tcp={to_upstream}=fin/erp"))
            .arg(format!("--tcp={to_nothing}=shop/missing:80"))
    };
    let files =
        [("a.yaml", service("web", &[&one])), ("b.yaml", upstream("erp", "http", other.address))];
    let (kubeng, folder) = serve_with(make, &files).await;
    until(&kubeng, to_service, Some("one")).await;
    until(&kubeng, to_upstream, Some("other")).await;
    assert_eq!(who(to_nothing).await, None);
    let text = problems(&kubeng).await;
    assert!(text.contains("KNG-1101") && text.contains("Service/shop/missing"), "{text}");

    // Endpoints follow what is discovered.
    save(folder.path(), "a.yaml", &service("web", &[&other]));
    until(&kubeng, to_service, Some("other")).await;
    // What should be encrypted is not sent in clear.
    save(folder.path(), "b.yaml", &upstream("erp", "https", other.address));
    until(&kubeng, to_upstream, None).await;
    let text = problems(&kubeng).await;
    assert!(text.contains("KNG-1110") && text.contains("Upstream/fin/erp"), "{text}");
    save(folder.path(), "b.yaml", &upstream("erp", "http", one.address));
    until(&kubeng, to_upstream, Some("one")).await;
    assert!(!problems(&kubeng).await.contains("KNG-1110"));
}

#[tokio::test]
async fn tls_is_passed_on_by_its_server_name() {
    // What ends TLS is another Kubeng.
    let behind = Backend::start("behind").await.unwrap();
    let secret = crate::support::secret("web", "raw.example");
    let tls = "  tls: [{hosts: [raw.example], secretName: web}]\n---\n";
    let text = ingress("web", "raw.example", &[("/", "Prefix", "web")]);
    let text = text.trim_end_matches("---\n").to_owned() + tls;
    let files = [("a.yaml", service("web", &[&behind]) + &text + &secret)];
    let (inner, _inner_folder) = serve_with(launch, &files).await;

    let here = Backend::start("here").await.unwrap();
    let https = free(4);
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("kubeng.toml");
    save(
        folder.path(),
        "kubeng.toml",
        &format!(
            "tls-passthrough = [\"{https}=raw.example=fin/inner\"]\ntls-version-min = \"1.3\"\n"
        ),
    );
    let make = || launch().arg("--settings").arg(&settings);
    let files = [
        ("a.yaml", service("web", &[&here]) + &ingress("web", "", &[("/", "Prefix", "web")])),
        ("b.yaml", upstream("inner", "https", inner.https)),
    ];
    let (kubeng, _folder) = serve_with(make, &files).await;
    let began = Instant::now();
    loop {
        let asked = async {
            let mut client = Client::tls(https, "raw.example").ok()?;
            let answer = client.get("raw.example", "/").await.ok()?;
            answer.backend().map(ToOwned::to_owned)
        };
        if asked.await.as_deref() == Some("behind") {
            break;
        }
        assert!(began.elapsed() < SOON, "{}", kubeng.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut client = Client::tls(kubeng.https, "other.example").unwrap();
    let answer = client.get("other.example", "/").await.unwrap();
    assert_eq!(answer.backend(), Some("here"));
}

#[tokio::test]
async fn balancers_say_whom_they_speak_for_and_clients_have_limits() {
    let echo = |request: http::Request<Bytes>| {
        let client = request.headers()["x-forwarded-for"].to_str().unwrap().to_owned();
        Reply::now(Response::new(client.into()))
    };
    let echo = Backend::start_with("echo", ([127, 0, 0, 1], 0).into(), echo).await.unwrap();
    let make = || {
        launch()
            .arg("--proxy-protocol-from=127.0.0.0/8")
            .arg("--client-connections-max=1")
            .arg("--listener-connections-max=50")
            .arg("--connections-max=100")
    };
    let text = service("web", &[&echo]) + &ingress("web", "", &[("/", "Prefix", "web")]);
    let (kubeng, _folder) = serve_with(make, &[("a.yaml", text)]).await;
    let ask = async |header: &str| {
        let mut tcp = TcpStream::connect(kubeng.http).await.unwrap();
        let text = format!("{header}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        tcp.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It may be reset.
        let _ = tcp.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    let told = "PROXY TCP4 192.0.2.1 203.0.113.9 4321 443\r\n";
    let began = Instant::now();
    while !ask(told).await.ends_with("\r\n\r\n192.0.2.1") {
        assert!(began.elapsed() < SOON, "{}", kubeng.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(ask("").await, "", "from a balancer it is mandatory");
    // The end of the one before may be seen here first.
    let _held = loop {
        let mut held = TcpStream::connect(kubeng.http).await.unwrap();
        let text = format!("{told}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let _ = held.write_all(text.as_bytes()).await;
        if held.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {
            break held;
        }
        assert!(began.elapsed() < SOON, "{}", kubeng.log().join("\n"));
    };
    assert_eq!(ask(told).await, "", "that client has its one connection");
    let other = "PROXY TCP4 192.0.2.2 203.0.113.9 4321 443\r\n";
    assert!(ask(other).await.ends_with("\r\n\r\n192.0.2.2"));
}
