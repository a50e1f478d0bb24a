//! What runs beside the workers: the reader of keys, and the sender of spans.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::oneshot;

use crate::shared::Shared;
use crate::trace::export::Exporter;

/// Threads that must be ended behind the workers.
pub(crate) struct Background {
    exporter: Option<Exporter>,
    stop: Arc<AtomicBool>,
    stop_exporter: Option<oneshot::Sender<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    pub(super) fn new(exporter: Option<Exporter>) -> Self {
        Self { exporter, stop: Arc::default(), stop_exporter: None, threads: Vec::new() }
    }

    /// Starts what is needed.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub(crate) fn start(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        if shared.observe.keys.is_some() {
            let (shared, stop) = (shared.clone(), self.stop.clone());
            let read = move || read_keys(&shared, &stop);
            self.threads.push(thread::Builder::new().name("request-keys".to_owned()).spawn(read)?);
        }
        if let Some(exporter) = self.exporter.take() {
            let (stop, stopped) = oneshot::channel();
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let send = move || {
                // Dropped without a word: nobody waits for the last spans.
                runtime.block_on(exporter.run(async { stopped.await.unwrap_or_default() }));
                // A look-up that hangs must not hold the end up.
                runtime.shutdown_background();
            };
            self.threads.push(thread::Builder::new().name("spans".to_owned()).spawn(send)?);
            self.stop_exporter = Some(stop);
        }
        Ok(())
    }

    /// Tells all to end, the last spans to be sent `within` a time; gives what is to be joined.
    pub(crate) fn stop(self, within: Duration) -> Vec<JoinHandle<()>> {
        let Self { exporter: _, stop, stop_exporter, threads } = self;
        stop.store(true, Ordering::Release);
        if let Some(stop) = stop_exporter {
            // It cannot have ended before it is told to.
            let _ = stop.send(within);
        }
        threads.iter().for_each(|thread| thread.thread().unpark());
        threads
    }
}

/// Reads records into the sketch whenever a worker has closed a run of them.
fn read_keys(shared: &Shared, stop: &AtomicBool) {
    let Some(keys) = &shared.observe.keys else { return };
    // There is one such thread.
    let _ = keys.reader.set(thread::current());
    while !stop.load(Ordering::Acquire) {
        shared.observe.read_closed(keys);
        thread::park();
    }
}
