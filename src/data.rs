//! The folder for what must outlive the process.

use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use tracing::warn;

/// The folder, held by this process alone until it is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    lock: File,
}

impl DataFolder {
    /// Makes the folder if it is missing, for its owner only, and takes hold of it.
    ///
    /// # Errors
    /// When it cannot be written, or another process holds it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {shown}"))?;
        // What its holder wrote stays until it is held.
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock
            .or_else(|error| read_only(path, error))
            .with_context(|| format!("cannot write to the data folder {shown}"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another process holds the data folder {shown}; give each its own --data")
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock the data folder {shown}"))
            }
        }
    }

    /// The folder that the process before this one holds, by its handle; both hold it until that one
    /// ends. Opens the folder anew where the handle belongs to another one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn inherit(path: &Path, lock: File) -> anyhow::Result<Self> {
        let is_same = |there: &Metadata, held: &Metadata| {
            (there.dev(), there.ino()) == (held.dev(), held.ino())
        };
        match (std::fs::metadata(path.join(LOCK)), lock.metadata()) {
            (Ok(there), Ok(held)) if is_same(&there, &held) => Ok(Self { lock }),
            _ => Self::open(path),
        }
    }

    /// Writes down that this process holds it, for whoever wants to speak to that one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn sign(&self) -> io::Result<()> {
        self.lock.set_len(0)?;
        self.lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }

    /// A second handle, for the process that takes over.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub(crate) fn lend(&self) -> io::Result<File> {
        self.lock.try_clone()
    }
}

/// The lock of a folder that was written before its disk became read-only: what is there is of use,
/// and whoever has to write says so when it cannot.
fn read_only(path: &Path, error: io::Error) -> io::Result<File> {
    if error.kind() != io::ErrorKind::ReadOnlyFilesystem {
        return Err(error);
    }
    let lock = File::open(path.join(LOCK)).map_err(|_| error)?;
    warn!(data = %path.display(), "the data folder is on a read-only disk: nothing new is kept");
    Ok(lock)
}

/// The file in it that is locked; it names the process.
pub(crate) const LOCK: &str = "kubeng.lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_the_folder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = DataFolder::open(&path).unwrap();
        first.sign().unwrap();
        let error = DataFolder::open(&path).unwrap_err();
        assert!(format!("{error:#}").contains("another process"), "{error:#}");
        let signed = std::fs::read_to_string(path.join(LOCK)).unwrap();
        assert_eq!(signed, format!("{}\n", std::process::id()), "who failed changed nothing");
        drop(first);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn a_lent_handle_holds_its_own_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (folder.path().join("ours"), folder.path().join("other"));
        let first = DataFolder::open(&ours).unwrap();
        let second = DataFolder::inherit(&ours, first.lend().unwrap()).unwrap();
        let elsewhere = DataFolder::inherit(&other, first.lend().unwrap()).unwrap();
        DataFolder::open(&other).unwrap_err();
        drop((first, elsewhere));
        DataFolder::open(&ours).unwrap_err();
        drop(second);
        DataFolder::open(&ours).unwrap();
    }
}
