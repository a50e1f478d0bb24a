//! A network between two sides that can be cut, fall silent, pass one way only, and be healed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A relay in front of one address. It and its connections end when it is dropped.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    back: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

/// What becomes of bytes and connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Bytes pass. What was held back before passes first: nothing is lost, as with TCP.
    Open,
    /// Connections are closed, and new ones as they come.
    Cut,
    /// Nothing passes and nobody is told: connections stay, and new ones are taken.
    Silent,
    /// Only what clients say passes.
    OnlyThere,
    /// Only what the server says passes.
    OnlyBack,
    /// The server is told that connections have ended, their clients are not. They are closed with
    /// the next change.
    HalfOpen,
}

impl Way {
    fn passes_there(self) -> bool {
        match self {
            Self::Open | Self::OnlyThere => true,
            Self::Cut | Self::Silent | Self::OnlyBack | Self::HalfOpen => false,
        }
    }

    fn passes_back(self) -> bool {
        match self {
            Self::Open | Self::OnlyBack => true,
            Self::Cut | Self::Silent | Self::OnlyThere | Self::HalfOpen => false,
        }
    }

    fn ends(self) -> bool {
        match self {
            Self::Cut | Self::HalfOpen => true,
            Self::Open | Self::Silent | Self::OnlyThere | Self::OnlyBack => false,
        }
    }
}

impl Relay {
    /// Starts one on a free port of 127.0.0.1 that leads to `to`, open.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (way, back) = (watch::Sender::new(Way::Open), Arc::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, to, way.subscribe(), Arc::clone(&back)));
        Ok(Self { address, way, back, _accepting: accepting })
    }

    /// From here on it does this with all connections.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// How many bytes went from the server to its clients so far, those of TLS included.
    #[must_use]
    pub fn passed_back(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    way: watch::Receiver<Way>,
    back: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((here, _)) = accepted else { continue };
                if *way.borrow() != Way::Cut {
                    connections.spawn(carry(here, to, way.clone(), Arc::clone(&back)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection to its end.
async fn carry(
    mut here: TcpStream,
    to: SocketAddr,
    mut way: watch::Receiver<Way>,
    back: Arc<AtomicU64>,
) {
    // A handshake needs both directions; meanwhile the client is kept waiting, or sent away.
    let Ok(begun) = way.wait_for(|way| matches!(way, Way::Open | Way::Cut)).await.map(|way| *way)
    else {
        return;
    };
    if begun == Way::Cut {
        return;
    }
    let Ok(mut there) = TcpStream::connect(to).await else { return };
    let _ = (here.set_nodelay(true), there.set_nodelay(true));
    let (from_here, to_here) = here.split();
    let (from_there, to_there) = there.split();
    let both = async {
        tokio::join!(
            pass(from_here, to_there, (way.clone(), Way::passes_there), None),
            pass(from_there, to_here, (way.clone(), Way::passes_back), Some(&back)),
        )
    };
    let mut told = way.clone();
    tokio::select! {
        _ = both => return,
        _ = told.wait_for(|way| way.ends()) => {}
    }
    drop(there);
    // One that was half open is over as soon as anything else is said of the network.
    let _ = way.wait_for(|way| *way != Way::HalfOpen).await;
}

/// Passes bytes on while `passes` holds, and counts them; what was read before it ended waits, and so
/// does an end.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (mut way, passes): (watch::Receiver<Way>, fn(Way) -> bool),
    count: Option<&AtomicU64>,
) {
    let mut bytes = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        if way.wait_for(|way| passes(*way)).await.is_err() {
            return;
        }
        let piece = bytes.get(..read).unwrap_or_default();
        if piece.is_empty() {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
        if let Some(count) = count {
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}

const PIECE_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    /// A server that sends back what it is sent, and the end of its connections.
    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (address, server)
    }

    async fn says(client: &mut TcpStream) -> Option<u8> {
        let read = tokio::time::timeout(WITHIN, client.read_u8()).await;
        read.expect("it is told").ok()
    }

    #[tokio::test]
    async fn what_is_held_back_comes_when_the_way_is_open_again() {
        let (address, _server) = echo().await;
        let relay = Relay::start(address).await.unwrap();
        let mut client = TcpStream::connect(relay.address).await.unwrap();
        client.write_all(b"a").await.unwrap();
        assert_eq!(says(&mut client).await, Some(b'a'));
        while relay.passed_back() < 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(relay.passed_back(), 1);
        for way in [Way::Silent, Way::OnlyThere, Way::OnlyBack] {
            relay.set(way);
            client.write_all(b"b").await.unwrap();
            let early = tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await;
            assert!(early.is_err(), "{way:?}");
            relay.set(Way::Open);
            assert_eq!(says(&mut client).await, Some(b'b'), "{way:?}");
        }
    }

    #[tokio::test]
    async fn connections_are_cut_at_once_and_half_open_ones_with_the_next_change() {
        let (address, _server) = echo().await;
        let relay = Relay::start(address).await.unwrap();
        let open = async || {
            let mut client = TcpStream::connect(relay.address).await.unwrap();
            client.write_all(b"a").await.unwrap();
            assert_eq!(says(&mut client).await, Some(b'a'));
            client
        };
        let mut client = open().await;
        relay.set(Way::Cut);
        assert_eq!(says(&mut client).await, None);
        let mut late = TcpStream::connect(relay.address).await.unwrap();
        assert_eq!(says(&mut late).await, None);
        relay.set(Way::Open);
        let mut client = open().await;
        relay.set(Way::HalfOpen);
        let early = tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await;
        assert!(early.is_err(), "nobody tells the client");
        relay.set(Way::Open);
        assert_eq!(says(&mut client).await, None);
    }
}
