//! The body of an answer, from an Endpoint to the client.

use std::time::Instant;

use super::answer::Framing;
use super::carry::Broken;
use super::chunks::Chunks;
use super::client::Client;
use super::upstream::Upstream;
use crate::forward::tries::Failure;

impl Upstream {
    /// Relays a body to its end. What has been read is sent before more is waited for.
    pub(super) async fn relay_body<C: Client>(
        &mut self,
        client: &mut C,
        framing: Framing,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        match framing {
            Framing::Nothing => Ok(()),
            Framing::Length(length) => self.relay_length(client, length, ends).await,
            Framing::Chunked => self.relay_chunks(client, ends).await,
            Framing::Close => self.relay_to_end(client, ends).await,
        }
    }

    async fn relay_length<C: Client>(
        &mut self,
        client: &mut C,
        length: u64,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        let mut left = length;
        loop {
            let count =
                usize::try_from(left).map_or(self.read.len(), |left| left.min(self.read.len()));
            if count > 0 {
                client.send_part(self.read.split_to(count).freeze()).await?;
                self.relayed += count as u64;
                left -= count as u64;
            }
            if left == 0 {
                return Ok(());
            }
            self.more(client, ends).await?;
        }
    }

    async fn relay_chunks<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        let mut chunks = Chunks::new();
        loop {
            let next = chunks.next(&mut self.read);
            match next.map_err(|_| Broken::Endpoint(Failure::BadAnswer))? {
                Some(part) => {
                    let count = part.len() as u64;
                    client.send_part(part).await?;
                    self.relayed += count;
                }
                None if chunks.is_done() => return Ok(()),
                None => self.more(client, ends).await?,
            }
        }
    }

    async fn relay_to_end<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        loop {
            let part = self.read.split().freeze();
            if !part.is_empty() {
                let count = part.len() as u64;
                client.send_part(part).await?;
                self.relayed += count;
            }
            client.flush().await?;
            let by = self.by(ends)?;
            if self.fill(client, by, ends).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Sends what was written and reads more, which there must be.
    async fn more<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        client.flush().await?;
        let by = self.by(ends)?;
        match self.fill(client, by, ends).await? {
            0 => Err(Broken::Endpoint(Failure::Reset)),
            _ => Ok(()),
        }
    }

    /// Until when the next byte must have come.
    ///
    /// An error once the time is over: bytes that are always there would never be waited for.
    pub(super) fn by(&self, ends: Option<Instant>) -> Result<Instant, Broken> {
        let now = Instant::now();
        if ends.is_some_and(|ends| ends <= now) {
            return Err(Broken::Endpoint(Failure::Timeout));
        }
        let silent = now + self.silence;
        Ok(ends.map_or(silent, |ends| ends.min(silent)))
    }
}
