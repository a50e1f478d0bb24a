//! Floods of HTTP/2: each is cut, or costs next to nothing. What is counted is frames, connections
//! to the Backend and requests there, never time.

use std::time::Duration;

use kubeng_config::backend::BackendProtocol;
use kubeng_harness::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING,
    PRIORITY, RST_STREAM, RawClient, SETTINGS, WINDOW_UPDATE,
};
use tokio::time::timeout;

use crate::recorder::Recorder;
use crate::support::*;

fn head(method: &str, path: &str) -> Vec<u8> {
    frames::block(&[(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)])
}

fn request(stream: u32) -> Frame {
    Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, head("GET", "/"))
}

fn upload(stream: u32) -> Frame {
    Frame::new(HEADERS, END_HEADERS, stream, head("POST", "/"))
}

/// What came of a flood.
struct End {
    /// The error code of GOAWAY, where one came.
    code: Option<u32>,
    /// Whether the connection ended.
    is_cut: bool,
    /// Connections that the Backend got.
    connections: usize,
}

/// Sends all frames and watches for the end of the connection.
async fn flood(replica: &Replica, recorder: &Recorder, list: &[Frame]) -> End {
    let mut client = RawClient::open(replica.http, &[]).await.unwrap();
    // Most is never read: the connection has ended by then.
    let _ = client.send_frames(list).await;
    let mut end = End { code: None, is_cut: false, connections: 0 };
    let watched = timeout(Duration::from_secs(3), async {
        while let Some(frame) = client.next().await {
            if frame.kind == GOAWAY && frame.error_code() != Some(0) {
                end.code = frame.error_code();
            }
        }
    });
    end.is_cut = watched.await.is_ok();
    drop(client);
    end.connections = recorder.take().await.len();
    end
}

async fn rig() -> (Replica, Recorder) {
    let mut replica = Replica::start();
    let (address, recorder) = Recorder::start().await;
    replica.serve_as(&[address], BackendProtocol::Http1, vec![]);
    (replica, recorder)
}

const CALM: u32 = 11;
/// Streams that may be open at once; as many connections may a client cause at the Backend.
const STREAMS: usize = 100;

#[track_caller]
fn counted(replica: &Replica, rule: &str) {
    let metrics = replica.proxy.facts().metrics();
    let line = format!("kubeng_requests_refused_total{{rule=\"{rule}\"}} 1");
    assert!(metrics.contains(&line), "{line} in {metrics}");
}

/// A flood that our accountant cuts, with `rule`.
async fn cut_by(rule: &str, list: &[Frame]) {
    let (replica, recorder) = rig().await;
    let end = flood(&replica, &recorder, list).await;
    assert!(end.is_cut, "{rule}");
    // Where the socket of the client is full of our answers, GOAWAY may be lost.
    assert!(end.code.is_none_or(|code| code == CALM), "{rule}: {:?}", end.code);
    assert!(end.connections <= STREAMS + 1, "{rule}: {}", end.connections);
    until_counted(&replica, rule).await;
    // Others are served.
    assert_eq!(get(replica.http, "a", "/").await.status, 200);
}

/// The connection is counted once it has ended, which may be a moment after its client has seen it.
async fn until_counted(replica: &Replica, rule: &str) {
    let line = format!("kubeng_requests_refused_total{{rule=\"{rule}\"}} 1");
    crate::recorder::until(|| replica.proxy.facts().metrics().contains(&line)).await;
    counted(replica, rule);
}

/// A flood that the engine cuts, or that is harmless.
async fn harmless(name: &str, list: &[Frame], must_be_cut: bool) {
    let (replica, recorder) = rig().await;
    let end = flood(&replica, &recorder, list).await;
    assert!(end.is_cut || !must_be_cut, "{name}");
    assert!(end.connections <= STREAMS + 1, "{name}: {}", end.connections);
    assert_eq!(get(replica.http, "a", "/").await.status, 200, "{name}");
}

#[tokio::test]
async fn rapid_reset() {
    let cancel = |stream| Frame::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes());
    let list: Vec<Frame> =
        (0..5_000).flat_map(|n| [request(2 * n + 1), cancel(2 * n + 1)]).collect();
    cut_by("reset_flood", &list).await;
}

