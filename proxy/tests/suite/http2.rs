//! HTTP/2 in and out, and gRPC with trailers.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeng_config::backend::BackendProtocol;
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

type Client = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn h2c(replica: &Replica) -> Client {
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .unwrap();
    spawn(async move { drop(connection.await) });
    client
}

fn request(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn http2_by_prior_knowledge_reaches_http1_and_http2() {
    let mut replica = Replica::start();
    let echo = serve_echo().await;
    for protocol in [BackendProtocol::Http1, BackendProtocol::Http2] {
        replica.serve_as(&[echo], protocol, vec![]);
        let mut client = h2c(&replica).await;
        let answers = (0..20).map(|_| client.send_request(request("http://a.example/x//y?z")));
        for answer in answers.collect::<Vec<_>>() {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(body.lines().next().unwrap().ends_with("/x/y?z"), "{body}");
            assert!(body.contains("\nx-forwarded-for: 127.0.0.1\n"), "{body}");
        }
    }
}

#[tokio::test]
async fn what_http2_leaves_to_the_server_is_refused() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let mut client = h2c(&replica).await;
    let mut bad = request("http://a.example/");
    bad.headers_mut().insert("content_length", "1".parse().unwrap());
    assert_eq!(client.send_request(bad).await.unwrap().status(), 400);
    let mut bad = request("http://a.example/");
    bad.headers_mut().insert("host", "b.example".parse().unwrap());
    assert_eq!(client.send_request(bad).await.unwrap().status(), 400);
    let bad = request("http://a.example/%00");
    assert_eq!(client.send_request(bad).await.unwrap().status(), 400);
    // The other streams of the connection go on.
    assert_eq!(client.send_request(request("http://a.example/")).await.unwrap().status(), 200);
}

/// A Backend that speaks gRPC as far as a proxy can see: HTTP/2 with trailers behind the body.
async fn serve_grpc() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.headers().get("te").unwrap(), "trailers");
                    let answer = hyper::Response::builder()
                        .header("content-type", "application/grpc")
                        .body(())
                        .unwrap();
                    let mut stream = respond.send_response(answer, false).unwrap();
                    stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    stream.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    address
}

fn grpc(uri: &str) -> Request<Empty<Bytes>> {
    let mut request = request(uri);
    *request.method_mut() = hyper::Method::POST;
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    request
}

#[tokio::test]
async fn grpc_keeps_its_trailers_and_errors_of_ours_are_its_own() {
    let mut replica = Replica::start();
    replica.serve_as(&[serve_grpc().await], BackendProtocol::Grpc, vec![]);
    let mut client = h2c(&replica).await;
    for _ in 0..3 {
        let answer = client.send_request(grpc("http://a/pkg.Service/Call")).await.unwrap();
        assert_eq!(answer.status(), 200);
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap().get("grpc-status").unwrap(), "0");
        assert_eq!(collected.to_bytes().len(), 5);
    }
    replica.set_endpoints(&[]);
    let answer = client.send_request(grpc("http://a/pkg.Service/Call")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers().get("grpc-status").unwrap(), "14");
}

#[tokio::test]
async fn a_client_that_grants_no_window_is_cut() {
    let mut given = settings();
    given.limits.write_stall = std::time::Duration::from_millis(200);
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("more than nothing").await]);
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(tcp).await.unwrap();
    spawn(async move { drop(connection.await) });
    let mut client = client.ready().await.unwrap();
    let request = Request::get("http://a/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let end = tokio::time::timeout(std::time::Duration::from_secs(10), body.data());
    assert!(end.await.expect("the stream ends").is_none_or(|data| data.is_err()));
}

#[tokio::test]
async fn a_client_of_http2_cannot_claim_another_host() {
    let mut replica = Replica::start();
    let echo = serve_echo().await;
    for protocol in [BackendProtocol::Http1, BackendProtocol::Http2] {
        replica.serve_as(&[echo], protocol, vec![]);
        let mut client = h2c(&replica).await;
        let mut lie = request("http://a.example/");
        for name in ["x-forwarded-host", "x-forwarded-prefix", "x_forwarded_host", "x-real-ip"] {
            lie.headers_mut().insert(name, "evil".parse().unwrap());
        }
        let answer = client.send_request(lie).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("\nx-forwarded-host: a.example\n"), "{body}");
        assert!(!body.contains("evil"), "{body}");
    }
}
