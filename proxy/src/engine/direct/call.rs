//! A try over HTTP/2: one stream to an Endpoint, whose request goes out while its answer comes in.

mod head;
mod relay;
mod upload;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Response, StatusCode};
use rustls::AlertDescription;
use tokio::time::timeout_at;

use super::Direct;
use super::ahead::Ahead;
use super::answer::{Answer, Framing};
use super::carry::Broken;
use super::client::{Client, Gone};
use super::endpoint::{Endpoint, Origin, Outgoing, Wanted};
use super::multiplex::Lease;
use super::sending::Body;
use crate::forward::tries::Failure;
use head::Head;
use upload::Upload;

/// One stream for the time of one try. Dropped before its end, it is reset.
pub(super) struct Call {
    upload: Upload,
    coming: Coming,
    /// What came while something else was waited for.
    came: Option<Came>,
    silence: Duration,
    /// The longest that it may take nothing of what is sent.
    write: Duration,
    /// Bytes of the body that were given on.
    relayed: u64,
    is_reused: bool,
    /// How often something had been read from the connection when the try began.
    reads: u64,
    lease: Lease,
}

/// A place on a connection, and how long its steps may take.
pub(super) struct Place {
    lease: Lease,
    read: Duration,
    write: Duration,
    is_reused: bool,
}

/// What is still to come of an answer.
enum Coming {
    Head(ResponseFuture),
    Body(RecvStream),
    /// Nothing: the connection had ended before the request was sent.
    Nothing(Failure),
}

/// What comes of an answer.
enum Came {
    Interim(Response<()>),
    Head(Box<Response<RecvStream>>),
    Part(Bytes),
    End(Option<HeaderMap>),
}

/// What has come of waiting for either side.
enum Step {
    /// Nothing more is to be sent.
    Sent,
    Came(Came),
}

impl Endpoint for Call {
    const HAS_CHUNKS: bool = false;
    type Head = Head;
    type Place = Place;

    fn head(outgoing: Outgoing<'_>) -> Head {
        Head::of(outgoing)
    }

    async fn connect(direct: &Direct, wanted: Wanted) -> Result<(Place, bool), Failure> {
        // In a box: who finds a connection, and who opens none, has no room for it.
        let (lease, is_reused) = Box::pin(direct.multiplexed.lease(&wanted)).await?;
        let (read, write) = (wanted.to.read, wanted.to.write);
        Ok((Place { lease, read, write, is_reused }, is_reused))
    }

    fn begin(place: Place, head: &Head, body: Body) -> Self {
        let Place { mut lease, read, write, is_reused } = place;
        let is_empty = body.is_whole() && body.kept().is_empty() && body.trailers().is_none();
        let reads = lease.load().reads();
        let (coming, stream) = match lease.requests.send_request(head.request(), is_empty) {
            Ok((answer, stream)) => (Coming::Head(answer), Some(stream)),
            Err(error) => (Coming::Nothing(never_begun(&lease, &error)), None),
        };
        Self {
            upload: Upload::new(stream, body, is_empty),
            coming,
            came: None,
            silence: read,
            write,
            relayed: 0,
            is_reused,
            reads,
            lease,
        }
    }

    async fn send<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        while !self.upload.is_over() && self.came.is_none() {
            let written = self.upload.written();
            let patience = Instant::now() + self.write;
            let by = ends.map_or(patience, |ends| ends.min(patience));
            match timeout_at(by.into(), self.step(client)).await {
                Ok(Ok(Step::Sent)) => {}
                Ok(Ok(Step::Came(came))) => self.came = Some(came),
                Ok(Err(broken)) => return Err(broken),
                Err(_) if is_past(ends) => return Err(self.late()),
                Err(_) if self.upload.is_held_up() && self.upload.written() == written => {
                    return Err(self.late());
                }
                // It waits for the client.
                Err(_) => {}
            }
        }
        Ok(())
    }

    async fn read_head<C: Client>(
        &mut self,
        client: &mut C,
        (by, ends): (Instant, Option<Instant>),
        method: &Method,
    ) -> Result<Answer, Broken> {
        let came = match self.came.take() {
            Some(came) => came,
            None => self.wait(client, by, ends).await?,
        };
        match came {
            // There is no such thing over HTTP/2 (RFC 9113 section 8.6).
            Came::Interim(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(Broken::Endpoint(Failure::BadAnswer))
            }
            Came::Interim(response) => Ok(head::interim(response)),
            Came::Head(response) => {
                let (parts, body) = response.into_parts();
                let is_end = body.is_end_stream();
                self.coming = Coming::Body(body);
                let answer = head::read(parts, method, is_end, C::TAKES_TRAILERS);
                answer.map_err(|_| Broken::Endpoint(Failure::BadAnswer))
            }
            Came::Part(_) | Came::End(_) => Err(Broken::Endpoint(Failure::BadAnswer)),
        }
    }

    async fn relay<C: Client>(
        &mut self,
        client: &mut C,
        framing: Framing,
        ends: Option<Instant>,
    ) -> Result<Option<HeaderMap>, Broken> {
        self.relay_parts(client, framing, ends).await
    }

    async fn relay_ahead<C: Client>(
        self,
        client: &mut C,
        ahead: Ahead,
        (framing, ends): (Framing, Option<Instant>),
        release: impl FnOnce(Self) + Send,
    ) -> Result<Option<HeaderMap>, Broken> {
        // Its connection serves others meanwhile.
        let _ = release;
        self.relay_parts_ahead(client, ahead, framing, ends).await
    }

    fn body(&mut self) -> &mut Body {
        self.upload.body()
    }

    fn into_body(self) -> Body {
        self.upload.into_body()
    }

    fn is_sent(&self) -> bool {
        self.upload.is_done()
    }

    fn beside(&self) -> Origin {
        Origin::Beside(self.lease.load().number())
    }

    fn disbelief(&self) -> Option<AlertDescription> {
        self.lease.load().disbelief()
    }

    fn silence(&self) -> Duration {
        self.silence
    }

    fn bear(&mut self, silence: Duration) {
        self.silence = silence;
    }

    fn relayed(&self) -> u64 {
        self.relayed
    }

    fn release(self, _: &Direct, _: bool) {}
}