#[tokio::test]
async fn settings_pings_and_unknown_frames() {
    cut_by("control_flood", &vec![Frame::new(SETTINGS, 0, 0, ""); 20_000]).await;
    cut_by("control_flood", &vec![Frame::new(PING, 0, 0, "12345678"); 20_000]).await;
    cut_by("control_flood", &vec![Frame::new(0xAA, 0, 0, "x"); 20_000]).await;
    // An acknowledgement of nothing is an error of its own.
    harmless("SETTINGS ACK", &vec![Frame::new(SETTINGS, 1, 0, ""); 20_000], true).await;
}

#[tokio::test]
async fn a_thousand_control_frames_are_fine() {
    let (replica, _) = rig().await;
    let mut client = RawClient::open(replica.http, &[]).await.unwrap();
    client.send_frames(&vec![Frame::new(PING, 0, 0, "12345678"); 900]).await.unwrap();
    client.send_frames(&[request(1)]).await.unwrap();
    let answer = timeout(Duration::from_secs(5), async {
        while let Some(frame) = client.next().await {
            if frame.kind == HEADERS {
                return frame.status();
            }
        }
        None
    });
    assert_eq!(answer.await.unwrap(), Some(200));
}

#[tokio::test]
async fn continuation() {
    let mut list = vec![Frame::new(HEADERS, END_STREAM, 1, head("GET", "/"))];
    list.extend(vec![Frame::new(CONTINUATION, 0, 1, frames::literal("n", "v")); 20_000]);
    harmless("CONTINUATION", &list, true).await;
    list.truncate(1);
    list.extend(vec![Frame::new(CONTINUATION, 0, 1, ""); 20_000]);
    cut_by("empty_frames", &list).await;
}

#[tokio::test]
async fn empty_data() {
    let mut list = vec![upload(1)];
    list.extend(vec![Frame::new(DATA, 0, 1, ""); 20_000]);
    cut_by("empty_frames", &list).await;
    list.truncate(1);
    list.extend(vec![Frame::new(DATA, PADDED, 1, [7, 0, 0, 0, 0, 0, 0, 0]); 20_000]);
    cut_by("empty_frames", &list).await;
}

#[tokio::test]
async fn made_you_reset() {
    // The server resets each stream for the fault of the client.
    let zero = |stream| Frame::new(WINDOW_UPDATE, 0, stream, [0, 0, 0, 0]);
    let list: Vec<Frame> = (0..5_000).flat_map(|n| [request(2 * n + 1), zero(2 * n + 1)]).collect();
    harmless("WINDOW_UPDATE of 0", &list, true).await;
    let own = |stream: u32| {
        let mut payload = stream.to_be_bytes().to_vec();
        payload.push(1);
        Frame::new(PRIORITY, 0, stream, payload)
    };
    let list: Vec<Frame> = (0..5_000).flat_map(|n| [request(2 * n + 1), own(2 * n + 1)]).collect();
    harmless("a stream that depends on itself", &list, true).await;
}

#[tokio::test]
async fn header_bombs() {
    // One entry of the table, which is then named thousands of times.
    let mut entry = vec![0x40];
    for text in ["n", &"v".repeat(3_900)] {
        frames::integer(text.len(), 7, 0, &mut entry);
        entry.extend_from_slice(text.as_bytes());
    }
    let mut bomb = head("GET", "/");
    bomb.extend(&entry);
    bomb.extend(vec![0xBE; 12_000]);
    let list: Vec<Frame> = (0..100)
        .map(|n| Frame::new(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, bomb.clone()))
        .filter(|frame| frame.payload.len() <= 16_384)
        .collect();
    assert!(!list.is_empty());
    harmless("HPACK bomb", &list, false).await;
    let mut crumbs = head("GET", "/");
    crumbs.extend([0x40]);
    frames::integer(6, 7, 0, &mut crumbs);
    crumbs.extend(b"cookie\x00");
    crumbs.extend(vec![0xBE; 15_000]);
    let list: Vec<Frame> = (0..100)
        .map(|n| Frame::new(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, crumbs.clone()))
        .collect();
    let (replica, recorder) = rig().await;
    let end = flood(&replica, &recorder, &list).await;
    // None has a hundred fields, so none gets there.
    assert_eq!(end.connections, 0);
}

#[tokio::test]
async fn priorities_and_windows() {
    cut_by("priority_flood", &vec![Frame::new(PRIORITY, 0, 3, [0, 0, 0, 1, 1]); 20_000]).await;
    cut_by("window_flood", &vec![Frame::new(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1]); 20_000]).await;
}

