//! TLS to Backends over HTTP/2 that want to know who connects, or are believed under other names.

use std::net::SocketAddr;
use std::sync::Arc;

use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::{Request, Response};
use kubeng_config::backend::BackendProtocol;
use kubeng_config::backend::tls::{BackendTls, Subject};
use kubeng_config::bounded::{AtMost, TextAtMost};
use kubeng_config::listener::TlsVersion;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::CertificateId;
use kubeng_config::route::Action;
use rcgen::SanType;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::backend_calls::{Calls, SOON, client, grpc, read_whole};
use crate::backend_identity::{
    BOTH, Identity, identity, presented, provider, serve_as, serve_over,
};
use crate::backend_tls::{Authority, authority, bundle};
use crate::streaming::echo_messages;
use crate::support::*;

fn config(
    own: Identity,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivatePkcs8KeyDer::from(own.key).into();
    let mut config = builder.with_single_cert(own.chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Answers every request with its length of body and its version of TLS.
async fn ok(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let length = read_whole(&mut request.into_body()).await.unwrap().len();
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(format!("{length} bytes").into(), true).unwrap();
}

async fn serve_ok(
    own: Identity,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> SocketAddr {
    Calls::serve_tls(config(own, clients, versions), ok).await.address
}

#[tokio::test]
async fn grpc_is_called_and_streamed_both_ways_with_our_certificate() {
    let (ours, clients) = (authority(), authority());
    for version in BOTH {
        let own = identity(&ours, "billing.example", |_| {});
        let calls = Calls::serve_tls(config(own, Some(&clients), &[version]), echo_messages).await;
        let mut replica = Replica::start();
        let id: CertificateId = "Secret/test/client".parse().unwrap();
        let tls = BackendTls {
            client_certificate: Some(id),
            ..BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]))
        };
        let shown = presented("Secret/test/client", &identity(&clients, "kubeng", |_| {}));
        serve_over(&mut replica, calls.address, tls, BackendProtocol::Grpc, Some(shown));
        let mut client = client(&replica).await;
        // A call with one message each way.
        let (answer, mut send) = client.send_request(grpc(), false).unwrap();
        send.send_data(Bytes::from_static(b"\0\0\0\0\x01a"), true).unwrap();
        let answer = tokio::time::timeout(SOON, answer).await.unwrap().unwrap();
        let mut body = answer.into_body();
        assert_eq!(read_whole(&mut body).await.unwrap(), b"\0\0\0\0\x01a", "{version:?}");
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        // Messages both ways, each when the one before has come back.
        client = client.ready().await.unwrap();
        let (answer, mut send) = client.send_request(grpc(), false).unwrap();
        let mut body = tokio::time::timeout(SOON, answer).await.unwrap().unwrap().into_body();
        for number in 0..20_u8 {
            let message = Bytes::from(vec![0, 0, 0, 0, 1, number]);
            send.send_data(message.clone(), false).unwrap();
            let echo = tokio::time::timeout(SOON, body.data()).await.expect("it comes back");
            let echo = echo.unwrap().unwrap();
            body.flow_control().release_capacity(echo.len()).unwrap();
            assert_eq!(echo, message);
        }
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read_whole(&mut body).await.unwrap(), b"");
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-message"], "20");
        assert_eq!(calls.connections(), 1, "both on one connection");
    }
}

#[tokio::test]
async fn who_is_not_believed_by_a_backend_over_http2_sends_nothing_there() {
    let (ours, clients, strangers) = (authority(), authority(), authority());
    for version in BOTH {
        let own = identity(&ours, "billing.example", |_| {});
        let calls = Calls::serve_tls(config(own, Some(&clients), &[version]), ok).await;
        let mut replica = Replica::start();
        let plain = BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]));
        serve_over(&mut replica, calls.address, plain.clone(), BackendProtocol::Http2, None);
        assert_eq!(get(replica.http, "a", "/").await.status, 502, "{version:?}");
        let id: CertificateId = "Secret/test/client".parse().unwrap();
        let asked = BackendTls { client_certificate: Some(id), ..plain };
        let unknown = presented("Secret/test/client", &identity(&strangers, "kubeng", |_| {}));
        let protocol = BackendProtocol::Http2;
        serve_over(&mut replica, calls.address, asked.clone(), protocol, Some(unknown));
        assert_eq!(get(replica.http, "a", "/").await.status, 502, "{version:?}");
        replica.until_failures("tls_failed", 2).await;
        assert_eq!(calls.begun(), 0);
        // Under its name there is another one: that is shown from here on.
        let known = presented("Secret/test/client", &identity(&clients, "kubeng", |_| {}));
        serve_over(&mut replica, calls.address, asked, protocol, Some(known));
        assert_eq!(get(replica.http, "a", "/").await.status, 200, "{version:?}");
    }
}

