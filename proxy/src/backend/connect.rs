//! Opens connections to Endpoints, and says whose fault it is when that fails.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kubeng_config::backend::ProxyVersion;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy_protocol::{self, Told};

/// Opens a connection, and tells the Endpoint about the client where it wants to know.
///
/// # Errors
/// What the system said; `TimedOut` when it took longer than `within`.
pub(crate) async fn connect(
    to: SocketAddr,
    within: Duration,
    tell: Option<(ProxyVersion, Option<Told>)>,
) -> io::Result<TcpStream> {
    let connected = async {
        let mut tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        if let Some((version, told)) = tell {
            tcp.write_all(&proxy_protocol::encode(version, told)).await?;
        }
        Ok(tcp)
    };
    timeout(within, connected).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Whether the system said that this side has run out of something.
pub(crate) fn is_want(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|error| WANTS.contains(&error))
}

/// No descriptors, no ports, no memory.
const WANTS: [Errno; 5] =
    [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
