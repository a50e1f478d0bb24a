//! The body of an answer, from an Endpoint to the client.

use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::answer::Framing;
use super::carry::{Broken, Upstream, to_client};
use super::chunks::Chunks;
use crate::forward::tries::Failure;
use crate::listener::connection::Conn;

impl Upstream {
    /// Relays a body to its end. What has been read is sent before more is waited for.
    pub(super) async fn relay(
        &mut self,
        conn: &mut Conn,
        framing: Framing,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        match framing {
            Framing::Nothing => Ok(()),
            Framing::Length(length) => self.relay_length(conn, length, ends).await,
            Framing::Chunked => self.relay_chunks(conn, ends).await,
            Framing::Close => self.relay_to_end(conn, ends).await,
        }
    }

    async fn relay_length(
        &mut self,
        conn: &mut Conn,
        length: u64,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        let mut left = length;
        loop {
            let count =
                usize::try_from(left).map_or(self.read.len(), |left| left.min(self.read.len()));
            let part = self.read.split_to(count);
            to_client(conn, &part).await?;
            self.relayed += part.len() as u64;
            left -= count as u64;
            if left == 0 {
                return Ok(());
            }
            self.more(conn, ends).await?;
        }
    }

    async fn relay_chunks(&mut self, conn: &mut Conn, ends: Option<Instant>) -> Result<(), Broken> {
        let mut chunks = Chunks::new();
        loop {
            let next = chunks.next(&mut self.read);
            match next.map_err(|_| Broken::Endpoint(Failure::BadAnswer))? {
                Some(part) => {
                    write_chunk(conn, &part).await?;
                    self.relayed += part.len() as u64;
                }
                None if chunks.is_done() => return to_client(conn, LAST_CHUNK).await,
                None => self.more(conn, ends).await?,
            }
        }
    }

    async fn relay_to_end(&mut self, conn: &mut Conn, ends: Option<Instant>) -> Result<(), Broken> {
        loop {
            let part = self.read.split();
            if !part.is_empty() {
                write_chunk(conn, &part).await?;
                self.relayed += part.len() as u64;
            }
            conn.flush().await.map_err(|_| Broken::Client)?;
            let by = self.by(ends)?;
            if self.fill(conn, by).await? == 0 {
                return to_client(conn, LAST_CHUNK).await;
            }
        }
    }

    /// Sends what was written and reads more, which there must be.
    async fn more(&mut self, conn: &mut Conn, ends: Option<Instant>) -> Result<(), Broken> {
        conn.flush().await.map_err(|_| Broken::Client)?;
        let by = self.by(ends)?;
        match self.fill(conn, by).await? {
            0 => Err(Broken::Endpoint(Failure::Reset)),
            _ => Ok(()),
        }
    }

    /// Until when the next byte must have come.
    ///
    /// An error once the time is over: bytes that are always there would never be waited for.
    fn by(&self, ends: Option<Instant>) -> Result<Instant, Broken> {
        let now = Instant::now();
        if ends.is_some_and(|ends| ends <= now) {
            return Err(Broken::Endpoint(Failure::Timeout));
        }
        let silent = now + self.silence;
        Ok(ends.map_or(silent, |ends| ends.min(silent)))
    }
}

async fn write_chunk(conn: &mut Conn, part: &[u8]) -> Result<(), Broken> {
    let mut head = BytesMut::with_capacity(CHUNK_HEAD_BYTES);
    // Writing to a buffer cannot fail.
    let _ = std::fmt::Write::write_fmt(&mut head, format_args!("{:x}\r\n", part.len()));
    to_client(conn, &head).await?;
    to_client(conn, part).await?;
    to_client(conn, b"\r\n").await
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// 16 digits and the end of the line.
const CHUNK_HEAD_BYTES: usize = 18;
