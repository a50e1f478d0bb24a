//! Runs cases one after the other against a replica of their own.

use std::net::SocketAddr;
use std::time::Duration;

use kubeng_config::backend::BackendProtocol;
use kubeng_config::matching::HostMatch;
use kubeng_config::route::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::case::{Case, End, Step};
use super::paths;
use crate::recorder::{Recorder, requests};
use crate::reference::Arrived;
use crate::support::*;

/// A replica with two Backends: one for `/admin`, one for all else.
pub(crate) struct Lane {
    replica: Replica,
    web: Recorder,
    admin: Recorder,
}

impl Lane {
    pub(crate) async fn start() -> Self {
        let mut given = settings();
        given.workers = 1;
        let mut replica = Replica::with(given);
        let (web_at, web) = Recorder::start().await;
        let (admin_at, admin) = Recorder::start().await;
        let forward = |name| Action::Forward(vec![to(name)]);
        let parts = [
            backend("web", BackendProtocol::Http1),
            backend("admin", BackendProtocol::Http1),
            route("all", HostMatch::Any, "/", vec![], forward("web")),
            route("admin", HostMatch::Any, "/admin", vec![], forward("admin")),
        ];
        let set = |name, address| (backend_id(name), endpoint_set(&[address]));
        replica.change_with(parts, [], [set("web", web_at), set("admin", admin_at)], []);
        Self { replica, web, admin }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.replica.http
    }

    /// Waits until a Backend has bytes.
    pub(crate) async fn bytes(&self) {
        self.web.bytes().await;
    }

    /// What the Backends got; an error when it is not canonical, or not for them.
    pub(crate) async fn arrived(&self, may_be_cut: bool) -> Result<Vec<Arrived>, String> {
        let mut all = requests(&self.web.take().await, may_be_cut)?;
        for request in &all {
            let target = request.line.split(' ').nth(1).unwrap_or_default();
            if paths::reads_as_admin(target) {
                return Err(format!("bypass: {target}"));
            }
        }
        all.extend(requests(&self.admin.take().await, may_be_cut)?);
        for request in &mut all {
            request.fields.retain(|(name, _)| !OURS.contains(&name.as_str()));
        }
        Ok(all)
    }

    /// An error says what went wrong.
    pub(crate) async fn run(&self, case: &Case) -> Result<(), String> {
        let talked = timeout(Duration::from_secs(5), self.talk(case)).await;
        let arrived = self.arrived(matches!(case.verdict.end, End::Cut(_))).await?;
        let statuses = talked.map_err(|_| "nothing happened".to_owned())??;
        let mut expected = Vec::new();
        let mut expected_statuses = Vec::new();
        for step in &case.verdict.steps {
            match step {
                Step::Arrives(request) => {
                    expected.push(request.clone());
                    expected_statuses.push(200);
                }
                Step::Own(status) => expected_statuses.push(*status),
            }
        }
        match case.verdict.end {
            End::Refused(status) | End::Cut(status) => expected_statuses.push(status),
            End::Open | End::Closed | End::Silent => {}
        }
        if statuses != expected_statuses {
            return Err(format!("answers {statuses:?}, not {expected_statuses:?}; {arrived:?}"));
        }
        if arrived != expected {
            return Err(format!("arrived {arrived:?}, not {expected:?}"));
        }
        Ok(())
    }

    /// Sends the case and reads answers until the end: the status of each.
    async fn talk(&self, case: &Case) -> Result<Vec<u16>, String> {
        let mut tcp = TcpStream::connect(self.address()).await.map_err(|e| e.to_string())?;
        for (number, piece) in case.pieces.iter().enumerate() {
            if number > 0 {
                self.bytes().await;
            }
            // A proxy that has refused already need not take the rest.
            let _ = tcp.write_all(piece).await;
        }
        let answers = case.verdict.steps.len();
        let is_head = case.pieces.concat().starts_with(b"HEAD ");
        let mut bytes = Vec::new();
        let mut statuses = Vec::new();
        let mut is_ended = false;
        loop {
            while let Some((status, rest)) = read_answer(&bytes, is_head)? {
                statuses.extend((status >= 200).then_some(status));
                bytes = rest;
            }
            let is_wrong = statuses.len() > answers && statuses.last() == Some(&200);
            let is_done = case.verdict.end == End::Open && statuses.len() >= answers;
            if (is_done || is_wrong) && !is_ended {
                is_ended = true;
                let _ = tcp.shutdown().await;
            }
            match tcp.read_buf(&mut bytes).await {
                Ok(0) => break,
                // The end of a connection of which the proxy did not read all.
                Err(_) if !statuses.is_empty() => break,
                Err(error) => return Err(error.to_string()),
                Ok(_) => {}
            }
        }
        if !bytes.is_empty() {
            return Err(format!("half an answer: {}", bytes.escape_ascii()));
        }
        if case.verdict.end == End::Open && !is_ended {
            return Err(format!("closed after {statuses:?}"));
        }
        Ok(statuses)
    }
}

/// The first whole answer: its status, and what follows.
fn read_answer(bytes: &[u8], is_head: bool) -> Result<Option<(u16, Vec<u8>)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no status in {head:?}"))?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = if is_head || status < 200 { None } else { length };
    let length: usize = length.map_or(Ok(0), str::parse).map_err(|_| head.clone())?;
    let is_refusal = matches!(status, 400 | 408 | 413 | 414 | 417 | 431 | 501 | 505);
    if is_refusal && !head.contains("\r\nconnection: close") {
        return Err(format!("refused without close: {head:?}"));
    }
    Ok(bytes.get(end + 4 + length..).map(|rest| (status, rest.to_vec())))
}

/// Fields that the proxy writes itself.
const OURS: [&str; 7] = [
    "connection",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];
