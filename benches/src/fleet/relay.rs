//! A relay that counts what a replica is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes connections on, and counts bytes; it ends when it is dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    told: Arc<AtomicU64>,
    _accepting: JoinSet<Result<()>>,
}

impl Relay {
    /// A relay to `to` at a free port of loopback.
    pub(super) async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let told = Arc::new(AtomicU64::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, to, Arc::clone(&told)));
        Ok(Self { address, told, _accepting: accepting })
    }

    /// The bytes that went towards the replica so far, with those of TLS and HTTP/2.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, told: Arc<AtomicU64>) -> Result<()> {
    let mut passing = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await?;
        let far = TcpStream::connect(to).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_from, near_to) = near.into_split();
        let (far_from, far_to) = far.into_split();
        passing.spawn(pass(far_from, near_to, Some(Arc::clone(&told))));
        passing.spawn(pass(near_from, far_to, None));
        while passing.try_join_next().is_some() {}
    }
}

/// Passes one direction on until its end; an error ends it as well.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    counted: Option<Arc<AtomicU64>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if to.write_all(bytes).await.is_err() {
            break;
        }
        if let Some(count) = &counted {
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
    // The other end learns of it, or has gone already.
    let _ = to.shutdown().await;
}
