//! Where lines of the access log go, and that a file that was rotated is opened again.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::LogTarget;

/// An open place for lines.
pub(super) struct Output {
    to: BufWriter<Box<dyn Write + Send>>,
    file: Option<Followed>,
    /// Whether the last write failed, so that a fault is told once.
    is_broken: bool,
}

/// A file that may be moved away.
struct Followed {
    path: PathBuf,
    /// Device and inode of what is open.
    is: (u64, u64),
    looked: Instant,
}

impl Output {
    pub(super) fn open(to: LogTarget) -> io::Result<Self> {
        let (to, file): (Box<dyn Write + Send>, _) = match to {
            LogTarget::Stdout => (Box::new(io::stdout()), None),
            LogTarget::Writer(writer) => (writer, None),
            LogTarget::File(path) => {
                let (file, is) = open(&path)?;
                (Box::new(file), Some(Followed { path, is, looked: Instant::now() }))
            }
        };
        Ok(Self { to: BufWriter::with_capacity(BUFFER_BYTES, to), file, is_broken: false })
    }

    /// Opens the file again when another, or none, stands in its place. Looks once a second.
    pub(super) fn follow(&mut self) {
        let Some(file) = &mut self.file else { return };
        if file.looked.elapsed() < LOOK_EVERY {
            return;
        }
        file.looked = Instant::now();
        let there = std::fs::metadata(&file.path).map(|there| (there.dev(), there.ino())).ok();
        if there != Some(file.is) {
            self.reopen();
        }
    }

    /// Opens the file again; what was written so far is in the one before.
    pub(super) fn reopen(&mut self) {
        let flushed = self.flush();
        let Some(file) = &mut self.file else { return };
        match open(&file.path) {
            Ok((opened, is)) => {
                if flushed.is_err() {
                    // The disk of the one before may be full: what it did not take is lost.
                    let empty: Box<dyn Write + Send> = Box::new(io::sink());
                    let before = BufWriter::with_capacity(BUFFER_BYTES, empty);
                    let _ = std::mem::replace(&mut self.to, before).into_parts();
                }
                file.is = is;
                self.to = BufWriter::with_capacity(BUFFER_BYTES, Box::new(opened));
            }
            Err(error) => {
                let path = file.path.display();
                tracing::error!(%path, %error, "the access log cannot be opened again");
            }
        }
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.to.write_all(line);
        self.told(written)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let flushed = self.to.flush();
        self.told(flushed)
    }

    fn told(&mut self, result: io::Result<()>) -> io::Result<()> {
        if let (Err(error), false) = (&result, self.is_broken) {
            tracing::error!(%error, "the access log cannot be written");
        }
        self.is_broken = result.is_err();
        result
    }
}

fn open(path: &Path) -> io::Result<(File, (u64, u64))> {
    // Not for everybody to read: lines name people's addresses.
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let is = file.metadata()?;
    Ok((file, (is.dev(), is.ino())))
}

const BUFFER_BYTES: usize = 64 * 1024;
const LOOK_EVERY: Duration = Duration::from_secs(1);