impl Call {
    /// Waits for what comes next, while the client is there, and goes on sending meanwhile.
    ///
    /// As long as more of the request is sent, silence of the Endpoint is none, until `ends`.
    async fn wait<C: Client>(
        &mut self,
        client: &mut C,
        mut by: Instant,
        ends: Option<Instant>,
    ) -> Result<Came, Broken> {
        loop {
            let written = self.upload.written();
            match timeout_at(by.into(), self.step(client)).await {
                Ok(Ok(Step::Came(came))) => return Ok(came),
                Ok(Ok(Step::Sent)) => {}
                Ok(Err(broken)) => return Err(broken),
                Err(_) if self.upload.written() != written && !is_past(ends) => {
                    let silent = Instant::now() + self.silence;
                    by = ends.map_or(silent, |ends| ends.min(silent));
                }
                Err(_) => return Err(self.late()),
            }
        }
    }

    /// Sends what can be sent, and takes what has come.
    async fn step<C: Client>(&mut self, client: &mut C) -> Result<Step, Broken> {
        let was_over = self.upload.is_over();
        poll_fn(|cx| {
            if let Poll::Ready(sent) = self.upload.poll(cx, client) {
                sent?;
            }
            if let Poll::Ready(came) = self.poll_came(cx) {
                return Poll::Ready(came.map(Step::Came).map_err(Broken::Endpoint));
            }
            if !was_over && self.upload.is_over() {
                return Poll::Ready(Ok(Step::Sent));
            }
            if self.upload.is_done() {
                return client.poll_gone(cx).map(|Gone| Err(Broken::Client));
            }
            Poll::Pending
        })
        .await
    }

    fn poll_came(&mut self, cx: &mut Context<'_>) -> Poll<Result<Came, Failure>> {
        let came = match &mut self.coming {
            Coming::Nothing(failure) => return Poll::Ready(Err(*failure)),
            Coming::Head(answer) => match answer.poll_informational(cx) {
                Poll::Ready(Some(interim)) => interim.map(Came::Interim),
                Poll::Ready(None) | Poll::Pending => {
                    ready!(Pin::new(answer).poll(cx)).map(|answer| Came::Head(Box::new(answer)))
                }
            },
            Coming::Body(body) => match ready!(body.poll_data(cx)) {
                Some(part) => part.map(Came::Part),
                None => ready!(body.poll_trailers(cx)).map(Came::End),
            },
        };
        Poll::Ready(came.map_err(|error| self.failure(&error)))
    }

    /// What it means that the stream, or its connection, broke.
    fn failure(&self, error: &h2::Error) -> Failure {
        if self.lease.load().disbelief().is_some() {
            Failure::Tls
        } else if error.is_go_away() && error.is_remote() {
            // The stream is none of those that were looked at (RFC 9113 section 6.8).
            self.lease.doubt();
            Failure::Unseen
        } else if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
            Failure::Refused
        } else if error.is_library() {
            Failure::BadAnswer
        } else if error.is_io() && self.is_reused && self.lease.load().reads() == self.reads {
            self.lease.doubt();
            Failure::Stale
        } else {
            Failure::Reset
        }
    }

    /// Nothing came in time.
    fn late(&self) -> Broken {
        if self.lease.load().reads() == self.reads {
            // Nor did anything for any other request, so no further one is put there.
            self.lease.load().retire();
        }
        Broken::Endpoint(Failure::Timeout)
    }

    /// Until when the next part must have come.
    ///
    /// An error once the time is over: parts that are always there would never be waited for.
    fn by(&self, ends: Option<Instant>) -> Result<Instant, Broken> {
        let now = Instant::now();
        if ends.is_some_and(|ends| ends <= now) {
            return Err(Broken::Endpoint(Failure::Timeout));
        }
        let silent = now + self.silence;
        Ok(ends.map_or(silent, |ends| ends.min(silent)))
    }

    /// Lets the Endpoint send as much anew as was taken.
    fn taken(&mut self, bytes: usize) {
        if let Coming::Body(body) = &mut self.coming {
            // It fails only for more than has come.
            let _ = body.flow_control().release_capacity(bytes);
        }
    }
}

/// Why a request could not be put on a connection.
fn never_begun(lease: &Lease, error: &h2::Error) -> Failure {
    if error.is_go_away() || error.is_io() {
        lease.doubt();
        Failure::Unseen
    } else {
        // Its numbers are used up, or a field is none of HTTP/2.
        lease.load().retire();
        Failure::Local
    }
}

fn is_past(ends: Option<Instant>) -> bool {
    ends.is_some_and(|ends| ends <= Instant::now())
}