#[tokio::test]
async fn a_thousand_streams() {
    let list: Vec<Frame> = (0..1_000).map(|n| upload(2 * n + 1)).collect();
    harmless("1,000 open streams", &list, false).await;
}

#[tokio::test]
async fn a_window_of_zero_ends_within_its_limit() {
    let mut given = settings();
    given.limits.write_stall = Duration::from_millis(300);
    let mut replica = Replica::with(given);
    static BODY: [u8; 200_000] = [b'x'; 200_000];
    let text: &'static str = std::str::from_utf8(&BODY).unwrap();
    replica.serve(&[serve_text(text).await]);
    let mut client = RawClient::open(replica.http, &[(4, 0)]).await.unwrap();
    let list: Vec<Frame> = (0..100).map(|n| request(2 * n + 1)).collect();
    client.send_frames(&list).await.unwrap();
    let resets = timeout(Duration::from_secs(10), async {
        let mut resets = 0;
        while let Some(frame) = client.next().await {
            resets += usize::from(frame.kind == RST_STREAM);
            if resets == 100 {
                break;
            }
        }
        resets
    });
    assert_eq!(resets.await.expect("every stream ends"), 100);
}

/// The kinds of frames that come until the connection ends.
async fn until_end(client: &mut RawClient) -> Vec<Frame> {
    let mut all = Vec::new();
    let read = timeout(Duration::from_secs(10), async {
        while let Some(frame) = client.next().await {
            all.push(frame);
        }
    });
    read.await.expect("the connection ends");
    all
}

#[tokio::test]
async fn an_idle_connection_ends_with_goaway() {
    let mut given = settings();
    given.limits.idle = Duration::from_millis(200);
    let replica = Replica::with(given);
    let mut client = RawClient::open(replica.http, &[]).await.unwrap();
    let all = until_end(&mut client).await;
    let goaway = all.iter().find(|frame| frame.kind == GOAWAY);
    assert_eq!(goaway.and_then(Frame::error_code), Some(0), "{all:?}");
}

#[tokio::test]
async fn a_connection_ends_when_it_is_old() {
    let mut given = settings();
    given.limits.age = Duration::from_millis(300);
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("hello").await]);
    let mut client = RawClient::open(replica.http, &[]).await.unwrap();
    client.send_frames(&[request(1)]).await.unwrap();
    let mut all = Vec::new();
    let read = timeout(Duration::from_secs(10), async {
        while let Some(frame) = client.next().await {
            if frame.kind == PING && frame.flags == 0 {
                // GOAWAY is final once the client has answered.
                let answer = Frame::new(PING, 1, 0, frame.payload.clone());
                client.send_frames(&[answer]).await.unwrap();
            }
            all.push(frame);
        }
    });
    read.await.expect("the connection ends");
    let goaway = all.iter().find(|frame| frame.kind == GOAWAY);
    assert_eq!(goaway.and_then(Frame::error_code), Some(0), "{all:?}");
    assert!(all.iter().any(|frame| frame.status() == Some(200)), "{all:?}");
    // HTTP/1 says so in its answer.
    let mut tcp = tokio::net::TcpStream::connect(replica.http).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut tcp, text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut tcp, &mut answer);
    let read = timeout(Duration::from_secs(10), read).await;
    assert!(read.is_ok(), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_connection_ends_after_its_requests() {
    let mut given = settings();
    given.limits.requests_max = 3;
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("hello").await]);
    let mut client = RawClient::open(replica.http, &[]).await.unwrap();
    client.send_frames(&[request(1), request(3), request(5)]).await.unwrap();
    let mut answers = 0;
    let mut is_told = false;
    let read = timeout(Duration::from_secs(10), async {
        while let Some(frame) = client.next().await {
            answers += usize::from(frame.kind == HEADERS && frame.status() == Some(200));
            is_told |= frame.kind == GOAWAY && frame.error_code() == Some(0);
            if frame.kind == PING && frame.flags == 0 {
                let answer = Frame::new(PING, 1, 0, frame.payload);
                client.send_frames(&[answer]).await.unwrap();
            }
        }
    });
    read.await.expect("the connection ends");
    assert_eq!((answers, is_told), (3, true));
}
