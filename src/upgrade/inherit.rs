//! The side of the next process: takes what the old one lends, and tells it when to leave.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kubeng_proxy::ListeningSockets;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use tokio::time::timeout;
use tracing::info;

use super::channel::{Channel, FORMAT, Message};
use crate::readiness::Readiness;

/// What the process before this one lends; empty where there was none.
#[derive(Default)]
pub(crate) struct Inherited {
    pub(crate) ports: Vec<ListeningSockets>,
    pub(crate) admin: Option<TcpListener>,
    pub(crate) data: Option<File>,
    pub(crate) before: Option<Before>,
}

/// The process before this one, which waits until this one serves.
pub(crate) struct Before(Channel);

/// Takes what a process before this one lends, if it was started by one.
///
/// # Errors
/// When that process does not say what this one understands, within [`LENT_WITHIN`].
pub(crate) async fn inherit() -> anyhow::Result<Inherited> {
    let stdin = std::io::stdin();
    let is_told = std::env::var_os(HANDOVER).is_some();
    // The variable may have leaked to a process that has another standard input.
    if !is_told || !matches!(socket_type(&stdin), Ok(SocketType::SEQPACKET)) {
        return Ok(Inherited::default());
    }
    let channel = Channel::on(stdin.as_fd().try_clone_to_owned()?)?;
    let all = timeout(LENT_WITHIN, receive_all(&channel)).await;
    let all = all.context("the process before this one does not lend its sockets")?;
    Ok(Inherited { before: Some(Before(channel)), ..all? })
}

async fn receive_all(channel: &Channel) -> anyhow::Result<Inherited> {
    let mut inherited = Inherited::default();
    let mut has_begun = false;
    while let Some((message, mut descriptors)) = channel.receive().await? {
        match message {
            Message::Begin { format } => {
                ensure!(format == FORMAT, "it lends in format {format}, this one takes {FORMAT}");
                has_begun = true;
            }
            Message::Ports { address } => {
                let sockets = descriptors.into_iter().map(TcpListener::from).collect();
                inherited.ports.push(ListeningSockets { address, sockets });
            }
            Message::Admin => inherited.admin = descriptors.pop().map(OwnedFd::into),
            Message::Data => inherited.data = descriptors.pop().map(OwnedFd::into),
            Message::End => {
                ensure!(has_begun, "it does not say in which format it lends");
                return Ok(inherited);
            }
            Message::Ready | Message::Go => bail!("the process before this one says {message:?}"),
        }
    }
    bail!("the process before this one ended before it had lent all of its sockets")
}

impl Before {
    /// Waits until this process serves, and tells the one before to leave.
    ///
    /// Ends when that one leaves, or has ended by itself.
    ///
    /// # Errors
    /// When it says something else.
    pub(crate) async fn take_over(self, readiness: Readiness) -> anyhow::Result<()> {
        let Self(channel) = self;
        tokio::select! {
            () = readiness.until_ready() => {}
            // It says nothing unasked, so it has ended.
            gone = channel.receive() => {
                ensure!(gone?.is_none(), "the process before this one is ahead of its time");
                info!("the process before this one has ended");
                return Ok(());
            }
        }
        if channel.send(&Message::Ready, &[]).await.is_err() {
            return Ok(());
        }
        match channel.receive().await? {
            Some((Message::Go, _)) | None => Ok(()),
            Some((other, _)) => bail!("the process before this one says {other:?}"),
        }
    }
}

/// Set in the environment of a process whose standard input is a [`Channel`].
pub(super) const HANDOVER: &str = "KUBENG_HANDOVER";
/// The sockets are sent at once, before this process has begun.
const LENT_WITHIN: Duration = Duration::from_secs(10);
