//! Backends that misbehave on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kubeng_config::backend::Backend;
use kubeng_config::matching::HostMatch;
use kubeng_config::policy::Policy;
use kubeng_config::route::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// Answers 200 with this body, and keeps the connection.
    Answer(&'static str),
    /// Answers with this status and no body.
    Status(u16),
    /// Answers nothing for a long time.
    Swallow,
    /// Closes the connection.
    Close,
    /// Sends this and closes the connection.
    Send(&'static str),
    /// Sends a head, then a chunk of a byte every 50 ms without an end.
    Trickle,
    /// Sends interim answers without an end.
    Interim,
}

/// A Backend that does the deeds in order, one for each request; the last one again and again.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) async fn start(deeds: &'static [Deed]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), deeds)
    }

    pub(crate) fn on(listener: TcpListener, deeds: &'static [Deed]) -> Self {
        let address = listener.local_addr().unwrap();
        let (requests, connections) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let this = Self { address, requests: requests.clone(), connections: connections.clone() };
        spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let requests = requests.clone();
                spawn(async move { drop(connection(tcp, &requests, deeds).await) });
            }
        });
        this
    }

    /// Requests that were read as a whole.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn connection(
    mut tcp: TcpStream,
    requests: &AtomicUsize,
    deeds: &[Deed],
) -> std::io::Result<()> {
    let mut held = Vec::new();
    while read_request(&mut tcp, &mut held).await? {
        let number = requests.fetch_add(1, Ordering::SeqCst);
        let deed = deeds.get(number).or(deeds.last()).copied().unwrap();
        match deed {
            Deed::Answer(body) => {
                let text =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                tcp.write_all(text.as_bytes()).await?;
            }
            Deed::Status(status) => {
                let text = format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
                tcp.write_all(text.as_bytes()).await?;
            }
            Deed::Swallow => tokio::time::sleep(Duration::from_secs(60)).await,
            Deed::Close => return Ok(()),
            Deed::Send(text) => return tcp.write_all(text.as_bytes()).await,
            Deed::Trickle => {
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                tcp.write_all(head).await?;
                loop {
                    tcp.write_all(b"1\r\nx\r\n").await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Deed::Interim => loop {
                tcp.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            },
        }
    }
    Ok(())
}

/// Reads one request with its body; false at the end of the connection.
async fn read_request(tcp: &mut TcpStream, held: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut space = [0; 16 * 1024];
    loop {
        if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.map_or(0, |text| text.parse().unwrap());
            if held.len() >= whole {
                held.drain(..whole);
                return Ok(true);
            }
        }
        match tcp.read(&mut space).await? {
            0 => return Ok(false),
            count => held.extend_from_slice(&space[..count]),
        }
    }
}

impl Replica {
    /// Serves everything from one Backend under one Policy, both as they are changed.
    pub(crate) fn serve_with(
        &mut self,
        endpoints: &[SocketAddr],
        backend: impl FnOnce(&mut Backend),
        policy: impl FnOnce(&mut Policy),
    ) {
        let mut value = Policy::default();
        policy(&mut value);
        let parts = [
            crate::support::policy("default", value),
            backend_with("web", backend),
            route("all", HostMatch::Any, "/", vec![], Action::Forward(vec![to("web")])),
        ];
        self.change_with(parts, [], [(backend_id("web"), endpoint_set(endpoints))], []);
    }

    /// How many requests were not served for this reason.
    pub(crate) fn failures(&self, reason: &str) -> u64 {
        let line = format!("kubeng_request_failures_total{{reason=\"{reason}\"}} ");
        let text = self.proxy.facts().metrics();
        text.lines().find_map(|other| other.strip_prefix(&line)).unwrap().parse().unwrap()
    }

    /// All reasons for which some were not.
    fn all_failures(&self) -> String {
        let text = self.proxy.facts().metrics();
        let lines = text.lines().filter(|line| line.starts_with("kubeng_request_failures_total"));
        lines.filter(|line| !line.ends_with(" 0")).collect::<Vec<_>>().join(", ")
    }

    /// Waits until so many were counted: that comes after the answer.
    pub(crate) async fn until_failures(&self, reason: &str, count: u64) {
        let wanted = async {
            while self.failures(reason) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), wanted).await;
        assert!(in_time.is_ok(), "{reason}: fewer than {count} of {}", self.all_failures());
        assert_eq!(self.failures(reason), count, "{reason}");
    }
}

pub(crate) async fn post(to: SocketAddr, body: &str) -> Answer {
    let text = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Answer::read(&talk(to, text.as_bytes()).await)
}
