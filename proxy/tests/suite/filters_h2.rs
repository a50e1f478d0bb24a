//! Filters over HTTP/2, to clients and to Backends.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeng_config::backend::BackendProtocol;
use kubeng_config::matching::HostMatch;
use kubeng_config::route::Action;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::filters::filters;
use crate::support::*;

/// One request over HTTP/2: the head of the answer and its body.
async fn send(replica: &Replica, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .unwrap();
    spawn(async move { drop(connection.await) });
    let (head, body) = client.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

#[tokio::test]
async fn bodies_are_measured_and_compressed() {
    let text = "It was the best of times, it was the worst of times. ".repeat(2000);
    let sent = text.clone();
    let back = serve(move |request| {
        let length = request.body().len();
        let answer = Response::builder().header("content-type", "text/plain");
        let answer = answer.header("x-length", length);
        answer.body(Full::from(sent.clone())).unwrap()
    })
    .await;
    for protocol in [BackendProtocol::Http1, BackendProtocol::Http2] {
        let mut replica = Replica::start();
        let both = filters(&[r#"{"bodyLimit":{"requestBytesMax":10}}"#, r#"{"compression":{}}"#]);
        replica.serve_as(&[back], protocol, both);
        let request = get("http://a/").header("accept-encoding", "gzip");
        let answer = send(&replica, request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.headers()["content-encoding"], "gzip", "{protocol:?}");
        let mut plain = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&answer.body()[..]);
        std::io::Read::read_to_string(&mut decoder, &mut plain).unwrap();
        assert!(plain == text, "{protocol:?}");
        for (length, status) in [(10, 200), (11, 413)] {
            let body = Full::from("x".repeat(length));
            let answer = send(&replica, Request::post("http://a/").body(body).unwrap()).await;
            assert_eq!(answer.status(), status, "{protocol:?} {length}");
        }
        // Without a length it is found out while it is read.
        let tcp = TcpStream::connect(replica.http).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        spawn(async move { drop(connection.await) });
        let request = Request::post("http://a/").body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"123456"), false).unwrap();
        body.send_data(Bytes::from_static(b"123456"), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 413, "{protocol:?}");
    }
}

#[tokio::test]
async fn questions_copies_and_pages_go_to_backends_of_http2() {
    let (tell, mut told) = mpsc::channel(10);
    let other = serve(move |request| {
        let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap());
        let code = header("x-code").unwrap_or("-").to_owned();
        let body = String::from_utf8_lossy(request.body()).into_owned();
        tell.try_send(format!("{} {} {code} {body}", request.method(), request.uri())).unwrap();
        let answer = Response::builder().header("x-user", "ann");
        answer.body(Full::from(format!("page {code}"))).unwrap()
    })
    .await;
    let web = serve(|request| {
        let user = request.headers()["x-user"].to_str().unwrap().to_owned();
        let status = if request.uri().path() == "/bad" { 503 } else { 200 };
        Response::builder().status(status).body(Full::from(user)).unwrap()
    })
    .await;
    let all = filters(&[
        r#"{"externalAuth":{"backend":"Service/test/other:80","path":"/ask","copyHeaders":["x-user"]}}"#,
        r#"{"mirror":{"backend":"Service/test/other:80"}}"#,
        r#"{"errorPages":{"pages":[{"statuses":[503],"from":{"backend":"Service/test/other:80"}}]}}"#,
    ]);
    let mut replica = Replica::start();
    let parts = [
        backend("web", BackendProtocol::Http2),
        backend("other", BackendProtocol::Http2),
        route("all", HostMatch::Any, "/", all, Action::Forward(vec![to("web")])),
    ];
    let endpoints =
        [(backend_id("web"), endpoint_set(&[web])), (backend_id("other"), endpoint_set(&[other]))];
    replica.change_with(parts, [], endpoints, []);
    let body = Full::from("hello");
    let answer = send(&replica, Request::post("http://a.example/x").body(body).unwrap()).await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"ann"[..]));
    assert_eq!(told.recv().await.unwrap(), "GET http://a.example/ask - ");
    assert_eq!(told.recv().await.unwrap(), "POST http://a.example/x - hello");
    let answer = send(&replica, get("http://a.example/bad").body(Full::default()).unwrap()).await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (503, &b"page 503"[..]));
    let mut rest =
        [told.recv().await.unwrap(), told.recv().await.unwrap(), told.recv().await.unwrap()];
    rest.sort();
    assert_eq!(
        rest,
        [
            "GET http://a.example/ 503 ",
            "GET http://a.example/ask - ",
            "GET http://a.example/bad - ",
        ]
    );
}

#[tokio::test]
async fn an_id_is_told_and_logged() {
    let records: &'static std::sync::Mutex<Vec<u8>> = Box::leak(Box::default());
    struct Into(&'static std::sync::Mutex<Vec<u8>>);
    impl std::io::Write for Into {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut replica = Replica::with(kubeng_proxy::ProxySettings {
        observe: kubeng_proxy::ObserveSettings {
            access_log: Some(kubeng_proxy::AccessLogSettings::json(
                kubeng_proxy::LogTarget::Writer(Box::new(Into(records))),
            )),
            ..kubeng_proxy::ObserveSettings::default()
        },
        ..settings()
    });
    let ids = filters(&[r#"{"requestId":{"header":"x-trace"}}"#]);
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, ids);
    let answer = send(&replica, get("http://a.example/").body(Full::default()).unwrap()).await;
    let id = answer.headers()["x-trace"].to_str().unwrap().to_owned();
    let logged = format!("\"requestId\":\"{id}\"");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let text = String::from_utf8(records.lock().unwrap().clone()).unwrap();
        if text.contains(&logged) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{logged} is not in {text:?}");
        tokio::task::yield_now().await;
    }
}
