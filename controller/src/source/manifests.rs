//! The source that reads a folder of manifests, and watches it.
//!
//! A change is read the moment it is reported; there is no timer on its way.
//! Where a save has several steps, the last one counts: a file is read when it
//! is closed or renamed into place. Three states that are half-way for most
//! tools are believed only after a second: a file that became empty, a
//! file that was renamed away, and a file that is written to and not closed.
//! A document that cannot be read leaves what was last read from its file.

mod file;
mod folder;
mod json;
mod scalar;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod tests;
mod tree;
mod watch;
mod yaml;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Instant;

use kubeng_config::problem::{Problem, SOURCE_UNREACHABLE, Subject};
use tokio::sync::mpsc;

use super::{Received, Source};
use crate::object::{Event, Object, SourceName};
use folder::Folder;
use watch::{Signal, Watch, signals};

/// Most Events that wait to be taken.
const EVENTS_MAX: usize = 1024;

/// A folder of manifests: `*.yaml`, `*.yml` and `*.json` at any depth.
///
/// It belongs to the operator. A folder that does not exist is looked for every
/// second; until it is found the source has not told anything.
#[derive(Debug)]
pub struct Manifests {
    name: SourceName,
    events: mpsc::Receiver<Received>,
    stop: SyncSender<Signal>,
    thread: Option<JoinHandle<()>>,
    has_ended: bool,
}

impl Manifests {
    /// Begins to watch `root`, which may also be a single file.
    ///
    /// # Errors
    /// When no thread can be started. Fatal.
    pub fn watch(root: PathBuf) -> io::Result<Self> {
        let name = SourceName(format!("manifests:{}", root.display()).into());
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (stop, signals) = signals();
        let watch = Watch::new(root, (stop.clone(), signals), events);
        let thread =
            std::thread::Builder::new().name("manifests".to_owned()).spawn(move || watch.run())?;
        Ok(Self { name, events: receiver, stop, thread: Some(thread), has_ended: false })
    }

    fn stands_still(&self) -> Problem {
        Problem {
            subject: Subject::Other(self.name.to_string()),
            field: String::new(),
            code: SOURCE_UNREACHABLE,
            message: "reading it ended by a fault of Kubeng; changes are not seen".to_owned(),
            remedy: "restart Kubeng and report what its log says".to_owned(),
            provenance: None,
        }
    }
}

impl Source for Manifests {
    fn name(&self) -> &SourceName {
        &self.name
    }

    async fn next(&mut self) -> Received {
        if let Some(received) = self.events.recv().await {
            return received;
        }
        // The thread lives as long as this; that it ended is a fault of ours. What
        // was read goes on being served, and everybody must see that it stands still.
        if std::mem::replace(&mut self.has_ended, true) {
            std::future::pending::<()>().await;
        }
        Received { event: Event::Problems(vec![self.stands_still()]), at: Instant::now() }
    }
}

impl Drop for Manifests {
    fn drop(&mut self) {
        self.events.close();
        // When the queue is full the thread wakes anyway and finds the channel closed.
        let _ = self.stop.try_send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads a folder or a file once.
///
/// The Problems are those that do not belong to an Object; each Object carries
/// its own. A path that cannot be read is a Problem too.
#[must_use]
pub fn load(path: &Path) -> (Vec<Object>, Vec<Problem>) {
    let mut folder = Folder::new(path.to_owned());
    folder.look(Instant::now());
    folder.into_contents()
}
