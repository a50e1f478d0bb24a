//! Backends that answer badly: what the client gets, and that nothing of it stays behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kubeng_config::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::*;

/// What the Backend does behind its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Close,
    Reset,
    Stall,
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gets {
    /// An answer of ours.
    Status(u16),
    /// This answer, whole.
    Whole(u16, &'static str),
    /// This answer, visibly cut off.
    Cut(u16),
    /// Either is right: what was sent may be lost with the connection.
    CutOr(u16),
}

use Gets::{Cut, CutOr, Status, Whole};
use Then::{Close, Reset, Stall};

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// Bytes of an answer, what follows, what the client of a GET and of a POST gets.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn cases() -> Vec<(String, Then, Gets)> {
    let ok = |rest: &str| format!("{OK}{rest}");
    let many = |count: usize, line: &str| line.repeat(count);
    let mut all = vec![
        (String::new(), Close, Status(502)),
        (String::new(), Reset, Status(502)),
        (String::new(), Stall, Status(504)),
        ("HTTP/1.1".to_owned(), Close, Status(502)),
        (OK.to_owned(), Close, Status(502)),
        (OK.to_owned(), Reset, Status(502)),
        (OK.to_owned(), Stall, Status(504)),
        (ok("Content-Length: 2\r\n\r\nok"), Close, Whole(200, "ok")),
        (ok("Content-Length: 2\r\n\r\nok"), Stall, Whole(200, "ok")),
        (ok("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), Close, Whole(200, "ok")),
        (
            ok("Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nN: v\r\n\r\n"),
            Close,
            Whole(200, "ok"),
        ),
        (ok("\r\nok"), Close, Whole(200, "ok")),
        ("HTTP/1.0 200 OK\r\n\r\nok".to_owned(), Close, Whole(200, "ok")),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok".to_owned(), Close, Whole(200, "ok")),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), Close, Whole(204, "")),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".to_owned(),
            Close,
            Whole(304, ""),
        ),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".to_owned(), Close, Whole(204, "")),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            Close,
            Whole(204, ""),
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            Close,
            Whole(304, ""),
        ),
        ("HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n".to_owned(), Close, Whole(599, "")),
        (ok("Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n"), Close, Whole(200, "ok")),
        (ok("Content-Length: 9\r\n\r\nhalf"), Close, Cut(200)),
        (ok("Content-Length: 9\r\n\r\nhalf"), Reset, CutOr(502)),
        (ok("Content-Length: 9\r\n\r\nhalf"), Stall, CutOr(504)),
        (ok("Content-Length: 9\r\n\r\n"), Close, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), Close, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), Reset, CutOr(502)),
        (ok("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), Stall, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\n4\r\nha"), Close, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\n"), Close, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\nx\r\nhalf\r\n0\r\n\r\n"), Close, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\n-4\r\nhalf\r\n0\r\n\r\n"), Close, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhalf\r\n"), Close, Cut(200)),
        (ok("Transfer-Encoding: chunked\r\n\r\n4\r\nhalfXX0\r\n\r\n"), Close, Cut(200)),
        (ok("\r\nhalf"), Reset, CutOr(502)),
        (ok("\r\nhalf"), Stall, Cut(200)),
    ];
    for bad in [
        "hello",
        "\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTX/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 Odd\r\n\r\n",
        "HTTP/1.1 999 Odd\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "200 OK\r\n\r\n",
        "HTTP/1.1\t200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00",
    ] {
        all.push((bad.to_owned(), Close, Status(502)));
    }
    for bad in [
        "Content-Length: x\r\n\r\nok",
        "Content-Length: +2\r\n\r\nok",
        "Content-Length: -2\r\n\r\nok",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "Content-Length: 2, 3\r\n\r\nok",
        "Content-Length: 99999999999999999999\r\n\r\nok",
        "Content-Length: 0x2\r\n\r\nok",
        "Content-Length:\r\n\r\nok",
        "Transfer-Encoding: gzip\r\n\r\nok",
        "Transfer-Encoding: chunked, gzip\r\n\r\nok",
        "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\nok",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\nok",
        "Transfer-Encoding:\r\n\r\nok",
        "No colon\r\n\r\nok",
        ": v\r\n\r\nok",
        "N\0: v\r\n\r\nok",
        "N: a\0b\r\n\r\nok",
        "N: a\x01b\r\n\r\nok",
        "N m: v\r\n\r\nok",
        "(N): v\r\n\r\nok",
        "Content_Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "N : v\r\nContent-Length: 2\r\n\r\nok",
        "N: v\r\n w\r\nContent-Length: 2\r\n\r\nok",
        "N: v\nContent-Length: 2\n\nok",
    ] {
        all.push((ok(bad), Close, Status(502)));
    }
    all.push((ok(&format!("N: {}\r\n\r\nok", "v".repeat(70_000))), Close, Status(502)));
    all.push((ok(&format!("{}\r\nok", many(201, "N: v\r\n"))), Close, Status(502)));
    all.push((ok(&format!("{}\r\nok", many(150, "N: v\r\n"))), Close, Whole(200, "ok")));
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let whole = ok("Content-Length: 2\r\n\r\nok");
    all.push((many(8, hints) + &whole, Close, Whole(200, "ok")));
    all.push((many(9, hints) + &whole, Close, Status(502)));
    all.push((many(1_000, "HTTP/1.1 100 Continue\r\n\r\n") + &whole, Close, Status(502)));
    all.push(("HTTP/1.1 100 Continue\r\n\r\n".to_owned() + &whole, Close, Whole(200, "ok")));
    all.push(("HTTP/1.1 102 Processing\r\n\r\n".to_owned() + &whole, Close, Whole(200, "ok")));
    all.push((hints.to_owned(), Close, Status(502)));
    all
}

