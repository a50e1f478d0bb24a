//! The messages between controllers and replicas as protobuf, and back, strictly.
//!
//! What is large travels in frames of about [`FRAME_BYTES`]; each is written when it is sent and
//! read when it comes, so neither side holds more than one in its written form. Parts, Statements,
//! Heartbeats and Endpoints are canonical JSON inside: the bytes that their digests are made of.
//! Moments travel as ages, for clocks differ.

pub(crate) mod from_replica;
mod part;
mod problem;
#[cfg(test)]
mod tests;
pub(crate) mod to_replica;

use std::fmt;
use std::time::{Duration, Instant};

use kubeng_config::canonical::{Digest, ReadError};
use kubeng_config::name::NameError;
use prost::Message;

/// What `build.rs` makes of `proto/kubeng.proto`.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::str_to_string,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    unreachable_pub,
    reason = "it is generated"
)]
pub(crate) mod proto {
    tonic::include_proto!("kubeng.v1");

    impl std::fmt::Debug for Secret {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Secret({:?}, ..)", self.id)
        }
    }

    impl std::fmt::Debug for JoinRequest {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "JoinRequest({:?}, {:?}, ..)", self.fleet, self.replica)
        }
    }
}

/// How large a frame grows before the next one begins. One Part is never split.
const FRAME_BYTES: usize = 256 * 1024;

/// The largest message that is taken; what may be larger travels in frames.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The largest Offer or reply in all its frames.
const WHOLE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How many Problems go with one message, and how many faults of one Offer are told.
const PROBLEMS_MAX: usize = 100;

/// Why a message cannot be read. The other side must be mended, or is of another version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// What stands inside is not what it should be.
    #[error("{what} cannot be read")]
    Content {
        /// Of which message or Part.
        what: String,
        /// Why.
        source: ReadError,
    },
    /// A name has not the form of one.
    #[error("{what} has a name that is none")]
    Name {
        /// Of which message or Part.
        what: &'static str,
        /// Why.
        source: NameError,
    },
    /// A value that this program does not know, or that may not be.
    #[error("{what} is {found}, which this version does not know")]
    Unknown {
        /// Of which field.
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// Frames do not follow each other.
    #[error("a frame of {0} comes where none may")]
    Order(&'static str),
    /// It is larger than is taken.
    #[error("{what} has more than {bytes_max} bytes")]
    TooLarge {
        /// Which message.
        what: &'static str,
        /// The limit.
        bytes_max: usize,
    },
}

/// An error with all its causes in one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some libraries say their cause themselves.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Takes items off `from` until the frame is full.
fn fill<T, P: Message>(
    frame: &mut Vec<P>,
    from: &mut std::vec::IntoIter<T>,
    bytes: &mut usize,
    write: fn(T) -> P,
) {
    while *bytes < FRAME_BYTES {
        let Some(item) = from.next() else { return };
        let written = write(item);
        *bytes += written.encoded_len();
        frame.push(written);
    }
}

fn digest(what: &'static str, bytes: &[u8]) -> Result<Digest, WireError> {
    // A digest is public, and has one way in: its text.
    hex::encode(bytes).parse().map_err(|source| WireError::Name { what, source })
}

fn digest_bytes(digest: &Digest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}

fn name<N: std::str::FromStr<Err = NameError>>(
    what: &'static str,
    text: &str,
) -> Result<N, WireError> {
    text.parse().map_err(|source| WireError::Name { what, source })
}

fn content<T>(what: impl fmt::Display, bytes: &[u8]) -> Result<T, WireError>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    kubeng_config::canonical::from_bytes(bytes)
        .map_err(|source| WireError::Content { what: what.to_string(), source })
}

/// How long `moment` is ago at `now`, in microseconds.
fn age(moment: Option<Instant>, now: Instant) -> Option<u64> {
    let age = now.saturating_duration_since(moment?);
    Some(u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
}

/// The moment that was `age` microseconds ago at `now`; none before the clock began.
fn moment(age: Option<u64>, now: Instant) -> Option<Instant> {
    now.checked_sub(Duration::from_micros(age?))
}
