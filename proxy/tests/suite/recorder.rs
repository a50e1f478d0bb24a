//! A Backend that notes every byte, answers each request that it understands, and closes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::reference::{self, Arrived, Read};
use crate::support::spawn;

/// What arrived since it was asked last.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    connections: Vec<Vec<u8>>,
    open: usize,
}

impl Recorder {
    /// Starts one on a free port. Everything that it answers is `answer`, and then it closes.
    pub(crate) async fn start() -> (SocketAddr, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Self::default();
        let recorder = this.clone();
        spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let number = {
                    let mut record = recorder.0.lock().unwrap();
                    record.open += 1;
                    record.connections.push(Vec::new());
                    record.connections.len() - 1
                };
                spawn(recorder.clone().serve(tcp, number));
            }
        });
        (address, this)
    }

    async fn serve(self, mut tcp: TcpStream, number: usize) {
        let mut bytes = Vec::new();
        let mut is_answered = false;
        // Read to the end: whatever follows a request is news.
        while tcp.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            if let Some(noted) = self.0.lock().unwrap().connections.get_mut(number) {
                noted.clone_from(&bytes);
            }
            let is_head = bytes.starts_with(b"HEAD ");
            if !is_answered && !matches!(reference::read(&bytes), Read::Partial) {
                is_answered = true;
                let body = if is_head { "" } else { "ok" };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{body}"
                );
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        }
        self.0.lock().unwrap().open -= 1;
    }

    /// Waits until bytes have arrived.
    pub(crate) async fn bytes(&self) {
        let has_bytes = || self.0.lock().unwrap().connections.iter().any(|c| !c.is_empty());
        until(has_bytes).await;
    }

    /// Waits until all connections have ended, and takes what arrived on each.
    pub(crate) async fn take(&self) -> Vec<Vec<u8>> {
        until(|| self.0.lock().unwrap().open == 0).await;
        std::mem::take(&mut self.0.lock().unwrap().connections)
    }
}

/// The requests in what arrived; an error tells what is ambiguous, doubled, or cut off where it may
/// not be.
pub(crate) fn requests(connections: &[Vec<u8>], may_be_cut: bool) -> Result<Vec<Arrived>, String> {
    let mut all = Vec::new();
    for bytes in connections {
        let shown = String::from_utf8_lossy(bytes);
        match reference::read(bytes) {
            Read::Whole(arrived, taken) if taken == bytes.len() => all.push(arrived),
            Read::Whole(_, taken) => {
                return Err(format!("bytes behind a request of {taken}: {shown:?}"));
            }
            Read::Partial if may_be_cut => {}
            Read::Partial => return Err(format!("early: {shown:?}")),
            Read::Ambiguous(why) => return Err(format!("ambiguous, {why}: {shown:?}")),
        }
    }
    Ok(all)
}

/// Waits for what is to become true at once; 5 s are for a machine under load.
pub(crate) async fn until(mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_true() && Instant::now() < deadline {
        // Most waits are for a task that is ready already.
        let _ = timeout(Duration::from_micros(300), sleep(Duration::from_secs(1))).await;
    }
}
