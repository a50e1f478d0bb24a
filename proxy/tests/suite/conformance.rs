//! HTTP/2 as RFC 9113 and RFC 7541 want it of a server: a sequence of frames, and what has to follow.

mod hpack;
mod messages;
mod streams;

use std::time::Duration;

use kubeng_harness::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, RawClient,
    SETTINGS,
};
use tokio::time::timeout;

use crate::support::*;

/// What has to follow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// The request on this stream is answered with this status.
    Answer(u32, u16),
    /// The stream is reset with one of these codes; where the RFC lets a server choose, the connection
    /// may end instead.
    Reset(&'static [u32]),
    /// GOAWAY with one of these codes, or the end of the connection.
    End(&'static [u32]),
    /// This frame comes back: its type and flags.
    Frame(u8, u8),
    /// The connection is as alive as before: a PING is answered.
    Alive,
}

pub(crate) struct Case {
    /// Section of the RFC, and what is done.
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Frame>,
    pub(crate) then: Then,
}

pub(crate) fn case(name: &'static str, frames: Vec<Frame>, then: Then) -> Case {
    Case { name, frames, then }
}

pub(crate) fn fields(method: &str) -> Vec<u8> {
    frames::block(&[(":method", method), (":scheme", "http"), (":authority", "a"), (":path", "/")])
}

pub(crate) fn get(stream: u32) -> Frame {
    Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, fields("GET"))
}

pub(crate) fn post(stream: u32) -> Frame {
    Frame::new(HEADERS, END_HEADERS, stream, fields("POST"))
}

pub(crate) const PROTOCOL: u32 = 1;
pub(crate) const FLOW: u32 = 3;
pub(crate) const CLOSED: u32 = 5;
pub(crate) const SIZE: u32 = 6;
pub(crate) const REFUSED: u32 = 7;
pub(crate) const COMPRESSION: u32 = 9;

async fn run(replica: &Replica, case: &Case) -> Result<(), String> {
    let mut client = RawClient::open(replica.http, &[]).await.map_err(|e| e.to_string())?;
    let _ = client.send_frames(&case.frames).await;
    let probe = *b"are you?";
    if let Then::Alive = case.then {
        let _ = client.send_frames(&[Frame::new(PING, 0, 0, probe)]).await;
    }
    let mut seen = Vec::new();
    let watched = timeout(Duration::from_secs(3), async {
        loop {
            let Some(frame) = client.next().await else {
                return matches!(case.then, Then::End(_) | Then::Reset(_));
            };
            seen.push((frame.kind, frame.flags, frame.stream, frame.error_code()));
            match (case.then, frame.kind) {
                (Then::Answer(stream, status), HEADERS) if frame.stream == stream => {
                    return frame.status() == Some(status);
                }
                (Then::Reset(codes), RST_STREAM | GOAWAY) | (Then::End(codes), GOAWAY) => {
                    return frame.error_code().is_some_and(|code| codes.contains(&code));
                }
                (Then::Frame(kind, flags), got) if kind == got && flags == frame.flags => {
                    return true;
                }
                (Then::Alive, PING) if frame.payload == probe => return frame.flags == 1,
                _ => {}
            }
        }
    });
    if watched.await == Ok(true) { Ok(()) } else { Err(format!("{:?}, saw {seen:?}", case.then)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_to_the_letter() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let mut cases = streams::cases();
    cases.extend(messages::cases());
    cases.extend(hpack::cases());
    assert!(cases.len() >= 150, "{}", cases.len());
    let mut faults = Vec::new();
    for part in cases.chunks(8) {
        let runs = part.iter().map(|case| async {
            run(&replica, case).await.err().map(|fault| format!("{}: {fault}", case.name))
        });
        faults.extend(futures::future::join_all(runs).await.into_iter().flatten());
    }
    eprintln!("{} cases, {} faults", cases.len(), faults.len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn what_is_no_preface_ends_the_connection() {
    let replica = Replica::start();
    let whole = [frames::PREFACE, &frames::settings(&[]).bytes()].concat();
    for at in [3, 4, 8, 14, 16, 18, 20, 22, 23] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        let mut client = RawClient::connect(replica.http).await.unwrap();
        client.send(&bytes).await.unwrap();
        let ended =
            timeout(Duration::from_secs(5), async { while client.next().await.is_some() {} });
        ended.await.expect("the connection ends");
    }
    // The first frame has to be SETTINGS.
    for first in [
        Frame::new(PING, 0, 0, "12345678"),
        Frame::new(DATA, 0, 1, "x"),
        Frame::new(SETTINGS, 1, 0, ""),
    ] {
        let mut client = RawClient::connect(replica.http).await.unwrap();
        client.send(&[frames::PREFACE, &first.bytes()].concat()).await.unwrap();
        let ended =
            timeout(Duration::from_secs(5), async { while client.next().await.is_some() {} });
        ended.await.expect("the connection ends");
    }
}
