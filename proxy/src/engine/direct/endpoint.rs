//! The Endpoint of an exchange, whatever it speaks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use rustls::AlertDescription;

use super::Direct;
use super::ahead::Ahead;
use super::answer::{Answer, Framing};
use super::carry::Broken;
use super::client::Client;
use super::pool::Key;
use super::sending::Body;
use super::stream::Stream;
use crate::forward::tries::{Failure, Try};
use crate::proxy_protocol::Told;

/// What an exchange does to the Endpoint that a try was sent to: the try itself.
///
/// The request goes out while the answer comes in, whichever of these is waited for.
pub(super) trait Endpoint: Sized + Send {
    /// Whether the end of a body is told by chunks, and not beside it.
    const HAS_CHUNKS: bool;

    /// What every try sends first.
    type Head: Send + Sync;

    /// A place on a connection.
    type Place: Send;

    /// Writes the head of a request. May take its fields.
    fn head(outgoing: Outgoing<'_>) -> Self::Head;

    /// Finds a connection, or opens one. Gives whether there was one.
    ///
    /// # Errors
    /// What the try failed of; nothing of the request was sent.
    fn connect(
        direct: &Direct,
        wanted: Wanted,
    ) -> impl Future<Output = Result<(Self::Place, bool), Failure>> + Send;

    /// Begins the try with `head` and what is known of the body.
    fn begin(place: Self::Place, head: &Self::Head, body: Body) -> Self;

    /// Sends the request, until all was sent, the Endpoint takes no more, or it answers.
    ///
    /// The client sets the pace and has its own limits; the Endpoint must take what is there.
    fn send<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Reads the next head, interim or final, of an answer to a request with `method`.
    fn read_head<C: Client>(
        &mut self,
        client: &mut C,
        until: (Instant, Option<Instant>),
        method: &Method,
    ) -> impl Future<Output = Result<Answer, Broken>> + Send;

    /// Relays a body to its end. What has come is sent before more is waited for. Gives the trailers
    /// behind it, where there are some that may go on.
    fn relay<C: Client>(
        &mut self,
        client: &mut C,
        framing: Framing,
        ends: Option<Instant>,
    ) -> impl Future<Output = Result<Option<HeaderMap>, Broken>> + Send;

    /// The same, and reads it ahead of the client. `release` gets the try as soon as all of the body
    /// has come whose end shows; the request has to be sent by then.
    fn relay_ahead<C: Client>(
        self,
        client: &mut C,
        ahead: Ahead,
        framing: (Framing, Option<Instant>),
        release: impl FnOnce(Self) + Send,
    ) -> impl Future<Output = Result<Option<HeaderMap>, Broken>> + Send;

    /// The body of the request.
    fn body(&mut self) -> &mut Body;

    /// The body, for another try.
    fn into_body(self) -> Body;

    /// Whether all of the request was sent.
    fn is_sent(&self) -> bool;

    /// Where the next try finds its connection once this one was refused on its own.
    fn beside(&self) -> Origin {
        Origin::Anew
    }

    /// How the Endpoint said that it does not believe who connects; None where it did not.
    fn disbelief(&self) -> Option<AlertDescription>;

    /// Silence that is borne.
    fn silence(&self) -> Duration;

    /// Bears silence for so long.
    fn bear(&mut self, silence: Duration);

    /// Bytes of the body of the answer that were given on.
    fn relayed(&self) -> u64;

    /// Lets go of a try whose answer has come to its end. Its connection may serve another one if
    /// the answer says so.
    fn release(self, direct: &Direct, can_be_kept: bool);

    /// The connection as it is, with what was read behind the head, once both sides have agreed to
    /// leave HTTP behind; None where that cannot be.
    fn into_tunnel(self) -> Option<(Stream, Bytes)> {
        None
    }
}

/// A request as it goes out, but for what tells the end of its body.
pub(super) struct Outgoing<'a> {
    pub(super) method: &'a Method,
    /// Path and query, or `*`.
    pub(super) target: &'a str,
    pub(super) headers: &'a mut HeaderMap,
    pub(super) body: &'a Body,
    /// Whether the client asks to leave HTTP behind.
    pub(super) is_upgrade: bool,
    /// Whether the client takes trailers, and says so.
    pub(super) takes_trailers: bool,
    /// Whether the Backend is spoken to over TLS.
    pub(super) is_tls: bool,
}

/// A connection that is wanted for a try.
pub(super) struct Wanted {
    pub(super) to: Try,
    pub(super) told: Option<Told>,
    pub(super) key: Key,
    pub(super) from: Origin,
    pub(super) now: Instant,
    /// When the try is over.
    pub(super) ends: Option<Instant>,
}

/// Where the connection of a try comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// Those that are there, if one can be used.
    Pool,
    /// It is opened, unless others share it that is known to be well.
    Anew,
    /// Those that are there but the one of this number, or one that is opened.
    Beside(u64),
}
