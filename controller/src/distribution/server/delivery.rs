//! One stream for each replica that follows: between its connection and the line of the hub.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::super::line::{Hub, Identified, Line, TurnedAway};
use super::super::wire::proto::delivery_server::Delivery;
use super::super::wire::{WireError, from_replica, in_full, proto, to_replica};
use super::super::{FromReplica, Hello, ToReplica};
use super::{LONGEST, Peer};

/// How long a replica may take to say Hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// A replica that has not taken one frame in this time is cut off.
const PROGRESS_WITHIN: Duration = Duration::from_secs(30);

/// How many frames wait for a replica beside what its connection holds.
const FRAMES_MAX: usize = 1;

/// How long the reason of an end may take to be sent.
const REASON_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Service<H> {
    hub: Arc<H>,
    stop: CancellationToken,
}

impl<H> Service<H> {
    pub(super) fn new(hub: Arc<H>, stop: CancellationToken) -> Self {
        Self { hub, stop }
    }
}

#[tonic::async_trait]
impl<H: Hub> Delivery for Service<H> {
    type FollowStream = Outgoing;

    async fn follow(
        &self,
        request: Request<Streaming<proto::FromReplica>>,
    ) -> Result<Response<Outgoing>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection is not known"))?;
        let (identified, ends) = peer.certified()?;
        let Ok(left) = ends.duration_since(SystemTime::now()) else {
            return Err(Status::unauthenticated("the certificate of the replica has ended"));
        };
        let mut incoming = Incoming { stream: request.into_inner(), reader: Default::default() };
        let mut hello = timeout(HELLO_WITHIN, incoming.hello())
            .await
            .map_err(|_| Status::deadline_exceeded("the replica does not say Hello"))??;
        hello.certified = peer.labels();
        if (&hello.fleet, &hello.replica) != (&identified.fleet, &identified.replica) {
            return Err(turned_away(&TurnedAway::Mistaken(identified)));
        }
        let Identified { fleet, replica } = identified.clone();
        let line = self.hub.join(identified.clone(), hello).await.map_err(|why| {
            debug!(%fleet, %replica, error = in_full(&why), "a replica is turned away");
            self.hub.turned_away(identified, peer.address.ip(), &why);
            turned_away(&why)
        })?;
        info!(%fleet, %replica, address = %peer.address, "a replica follows");
        let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
        let follower = Follower { frames, left, stop: self.stop.clone(), cut: peer.cut };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let end = follower.run(incoming, line).await;
            info!(%fleet, %replica, end, "a replica follows no more");
        });
        Ok(Response::new(Outgoing { frames: outgoing, _tasks: tasks }))
    }
}

fn unreadable(error: &WireError) -> Status {
    let text = in_full(error);
    Status::invalid_argument(format!(
        "{text}; bring replica and controller to programs of one version"
    ))
}

fn turned_away(why: &TurnedAway) -> Status {
    let text = in_full(why);
    match why {
        TurnedAway::UnknownFleet(_) => Status::not_found(text),
        TurnedAway::Mistaken(_) => Status::permission_denied(text),
        TurnedAway::NotReady => Status::unavailable(text),
    }
}

/// What is sent to a replica. What fills it ends when the replica is gone.
pub(super) struct Outgoing {
    frames: mpsc::Receiver<Result<proto::ToReplica, Status>>,
    _tasks: JoinSet<()>,
}

impl Stream for Outgoing {
    type Item = Result<proto::ToReplica, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.frames.poll_recv(cx)
    }
}

/// What comes from a replica.
struct Incoming {
    stream: Streaming<proto::FromReplica>,
    reader: from_replica::Reader,
}

impl Incoming {
    /// The next message; `None` when the replica says nothing more.
    async fn next(&mut self) -> Result<Option<FromReplica>, Status> {
        while let Some(frame) = self.stream.message().await? {
            let read = self.reader.read(frame);
            if let Some(message) = read.map_err(|error| unreadable(&error))? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    async fn hello(&mut self) -> Result<Hello, Status> {
        match self.next().await? {
            Some(FromReplica::Hello(hello)) => Ok(*hello),
            Some(_) | None => Err(Status::invalid_argument("the first message is not a Hello")),
        }
    }
}

/// One replica that follows.
struct Follower {
    frames: mpsc::Sender<Result<proto::ToReplica, Status>>,
    /// How long its certificate is good for.
    left: Duration,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Follower {
    /// Runs until one side ends; gives the reason.
    async fn run(self, mut incoming: Incoming, line: Line) -> &'static str {
        let Line { to, from } = line;
        let (end, status) = tokio::select! {
            end = hear(&mut incoming, from) => match end {
                Ok(why) => (why, None),
                Err(status) if status.code() == Code::InvalidArgument => {
                    warn!(error = status.message(), "a replica says what cannot be read");
                    ("its messages cannot be read", Some(status))
                }
                Err(status) => {
                    debug!(error = in_full(&status), "a replica is gone");
                    ("the connection broke", None)
                }
            },
            end = self.speak(to) => (end, Some(Status::unavailable(end))),
            () = self.stop.cancelled() => {
                ("the controller ends", Some(Status::unavailable("the controller ends")))
            }
            () = tokio::time::sleep(self.left.min(LONGEST)) => {
                let why = "the certificate that the connection was opened with has ended";
                (why, Some(Status::unauthenticated(why)))
            }
        };
        if let Some(status) = status {
            // Whoever does not read does not learn it.
            let _ = timeout(REASON_WITHIN, self.frames.send(Err(status))).await;
        }
        end
    }

    /// Tells the replica what the hub says, frame by frame.
    async fn speak(&self, mut to: mpsc::Receiver<ToReplica>) -> &'static str {
        while let Some(message) = to.recv().await {
            for frame in to_replica::write(message, Instant::now()) {
                match timeout(PROGRESS_WITHIN, self.frames.send(Ok(frame))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return "the replica is gone",
                    Err(_) => {
                        // Its connection does not end by itself while its window is closed.
                        self.cut.cancel();
                        return "the replica does not read";
                    }
                }
            }
        }
        "the controller ends the line"
    }
}

/// Hands on what a replica says until it says nothing more.
async fn hear(
    incoming: &mut Incoming,
    from: mpsc::Sender<FromReplica>,
) -> Result<&'static str, Status> {
    while let Some(message) = incoming.next().await? {
        if let FromReplica::Hello(_) = message {
            return Err(Status::invalid_argument("a second Hello"));
        }
        if from.send(message).await.is_err() {
            return Ok("the controller ends the line");
        }
    }
    Ok("the replica says no more")
}
