//! One stream of HTTP/2, from the request of a client to the end of its answer.
//!
//! It knows how the answer is framed and paced, and no engine. Dropped before its
//! end, it resets the stream: a client never takes a part for the whole.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::Limits;
use crate::listener::body::Pace;

/// A stream that a client has opened.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) body: Body,
    respond: SendResponse<Bytes>,
    /// Present behind the head of the answer.
    sending: Option<SendStream<Bytes>>,
    is_ended: bool,
    /// Runs while the client grants no room.
    stall: Option<Pin<Box<Sleep>>>,
    write_stall: Duration,
    /// Bytes of the body of the answer so far.
    sent: u64,
}

impl Stream {
    /// Of a request whose head has come.
    pub(crate) fn new(body: RecvStream, respond: SendResponse<Bytes>, limits: &Limits) -> Self {
        Self {
            body: Body::new(body, limits.body_read),
            respond,
            sending: None,
            is_ended: false,
            stall: None,
            write_stall: limits.write_stall,
            sent: 0,
        }
    }

    /// Bytes of the body that the client was sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends an interim answer.
    ///
    /// # Errors
    /// When the client has left.
    pub(crate) fn send_interim(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
    ) -> Result<(), h2::Error> {
        self.respond.send_informational(response(status, headers))
    }

    /// Sends the head of the answer, and with `is_end` the whole of it.
    ///
    /// # Errors
    /// When the client has left.
    pub(crate) fn send_head(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        is_end: bool,
    ) -> Result<(), h2::Error> {
        if !headers.contains_key(header::DATE)
            && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now()))
        {
            headers.insert(header::DATE, date);
        }
        // From here on both sides may be as slow as what they speak of.
        self.body.is_paced = false;
        self.sending = Some(self.respond.send_response(response(status, headers), is_end)?);
        self.is_ended = is_end;
        Ok(())
    }

    /// Sends a part of the body as the client grants room for it; nothing behind the end.
    ///
    /// # Errors
    /// When the client has left, or grants no room for too long.
    pub(crate) async fn send_part(&mut self, mut part: Bytes, is_end: bool) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx, &mut part, is_end)).await?;
        if is_end { self.end() } else { Ok(()) }
    }

    /// [`send_part`](Self::send_part) to be polled: takes what is sent out of `part`.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        part: &mut Bytes,
        is_end: bool,
    ) -> Poll<io::Result<()>> {
        while !part.is_empty() && !self.is_ended {
            let room = ready!(self.poll_room(part.len(), cx))?;
            let Some(sending) = &mut self.sending else { return Poll::Ready(Err(gone())) };
            let now = part.split_to(room.min(part.len()));
            self.sent += now.len() as u64;
            self.is_ended = is_end && part.is_empty();
            sending.send_data(now, self.is_ended).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready with as many bytes as may be sent now, at least one.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(sending) = &mut self.sending else { return Poll::Ready(Err(gone())) };
        sending.reserve_capacity(wanted);
        let room = sending.capacity();
        if room > 0 {
            self.stall = None;
            return Poll::Ready(Ok(room));
        }
        match sending.poll_capacity(cx) {
            Poll::Ready(Some(Ok(room))) if room > 0 => {
                self.stall = None;
                return Poll::Ready(Ok(room));
            }
            // None of a stream that is closed.
            Poll::Ready(None) => return Poll::Ready(Err(gone())),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
            Poll::Ready(Some(Ok(_))) => cx.waker().wake_by_ref(),
            Poll::Pending => {}
        }
        let until = Instant::now() + self.write_stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends trailers, which end the answer.
    ///
    /// # Errors
    /// When the client has left.
    pub(crate) fn send_trailers(&mut self, trailers: HeaderMap) -> io::Result<()> {
        if self.is_ended {
            return Ok(());
        }
        let Some(sending) = &mut self.sending else { return Err(gone()) };
        sending.send_trailers(trailers).map_err(io::Error::other)?;
        self.is_ended = true;
        Ok(())
    }

    /// Ends an answer that is complete.
    ///
    /// # Errors
    /// When the client has left.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if !self.is_ended
            && let Some(sending) = &mut self.sending
        {
            sending.send_data(Bytes::new(), true).map_err(io::Error::other)?;
            self.is_ended = true;
        }
        Ok(())
    }

    /// Says that an answer that is not complete is never to be: nothing ends it but the drop, which
    /// resets the stream behind all that was sent. A reset at once would take that back, and the
    /// request would look as if it could be sent again.
    pub(crate) fn cut(&mut self) {
        self.is_ended = true;
    }

    /// Ready when the client has reset the stream, or left.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sending {
            Some(sending) => sending.poll_reset(cx).map(|_| ()),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }
}

/// The body of a request while it arrives.
#[derive(Debug)]
pub(crate) struct Body {
    recv: RecvStream,
    pace: Pace,
    /// In each such period some of it has to arrive.
    period: Duration,
    /// Whether it has to. A stream that goes both ways may be silent for long.
    pub(crate) is_paced: bool,
    read: u64,
    trailers: Option<Box<HeaderMap>>,
}

/// Why no more of a body comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyEnd {
    /// The stream was reset, also by this side for its faults, or the client has left.
    Gone,
    /// It came too slowly.
    Slow,
}

impl Body {
    fn new(recv: RecvStream, period: Duration) -> Self {
        Self { recv, pace: Pace::default(), period, is_paced: true, read: 0, trailers: None }
    }

    /// Bytes so far.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// Whether all of it has come, and was taken.
    pub(crate) fn is_done(&self) -> bool {
        self.recv.is_end_stream()
    }

    /// The next part; None is the end.
    ///
    /// The client may send as much anew as is taken, so what waits stays within the window.
    pub(crate) fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, BodyEnd>> {
        match self.recv.poll_data(cx) {
            Poll::Ready(Some(Ok(part))) => {
                self.pace.arrived(part.len());
                self.read += part.len() as u64;
                // It fails only for more than has come.
                let _ = self.recv.flow_control().release_capacity(part.len());
                Poll::Ready(Ok(Some(part)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(BodyEnd::Gone)),
            Poll::Ready(None) => {
                // Faults in them end the stream, whoever wants them.
                let trailers = ready!(self.recv.poll_trailers(cx)).map_err(|_| BodyEnd::Gone)?;
                self.trailers = self.trailers.take().or(trailers.map(Box::new));
                Poll::Ready(Ok(None))
            }
            Poll::Pending => {
                if self.is_paced && self.pace.is_too_slow(self.period, cx) {
                    return Poll::Ready(Err(BodyEnd::Slow));
                }
                Poll::Pending
            }
        }
    }

    /// What came behind the end.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// [`poll_part`](Self::poll_part) to be awaited.
    pub(crate) async fn part(&mut self) -> Result<Option<Bytes>, BodyEnd> {
        poll_fn(|cx| self.poll_part(cx)).await
    }
}

fn response(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
