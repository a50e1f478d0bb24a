//! The socket pair between two processes, and what they say over it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as Socket;

use anyhow::{Context as _, bail, ensure};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// What one process says to the other. Descriptors travel beside it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Message {
    /// The first word of the old process.
    Begin {
        /// What both must agree on: see [`FORMAT`].
        format: u32,
    },
    /// Listening sockets of this address, at most [`DESCRIPTORS_MAX`]; more follow in another message.
    Ports {
        /// As a Listener was given it.
        address: SocketAddr,
    },
    /// The socket of the admin listener.
    Admin,
    /// The hold on the data folder.
    Data,
    /// Nothing follows.
    End,
    /// The next process serves.
    Ready,
    /// The old process leaves.
    Go,
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(UnixDatagram);

impl Channel {
    /// An end to use, and the one for the next process.
    pub(super) fn pair() -> anyhow::Result<(Self, OwnedFd)> {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self::on(ours)?, theirs))
    }

    /// The end `socket`.
    pub(super) fn on(socket: OwnedFd) -> anyhow::Result<Self> {
        // Messages with an end, of which the reader is told: it is read and written as datagrams are.
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixDatagram::from_std(socket)?))
    }

    pub(super) async fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> anyhow::Result<()> {
        let text = serde_json::to_vec(message)?;
        ensure!(descriptors.len() <= DESCRIPTORS_MAX, "too many descriptors for one message");
        let sent = self.0.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::NOSIGNAL;
            Ok(sendmsg(self.0.as_fd(), &[IoSlice::new(&text)], &mut beside, flags)?)
        });
        sent.await.with_context(|| format!("cannot say {message:?} to the other process"))?;
        Ok(())
    }

    /// The next message; None when the other process has gone.
    pub(super) async fn receive(&self) -> anyhow::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut text = [0; TEXT_BYTES_MAX];
        let received = self.0.async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut text)];
            let got = recvmsg(self.0.as_fd(), into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            let mut descriptors = Vec::new();
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            Ok((got, descriptors))
        });
        let (got, descriptors) = match received.await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received.context("cannot hear the other process")?,
        };
        if got.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) {
            bail!("a message of the other process is too long, or descriptors have run out");
        }
        let text = text.get(..got.bytes).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let message = serde_json::from_slice(text)
            .context("the other process says what this version does not understand")?;
        Ok(Some((message, descriptors)))
    }
}

/// Grows when an older program could not take over from this one, or it from that.
pub(super) const FORMAT: u32 = 1;
/// As many descriptors as one message takes; the kernel allows 253.
pub(super) const DESCRIPTORS_MAX: usize = 64;
const SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_whole_with_their_descriptors_and_the_end_is_seen() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::on(theirs).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lent = vec![listener.as_fd(); DESCRIPTORS_MAX];
        ours.send(&Message::Begin { format: FORMAT }, &[]).await.unwrap();
        ours.send(&Message::Ports { address }, &lent).await.unwrap();
        ours.0.send(b"{\"is\":\"dance\"}").await.unwrap();
        drop(ours);
        let (begin, none) = theirs.receive().await.unwrap().unwrap();
        assert_eq!((begin, none.len()), (Message::Begin { format: FORMAT }, 0));
        let (ports, some) = theirs.receive().await.unwrap().unwrap();
        assert_eq!((ports, some.len()), (Message::Ports { address }, DESCRIPTORS_MAX));
        let taken = std::net::TcpListener::from(some.into_iter().next().unwrap());
        assert_eq!(taken.local_addr().unwrap(), address);
        assert!(theirs.receive().await.is_err(), "what is not understood is an error");
        assert!(theirs.receive().await.unwrap().is_none());
    }
}
