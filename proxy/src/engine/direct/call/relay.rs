//! The body of an answer over HTTP/2 on its way to the client, while the request goes on.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::HeaderMap;

use super::{Call, Came};
use crate::engine::direct::ahead::Ahead;
use crate::engine::direct::answer::Framing;
use crate::engine::direct::carry::Broken;
use crate::engine::direct::client::Client;
use crate::engine::direct::trailers;
use crate::forward::tries::Failure;

impl Call {
    /// Relays a body to its end.
    ///
    /// The Endpoint may send anew what the client has taken, and no more. While the client takes
    /// nothing, its request goes on.
    pub(super) async fn relay_parts<C: Client>(
        &mut self,
        client: &mut C,
        framing: Framing,
        ends: Option<Instant>,
    ) -> Result<Option<HeaderMap>, Broken> {
        if framing == Framing::Nothing {
            return Ok(None);
        }
        loop {
            let by = self.by(ends)?;
            let came = match self.now() {
                Poll::Ready(came) => came.map_err(Broken::Endpoint)?,
                Poll::Pending => {
                    // What was sent so far is not held back.
                    client.flush().await?;
                    self.wait(client, by, ends).await?
                }
            };
            let part = match came {
                Came::Part(part) => part,
                Came::End(found) => return Ok(found.and_then(trailers::allowed)),
                Came::Interim(_) | Came::Head(_) => {
                    return Err(Broken::Endpoint(Failure::BadAnswer));
                }
            };
            let count = part.len();
            let mut part = client.shape(part)?;
            poll_fn(|cx| {
                if let Poll::Ready(sent) = self.upload.poll(cx, client) {
                    sent?;
                }
                client.poll_send(cx, &mut part).map_err(Broken::from)
            })
            .await?;
            self.taken(count);
            self.relayed += count as u64;
        }
    }

    /// What has come already.
    fn now(&mut self) -> Poll<Result<Came, Failure>> {
        self.poll_came(&mut Context::from_waker(Waker::noop()))
    }

    /// Relays a body to its end, and reads it ahead of the client as far as there is room. The whole
    /// request was sent.
    pub(super) async fn relay_parts_ahead<C: Client>(
        mut self,
        client: &mut C,
        mut ahead: Ahead,
        framing: Framing,
        ends: Option<Instant>,
    ) -> Result<Option<HeaderMap>, Broken> {
        if framing == Framing::Nothing {
            return Ok(None);
        }
        let mut end: Option<Result<Option<HeaderMap>, Failure>> = None;
        loop {
            let Some(part) = ahead.pop() else {
                if let Some(end) = end {
                    let found = end.map_err(Broken::Endpoint)?;
                    return Ok(found.and_then(trailers::allowed));
                }
                client.flush().await?;
                let by = self.by(ends)?;
                let came = self.wait(client, by, ends).await;
                match came {
                    Ok(came) => end = self.take_in(Ok(came), &mut ahead),
                    Err(Broken::Endpoint(failure)) => end = Some(Err(failure)),
                    Err(broken) => return Err(broken),
                }
                continue;
            };
            let sending = async {
                client.send_part(part).await?;
                client.flush().await
            };
            let mut sending = pin!(sending);
            let sent = poll_fn(|cx| {
                let sent = sending.as_mut().poll(cx);
                while sent.is_pending()
                    && end.is_none()
                    && ahead.takes_more()
                    && let Poll::Ready(came) = self.poll_came(cx)
                {
                    end = self.take_in(came, &mut ahead);
                }
                sent
            });
            sent.await?;
        }
    }

    /// Keeps a part; gives how the answer ended, once it has.
    fn take_in(
        &mut self,
        came: Result<Came, Failure>,
        ahead: &mut Ahead,
    ) -> Option<Result<Option<HeaderMap>, Failure>> {
        match came {
            Ok(Came::Part(part)) => {
                ahead.push(&part);
                self.taken(part.len());
                None
            }
            Ok(Came::End(trailers)) => Some(Ok(trailers)),
            Ok(Came::Interim(_) | Came::Head(_)) => Some(Err(Failure::BadAnswer)),
            Err(failure) => Some(Err(failure)),
        }
    }
}