#[tokio::test]
async fn a_backend_over_http2_is_believed_under_the_names_that_are_listed_and_no_other() {
    let ours = authority();
    let uri = "spiffe://example.org/billing";
    let own = identity(&ours, "inside.example", |params| {
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    });
    let address = serve_ok(own, None, &BOTH).await;
    let mut replica = Replica::start();
    let mut ask = async |names: &[Subject], roots| {
        let tls = BackendTls {
            subjects: AtMost::new(names.to_vec()).unwrap(),
            ..BackendTls::new("billing.example".parse().unwrap(), roots)
        };
        serve_over(&mut replica, address, tls, BackendProtocol::Grpc, None);
        get(replica.http, "a", "/").await.status
    };
    let name = |name: &str| Subject::Hostname(name.parse().unwrap());
    let uri = |uri: &str| Subject::Uri(TextAtMost::new(uri.to_owned()).unwrap());
    assert_eq!(ask(&[], bundle(&[&ours])).await, 502, "the name that is asked for");
    assert_eq!(ask(&[name("other.example"), name("inside.example")], bundle(&[&ours])).await, 200);
    assert_eq!(ask(&[uri("spiffe://example.org/billing")], bundle(&[&ours])).await, 200);
    assert_eq!(ask(&[uri("spiffe://example.org/billing/x")], bundle(&[&ours])).await, 502);
    assert_eq!(ask(&[name("billing.example")], bundle(&[&ours])).await, 502);
    let stranger = authority();
    assert_eq!(ask(&[name("inside.example")], bundle(&[&stranger])).await, 502);
    replica.until_failures("tls_failed", 4).await;
}

#[tokio::test]
async fn a_backend_over_http2_that_speaks_too_old_a_version_is_not_believed() {
    let ours = authority();
    let address = serve_ok(identity(&ours, "billing.example", |_| {}), None, &BOTH[..1]).await;
    let mut replica = Replica::start();
    let tls = || BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]));
    serve_over(&mut replica, address, tls(), BackendProtocol::Http2, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 200);
    let newer = BackendTls { version_min: TlsVersion::V1_3, ..tls() };
    serve_over(&mut replica, address, newer, BackendProtocol::Http2, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
    replica.until_failures("tls_failed", 1).await;
}

#[tokio::test]
async fn a_backend_that_does_not_agree_on_http2_is_sent_nothing_else() {
    let ours = authority();
    // It takes no notice of what is offered, and speaks HTTP/1.1.
    let address = serve_as(identity(&ours, "billing.example", |_| {}), None, &BOTH).await;
    let mut replica = Replica::start();
    let tls = || BackendTls::new("billing.example".parse().unwrap(), bundle(&[&ours]));
    serve_over(&mut replica, address, tls(), BackendProtocol::Http1, None);
    assert_eq!(get(replica.http, "a", "/").await.status, 200);
    for protocol in [BackendProtocol::Http2, BackendProtocol::Grpc] {
        serve_over(&mut replica, address, tls(), protocol, None);
        assert_eq!(get(replica.http, "a", "/").await.status, 502, "{protocol:?}");
    }
    replica.until_failures("tls_failed", 2).await;
}

#[tokio::test]
async fn requests_of_our_own_are_made_with_our_certificate_too() {
    let (ours, clients) = (authority(), authority());
    let own = || identity(&ours, "login.example", |_| {});
    let over_http2 = serve_ok(own(), Some(&clients), &BOTH).await;
    let over_http1 = serve_as(own(), Some(&clients), &BOTH).await;
    let id: CertificateId = "Secret/test/client".parse().unwrap();
    let plain = BackendTls::new("login.example".parse().unwrap(), bundle(&[&ours]));
    let asked = BackendTls { client_certificate: Some(id), ..plain.clone() };
    let auth = r#"{"externalAuth":{"backend":"Service/test/login:80","path":"/ask"}}"#;
    for (address, protocol) in
        [(over_http1, BackendProtocol::Http1), (over_http2, BackendProtocol::Http2)]
    {
        let mut replica = Replica::start();
        let web = serve_text("web").await;
        for (tls, expected) in [(&asked, 200), (&plain, 503)] {
            let shown = presented("Secret/test/client", &identity(&clients, "kubeng", |_| {}));
            let filters = crate::filters::filters(&[auth]);
            let parts = [
                backend("web", BackendProtocol::Http1),
                backend_with("login", |backend| {
                    (backend.tls, backend.protocol) = (Some(tls.clone()), protocol);
                }),
                route("all", HostMatch::Any, "/", filters, Action::Forward(vec![to("web")])),
                shown.0,
            ];
            let endpoints = [("web", web), ("login", address)];
            let endpoints = endpoints.map(|(name, to)| (backend_id(name), endpoint_set(&[to])));
            replica.change_with(parts, [], endpoints, [shown.1]);
            assert_eq!(get(replica.http, "a", "/").await.status, expected, "{protocol:?}");
        }
    }
}
