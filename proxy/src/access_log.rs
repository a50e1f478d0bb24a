//! The access log: a line for each request, written by a thread of its own.
//!
//! Workers hand records over and never wait: a full queue drops and counts. The thread is joined
//! when the replica ends, behind the last line.

pub(crate) mod format;
mod output;

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::record::Record;
pub use format::{FormatError, LogFormat};
use output::Output;

/// Where lines go.
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file. It is appended to, and opened again when another stands in its place or when
    /// [`reopen`](crate::ProxyFacts::reopen_access_log) says so.
    File(PathBuf),
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

/// How requests are logged.
pub struct AccessLogSettings {
    /// Where to.
    pub to: LogTarget,
    /// In what form.
    pub format: LogFormat,
    /// The part of requests that is logged, 0 to 1; failures always are. Default: 1.
    pub sample: f64,
}

impl AccessLogSettings {
    /// Every request as JSON.
    #[must_use]
    pub fn json(to: LogTarget) -> Self {
        Self { to, format: LogFormat::Json, sample: 1.0 }
    }
}

/// Where records go.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Message>,
    sample: f64,
    lost: Arc<Lost>,
    writer: Mutex<Option<Writer>>,
}

#[derive(Debug)]
struct Writer {
    thread: JoinHandle<()>,
    done: Receiver<std::convert::Infallible>,
}

/// Lines that nobody can read.
#[derive(Debug, Default)]
struct Lost(AtomicU64);

enum Message {
    Line(Arc<Record>),
    Reopen,
    End,
}

impl AccessLog {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When the file cannot be opened, or the system gives no thread.
    pub(crate) fn start(settings: AccessLogSettings) -> std::io::Result<Self> {
        let AccessLogSettings { to, format, sample } = settings;
        let output = Output::open(to)?;
        let (queue, messages) = sync_channel(RECORDS_MAX);
        let lost = Arc::new(Lost::default());
        let (alive, done) = sync_channel(0);
        let counted = lost.clone();
        let thread =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
                write(&messages, output, &format, &counted);
                // Whoever waits for the end is told by this.
                drop(alive);
            })?;
        let writer = Mutex::new(Some(Writer { thread, done }));
        Ok(Self { queue, sample, lost, writer })
    }

    /// Whether a request is to be logged.
    pub(crate) fn wants(&self, is_failure: bool) -> bool {
        is_failure || self.sample >= 1.0 || fastrand::f64() < self.sample
    }

    /// Hands a record over. Never waits.
    pub(crate) fn push(&self, record: Arc<Record>) {
        if self.queue.try_send(Message::Line(record)).is_err() {
            self.lost.add(1);
        }
    }

    /// Has the file opened again, behind the lines that wait.
    pub(crate) fn reopen(&self) {
        // When the queue is full the writer is behind, and looks by itself before long.
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// How many lines were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.lost.0.load(Ordering::Relaxed)
    }

    /// Writes what waits and ends the thread; gives up when that takes longer than `within`.
    pub(crate) fn finish(&self, within: Duration) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Writer { thread, done }) = writer else { return };
        let end = std::time::Instant::now() + within;
        while self.queue.try_send(Message::End).is_err() {
            if std::time::Instant::now() >= end || thread.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = end.saturating_duration_since(std::time::Instant::now());
        match done.recv_timeout(left) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    tracing::error!("the writer of the access log panicked");
                }
            }
            // Whoever reads the log does not. The thread ends with the process.
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("the access log is not written to its end: nobody takes its lines");
            }
        }
    }
}

impl Lost {
    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
}

fn write(messages: &Receiver<Message>, mut output: Output, format: &LogFormat, lost: &Lost) {
    let mut text = Vec::with_capacity(4096);
    while let Ok(first) = messages.recv() {
        output.follow();
        let mut waiting = Some(first);
        let mut lines = 0;
        // A batch ends so that what has been written is seen, and a rotation noticed.
        for _ in 0..RECORDS_MAX {
            let Some(message) = waiting.take().or_else(|| messages.try_recv().ok()) else { break };
            match message {
                Message::Line(record) => {
                    text.clear();
                    format.line(&record, &mut text);
                    text.push(b'\n');
                    lines += 1;
                    if output.write(&text).is_err() {
                        lost.add(1);
                        lines -= 1;
                    }
                }
                Message::Reopen => output.reopen(),
                Message::End => {
                    if output.flush().is_err() {
                        lost.add(lines);
                    }
                    return;
                }
            }
        }
        if output.flush().is_err() {
            lost.add(lines);
        }
    }
}

/// Records that wait to be written.
const RECORDS_MAX: usize = 4096;

#[cfg(test)]
mod tests;