/// What may be read in one way only.
fn lenient() -> Vec<(String, Then, Gets)> {
    let ok = |rest: &str| (format!("{OK}{rest}"), Close, Whole(200, "ok"));
    vec![ok("Content-Length: 2\r\nContent-Length: 2\r\n\r\nok")]
}

/// A Backend that reads one request, sends `answer`, and goes on as it is told. It counts requests.
async fn serve_raw(answer: String, then: Then) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            spawn(answer_raw(tcp, answer.clone(), then, count.clone()));
        }
    });
    (address, requests)
}

async fn answer_raw(mut tcp: TcpStream, answer: String, then: Then, requests: Arc<AtomicUsize>) {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let is_whole = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.split_once("\r\n\r\n").is_some_and(|(_, body)| match text.get(..4) {
                Some("POST") => body.len() == 2,
                Some("PUT ") => body.ends_with("0\r\n\r\n"),
                _ => true,
            })
        };
        while !is_whole(&bytes) {
            if !matches!(tcp.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
        if tcp.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        match then {
            Close => return,
            Reset => {
                let _ = tcp.set_zero_linger();
                return;
            }
            // A further request on the same connection would be seen.
            Stall => {}
        }
    }
}

/// What a client reads: status, body, and whether the body came to its end.
async fn ask(to: std::net::SocketAddr, method: &str) -> Result<(u16, String, bool), String> {
    let body = match method {
        "POST" => "Content-Length: 2\r\n\r\nhi",
        // Chunked, so that the other engine carries it.
        "PUT" => "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        _ => "\r\n",
    };
    let text = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{body}");
    let mut tcp = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
    tcp.write_all(text.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(5), tcp.read_to_end(&mut bytes)).await;
    let is_reset = read.map_err(|_| format!("hangs after {}", bytes.escape_ascii()))?.is_err();
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    loop {
        // An end without any answer is as visible as one in the middle of a body.
        if text.is_empty() {
            return Ok((0, String::new(), false));
        }
        let (head, body) = text.split_once("\r\n\r\n").ok_or(format!("no head in {text:?}"))?;
        let lower = head.to_ascii_lowercase();
        let status: u16 = lower.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(head)?;
        if status < 200 {
            if status != 103 {
                return Err(format!("relayed {status}"));
            }
            text = body.to_owned();
            continue;
        }
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        if status == 204 && length.is_some() {
            return Err("a length on 204".to_owned());
        }
        if status == 204 || status == 304 {
            return Ok((status, body.to_owned(), !is_reset));
        }
        if lower.contains("transfer-encoding: chunked") {
            let whole = body.strip_suffix("0\r\n\r\n");
            let data = whole.unwrap_or(body).replace("\r\n", "");
            let data = data.trim_start_matches(|c: char| c.is_ascii_hexdigit()).to_owned();
            return Ok((status, data, whole.is_some()));
        }
        let length = length.and_then(|length| length.parse().ok());
        return Ok((status, body.to_owned(), length == Some(body.len())));
    }
}

async fn check(answer: &str, then: Then, gets: Gets, method: &str) -> Result<(), String> {
    let mut given = settings();
    given.workers = 1;
    let mut replica = Replica::with(given);
    let mut value = Policy::default();
    value.timeouts.read = Duration::from_millis(300);
    replica.change([policy("default", value)]);
    let (address, requests) = serve_raw(answer.to_owned(), then).await;
    replica.serve(&[address]);
    let (status, body, is_whole) = ask(replica.http, method).await?;
    let is_right = match gets {
        Status(wanted) => (status, is_whole) == (wanted, true),
        Whole(wanted, text) => status == wanted && is_whole && body == text,
        Cut(wanted) => status == wanted && !is_whole,
        CutOr(other) => !is_whole || status == other,
    };
    let count = requests.load(Ordering::Relaxed);
    if !is_right || (method == "POST" && count != 1) {
        return Err(format!("got {status} {body:?}, whole: {is_whole}, sent {count} times"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_answers_are_502_or_visibly_cut_and_posts_are_sent_once() {
    let mut all = cases();
    assert!(all.len() >= 50, "{}", all.len());
    all.extend(lenient());
    judge(all, &["GET", "POST"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_answers_to_chunked_requests_are_502_or_visibly_cut() {
    let all = cases().into_iter().chain(lenient());
    judge(all.collect(), &["PUT"]).await;
}

async fn judge(all: Vec<(String, Then, Gets)>, methods: &[&'static str]) {
    let mut faults = Vec::new();
    for part in all.chunks(8) {
        let runs = part.iter().flat_map(|case| methods.iter().map(move |&method| (case, method)));
        let runs = runs.map(|((answer, then, gets), method)| async move {
            let fault = check(answer, *then, *gets, method).await.err()?;
            let shown: String = answer.escape_debug().take(120).collect();
            Some(format!("{method} {shown} {then:?}: {fault}, not {gets:?}"))
        });
        faults.extend(futures::future::join_all(runs).await.into_iter().flatten());
    }
    eprintln!("{} answers to each of {methods:?}; {} faults", all.len(), faults.len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn a_connection_with_stray_bytes_is_never_used_again() {
    let mut replica = Replica::start();
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let (address, requests) = serve_raw(answer.to_owned(), Stall).await;
        replica.serve(&[address]);
        for _ in 0..3 {
            let answer = get(replica.http, "a", "/").await;
            assert!(!answer.body.contains("evil"), "{answer:?}");
        }
        assert_eq!(requests.load(Ordering::Relaxed), 3);
    }
}
