//! Where Objects come from: every source tells Events.

pub mod kubernetes;
pub mod manifests;

use std::future::Future;
use std::time::Instant;

use crate::object::{Event, SourceName};

/// An Event, and when it reached the process.
#[derive(Clone, Debug)]
pub struct Received {
    /// What a source tells.
    pub event: Event,
    /// When its bytes had been read, or the file system had reported it:
    /// where the clock of propagation starts.
    pub at: Instant,
}

/// Something that tells of Objects, for as long as it is asked.
pub trait Source: Send {
    /// Its name, for people.
    fn name(&self) -> &SourceName;

    /// Waits for the next Event. Dropping the future loses none.
    fn next(&mut self) -> impl Future<Output = Received> + Send;
}
