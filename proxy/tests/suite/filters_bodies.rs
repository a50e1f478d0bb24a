//! Filters that measure, copy, compress and replace bodies.

use std::io::Read as _;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use kubeng_config::backend::BackendProtocol;
use kubeng_config::matching::HostMatch;
use kubeng_config::route::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::filters::{ask, echo, filters};
use crate::support::*;

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_at_once() {
    let replica = echo(&[r#"{"bodyLimit":{"requestBytesMax":10}}"#]).await;
    let post = async |length: usize| {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let body = "x".repeat(length);
        Answer::read(&talk(replica.http, format!("{head}{body}").as_bytes()).await)
    };
    assert_eq!(post(10).await.status, 200);
    assert_eq!(post(11).await.status, 413);
    // Nobody has to send what is not wanted.
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n";
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    tcp.write_all(head).await.unwrap();
    let mut space = [0; 64];
    let count = tcp.read(&mut space).await.unwrap();
    assert!(space[..count].starts_with(b"HTTP/1.1 413"), "{:?}", &space[..count]);
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_while_it_is_read() {
    let replica = echo(&[r#"{"bodyLimit":{"requestBytesMax":10}}"#]).await;
    let post = async |chunks: usize| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        let text = format!("{head}{}0\r\n\r\n", "5\r\n12345\r\n".repeat(chunks));
        Answer::read(&talk(replica.http, text.as_bytes()).await)
    };
    let fine = post(2).await;
    assert_eq!(fine.status, 200);
    assert!(fine.body.contains("body: 10\n"), "{fine:?}");
    assert_eq!(post(3).await.status, 413);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_or_broken_off() {
    let limit = r#"{"bodyLimit":{"responseBytesMax":10}}"#;
    let mut replica = Replica::start();
    let back = serve(|request| Response::new(Full::from("x".repeat(request.uri().path().len()))));
    replica.serve_as(&[back.await], BackendProtocol::Http1, filters(&[limit]));
    assert_eq!(ask(&replica, "GET /123456789", &[]).await.status, 200);
    assert_eq!(ask(&replica, "GET /1234567890", &[]).await.status, 502);
    // Without a length it has begun before anybody can know.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = tcp.write_all(format!("{head}8\r\n12345678\r\n").as_bytes()).await;
        let _ = tcp.write_all(b"8\r\n12345678\r\n0\r\n\r\n").await;
    });
    replica.serve_as(&[address], BackendProtocol::Http1, filters(&[limit]));
    let text = talk(replica.http, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!text.ends_with("0\r\n\r\n"), "{text:?}");
    assert!(text.matches("12345678").count() < 2, "{text:?}");
}

/// A Backend that tells of every request that it gets.
async fn told() -> (std::net::SocketAddr, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel(100);
    let address = serve(move |request| {
        let (head, body) = request.into_parts();
        let header = |name: &str| {
            head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        let line =
            [&header("host"), head.method.as_str(), &head.uri.to_string(), &header("x-a"), &body]
                .join(" ");
        tell.try_send(line).unwrap();
        Response::builder().status(500).body(Full::from("nobody reads this")).unwrap()
    });
    (address.await, told)
}

async fn mirrored(mirror: &str) -> (Replica, mpsc::Receiver<String>) {
    let (copy, told) = told().await;
    let mut replica = Replica::start();
    let edits = r#"{"requestHeaders":{"set":[{"name":"x-a","value":"set"}]}}"#;
    let filters = filters(&[edits, mirror]);
    let parts = [
        backend("web", BackendProtocol::Http1),
        backend("copy", BackendProtocol::Http1),
        route("all", HostMatch::Any, "/", filters, Action::Forward(vec![to("web")])),
    ];
    let endpoints = [
        (backend_id("web"), endpoint_set(&[serve_echo().await])),
        (backend_id("copy"), endpoint_set(&[copy])),
    ];
    replica.change_with(parts, [], endpoints, []);
    (replica, told)
}

async fn next(told: &mut mpsc::Receiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(5), told.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_copy_is_what_the_backend_gets_and_its_answer_is_dropped() {
    let (replica, mut told) =
        mirrored(r#"{"mirror":{"backend":"Service/test/copy:80","bodyBytesMax":5}}"#).await;
    let answer = ask(&replica, "GET /a/../b?q=1", &["X-A: client"]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(next(&mut told).await, "a.example GET /b?q=1 set ");
    let post = async |body: &str| {
        let text = format!(
            "POST /p HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Answer::read(&talk(replica.http, text.as_bytes()).await)
    };
    assert_eq!(post("12345").await.status, 200);
    assert_eq!(next(&mut told).await, "b POST /p set 12345");
    // Half a request would be another one, so there is none.
    assert_eq!(post("123456").await.status, 200);
    assert_eq!(post("1234").await.status, 200);
    assert_eq!(next(&mut told).await, "b POST /p set 1234");
    let metrics = replica.proxy.facts().metrics();
    assert!(metrics.contains("\nkubeng_mirrors_total 3\n"), "{metrics}");
    assert!(metrics.contains("\nkubeng_mirrors_dropped_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_part_of_the_requests_is_copied_and_a_silent_mirror_holds_nobody_up() {
    let (replica, mut told) =
        mirrored(r#"{"mirror":{"backend":"Service/test/copy:80","of":4,"copied":1}}"#).await;
    for number in 1..=8 {
        assert_eq!(ask(&replica, &format!("GET /{number}"), &[]).await.status, 200);
    }
    let mut got = [next(&mut told).await, next(&mut told).await];
    got.sort();
    assert_eq!(got, ["a.example GET /4 set ", "a.example GET /8 set "]);
    assert!(told.try_recv().is_err());
    // It takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let set = endpoint_set(&[silent.local_addr().unwrap()]);
    replica.writer.set_endpoints(&[(backend_id("copy"), set)]);
    for _ in 0..8 {
        assert_eq!(ask(&replica, "GET /", &[]).await.status, 200);
    }
    let ended = tokio::time::timeout(Duration::from_secs(5), replica.proxy.drain()).await;
    assert_eq!(ended.expect("a drain does not wait for copies").cut, 0);
}

#[tokio::test]
async fn an_answer_is_compressed_for_who_takes_it() {
    let text = "It was the best of times, it was the worst of times. ".repeat(2000);
    let sent = text.clone();
    let back = serve(move |request| {
        let answer = Response::builder().header("content-type", "text/plain");
        let answer = match request.uri().path() {
            "/encoded" => answer.header("content-encoding", "x"),
            "/etag" => answer.header("etag", "\"1\""),
            _ => answer,
        };
        answer.body(Full::from(sent.clone())).unwrap()
    });
    let mut replica = Replica::start();
    let compression = filters(&[r#"{"compression":{}}"#]);
    replica.serve_as(&[back.await], BackendProtocol::Http1, compression);
    let get = async |path: &str, accept: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: {accept}\r\n\r\n"
        );
        let mut tcp = TcpStream::connect(replica.http).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tcp.read_to_end(&mut bytes).await.unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let body = &bytes[end..];
        let body =
            if head.contains("transfer-encoding: chunked") { dechunk(body) } else { body.to_vec() };
        (head, body)
    };
    for coding in ["gzip", "br", "zstd"] {
        let (head, body) = get("/", coding).await;
        assert!(head.contains(&format!("content-encoding: {coding}\r\n")), "{head}");
        assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        assert!(body.len() < text.len() / 10, "{coding}: {}", body.len());
        let mut plain = Vec::new();
        match coding {
            "gzip" => {
                flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
            }
            "br" => {
                brotli::Decompressor::new(&*body, 4096).read_to_end(&mut plain).unwrap();
            }
            _ => plain = zstd::decode_all(&*body).unwrap(),
        }
        assert!(plain == text.as_bytes(), "{coding}");
    }
    let (head, body) = get("/", "identity").await;
    assert!(!head.contains("content-encoding") && head.contains("vary: accept-encoding"), "{head}");
    assert_eq!(body, text.as_bytes());
    let (head, body) = get("/encoded", "gzip").await;
    assert!(head.contains("content-encoding: x\r\n"), "{head}");
    assert_eq!(body, text.as_bytes());
    let (head, _) = get("/etag", "gzip").await;
    assert!(head.contains("etag: w/\"1\"\r\n"), "{head}");
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

#[tokio::test]
async fn errors_of_backends_and_our_own_get_the_pages_of_the_route() {
    let pages = r#"{"errorPages":{"pages":[
        {"statuses":[404,502],"from":{"inline":{"contentType":"text/x","body":"not here"}}},
        {"statuses":[418],"from":{"backend":"Service/test/pages:80"}}]}}"#;
    let web = serve(|request| {
        let status = request.uri().path()[1..].parse::<u16>().unwrap();
        let answer = Response::builder().status(status).header("etag", "inner");
        let body = if request.uri().query() == Some("empty") { "" } else { "inner" };
        answer.body(Full::from(body)).unwrap()
    })
    .await;
    let maker = serve(|request| {
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        let text = format!("{} {}", header("x-code"), header("x-original-uri"));
        let answer = Response::builder().status(404).header("content-type", "text/y");
        answer.body(Full::from(text)).unwrap()
    })
    .await;
    let mut replica = Replica::start();
    let parts = [
        backend("web", BackendProtocol::Http1),
        backend("pages", BackendProtocol::Http1),
        route("all", HostMatch::Any, "/", filters(&[pages]), Action::Forward(vec![to("web")])),
    ];
    let endpoints =
        [(backend_id("web"), endpoint_set(&[web])), (backend_id("pages"), endpoint_set(&[maker]))];
    replica.change_with(parts, [], endpoints, []);
    let fine = ask(&replica, "GET /200", &[]).await;
    assert_eq!((fine.status, fine.body.as_str()), (200, "inner"));
    let other = ask(&replica, "GET /403", &[]).await;
    assert_eq!((other.status, other.body.as_str()), (403, "inner"));
    let page = ask(&replica, "GET /404", &[]).await;
    assert_eq!((page.status, page.body.as_str()), (404, "not here"));
    assert!(page.head.contains("content-type: text/x") && !page.head.contains("etag"));
    let of_nothing = ask(&replica, "GET /404?empty", &[]).await;
    assert_eq!((of_nothing.status, of_nothing.body.as_str()), (404, "not here"));
    let made = ask(&replica, "GET /418?q=1", &[]).await;
    assert_eq!((made.status, made.body.as_str()), (418, "418 /418?q=1"));
    assert!(made.head.contains("content-type: text/y"), "{made:?}");
    let head = ask(&replica, "HEAD /404", &[]).await;
    assert_eq!((head.status, head.body.as_str()), (404, ""));
    assert!(head.head.contains("content-length: 8"), "{head:?}");
    // A connection goes on behind a page.
    let one = "GET /404 HTTP/1.1\r\nHost: a\r\n";
    let two = format!("{one}\r\n{one}Connection: close\r\n\r\n");
    let text = talk(replica.http, two.as_bytes()).await;
    assert_eq!(text.matches("not here").count(), 2, "{text}");
    assert_eq!(text.matches("inner").count(), 0, "{text}");
    replica.set_endpoints(&[nobody()]);
    let own = ask(&replica, "GET /200", &[]).await;
    assert_eq!((own.status, own.body.as_str()), (502, "not here"));
}

#[tokio::test]
async fn without_its_page_an_error_is_plain_and_never_goes_round() {
    let pages = r#"{"errorPages":{"pages":[
        {"statuses":[500,502,503],"from":{"backend":"Service/test/web:80"}}]}}"#;
    let mut replica = Replica::start();
    replica.serve_as(&[nobody()], BackendProtocol::Http1, filters(&[pages]));
    let answer = ask(&replica, "GET /", &[]).await;
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("502 Bad Gateway"), "{answer:?}");
}
