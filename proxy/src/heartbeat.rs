//! What a replica finds out about itself, off the path of requests and changes.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::fleet::Pulse;
use kubeng_config::heartbeat::{Build, Resources};
use kubeng_config::statement::MODEL_VERSION;
use ring::digest;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::proxy::ProxyFacts;
use crate::walk::Walked;

/// Walks the running Table again and again: after each change, and every so often without one.
pub struct Walker {
    facts: ProxyFacts,
    background: Background,
    pulse: watch::Receiver<Pulse>,
    found: watch::Sender<Option<(Walked, Instant)>>,
}

impl Walker {
    /// One that walks in the `background` at least as often as `pulse` says, and tells `found` what, and when it began to
    /// look.
    #[must_use]
    pub fn new(
        facts: ProxyFacts,
        background: Background,
        pulse: watch::Receiver<Pulse>,
        found: watch::Sender<Option<(Walked, Instant)>>,
    ) -> Self {
        Self { facts, background, pulse, found }
    }

    /// Walks whenever `wanted` says so until it is told to stop. Of walks that are wanted in the
    /// middle of another one only the last takes place.
    pub async fn run(mut self, wanted: &Notify, stop: CancellationToken) {
        let mut walked_last: Option<Instant> = None;
        let mut rested = Instant::now();
        loop {
            let every = self.pulse.borrow_and_update().table_check_every;
            let due = walked_last.map_or(rested, |last| last + every);
            tokio::select! {
                () = stop.cancelled() => return,
                () = wanted.notified() => {}
                () = tokio::time::sleep_until(due) => {}
                () = changed(&mut self.pulse) => continue,
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(rested) => {}
            }
            let began = Instant::now();
            let (facts, stop) = (self.facts.clone(), stop.clone());
            let walked = self.background.run(move || in_slices(&facts, &stop)).await;
            let ended = Instant::now();
            if let Some(walked) = walked {
                self.found.send_replace(Some((walked, began)));
            }
            walked_last = Some(ended);
            // Also where changes never end it takes a small part of one core.
            rested = ended + (ended - began) * REST;
        }
    }
}

/// Waits until it is to be done more or less often; for ever when nobody says so any more.
async fn changed(pulse: &mut watch::Receiver<Pulse>) {
    if pulse.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Rests between slices, so that nobody has to wait for a core because of it.
fn in_slices(facts: &ProxyFacts, stop: &CancellationToken) -> Option<Walked> {
    let mut parts = 0_u32;
    facts.walk(|| {
        parts += 1;
        if parts.is_multiple_of(SLICE) {
            if stop.is_cancelled() {
                return ControlFlow::Break(());
            }
            std::thread::sleep(PAUSE);
        }
        ControlFlow::Continue(())
    })
}

/// The program that is running: reads its whole file once, so it belongs where blocking is fine.
///
/// A file that cannot be read has the digest of nothing, which is on no list.
#[must_use]
pub fn build(version: &str) -> Build {
    let sha256 = file_digest(Path::new("/proc/self/exe")).unwrap_or_else(|| Digest::of([]));
    Build { version: version.to_owned(), sha256, model_version: MODEL_VERSION }
}

fn file_digest(path: &Path) -> Option<Digest> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer).ok()?;
        if read == 0 {
            let bytes: [u8; 32] = hash.finish().as_ref().try_into().ok()?;
            return Some(Digest::from(bytes));
        }
        hash.update(buffer.get(..read)?);
    }
}

/// What the process uses at this moment. A few small reads of `/proc`.
#[must_use]
pub fn resources(facts: &ProxyFacts) -> Resources {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    Resources {
        uptime_seconds: facts.0.started.elapsed().as_secs(),
        rss_kib: rss.unwrap_or(0),
        open_files: open as u64,
        connections: facts.connections() as u64,
    }
}

/// Parts between two pauses: about a millisecond of work.
const SLICE: u32 = 64;
const PAUSE: Duration = Duration::from_millis(1);
/// How much longer it rests than it walks.
const REST: u32 = 10;
const BUFFER_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_runs_is_the_one_in_its_file() {
        let file = std::env::current_exe().unwrap();
        let bytes = std::fs::read(file).unwrap();
        assert_eq!(build("1").sha256, Digest::of([bytes.as_slice()]));
        assert!(file_digest(Path::new("/nonexistent")).is_none());
    }
}
