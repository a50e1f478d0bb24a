//! The folder of the generations: written atomically, read with care.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Damage;
use super::format;

/// The folder. Only its owner may look into it.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// How a file was when it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    /// SHA-256 of the whole file.
    pub(super) sha256: [u8; 32],
    /// What changes when somebody writes to it.
    stat: Stat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    inode: u64,
    bytes: u64,
    mode: u32,
    owner: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            mode: metadata.mode(),
            owner: metadata.uid(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, generation: u64) -> PathBuf {
        self.0.join(format!("{generation:020}{ENDING}"))
    }

    /// The generations that are there, the oldest first.
    pub(super) fn generations(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let number: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(ENDING)?.parse().ok());
            found.extend(number);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Reads a file that only its owner could have written.
    pub(super) fn read(&self, generation: u64) -> Result<Vec<u8>, Damage> {
        let folder = fs::symlink_metadata(&self.0).map_err(Damage::Read)?;
        if !is_private(&folder) {
            return Err(Damage::Exposed("its folder is open to others: chmod 700 it"));
        }
        let path = self.file(generation);
        let there = fs::symlink_metadata(&path).map_err(Damage::Read)?;
        // A pipe would make us wait, and a link could lead to a file of somebody else's.
        if !there.is_file() {
            return Err(Damage::Foreign);
        }
        let file = File::open(&path).map_err(Damage::Read)?;
        let metadata = file.metadata().map_err(Damage::Read)?;
        if (metadata.dev(), metadata.ino()) != (there.dev(), there.ino()) {
            return Err(Damage::Foreign);
        }
        if !is_private(&metadata) {
            return Err(Damage::Exposed(
                "it is open to others, or is somebody else's: chmod 600 it",
            ));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(Damage::TooLarge(metadata.len()));
        }
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Damage::Read)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(Damage::TooLarge(read as u64));
        }
        Ok(bytes)
    }

    /// Writes the next generation, and forgets all but the newest [`GENERATIONS_MAX`].
    ///
    /// # Errors
    /// When the disk is full or read-only, or an fsync fails. Those before it are whole then.
    pub(super) fn write(
        &self,
        contents: &format::Contents<'_>,
        key: Option<&super::DataKey>,
    ) -> io::Result<(u64, Stamp)> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let before = self.generations()?;
        let generation = before.last().map_or(1, |last| last.saturating_add(1));
        let beside = self.0.join(BESIDE);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.write_beside(&beside, contents, key);
        let sha256 = written.inspect_err(|_| {
            // It takes room that others need.
            let _ = fs::remove_file(&beside);
        })?;
        let path = self.file(generation);
        fs::rename(&beside, &path)?;
        File::open(&self.0)?.sync_all()?;
        let kept = GENERATIONS_MAX - 1;
        for old in before.iter().take(before.len().saturating_sub(kept)) {
            fs::remove_file(self.file(*old))?;
        }
        let stat = Stat::of(&fs::symlink_metadata(&path)?);
        Ok((generation, Stamp { sha256, stat }))
    }

    fn write_beside(
        &self,
        beside: &Path,
        contents: &format::Contents<'_>,
        key: Option<&super::DataKey>,
    ) -> io::Result<[u8; 32]> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, file);
        let sha256 = format::write(contents, key, &mut buffered)?;
        buffered.flush()?;
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than may be read again"));
        }
        file.sync_all()?;
        Ok(sha256)
    }

    /// The stamp of a file that is there.
    pub(super) fn stamp(&self, generation: u64) -> Result<Stamp, Damage> {
        let metadata = fs::symlink_metadata(self.file(generation)).map_err(Damage::Read)?;
        let sha256 = format::hash(&self.read(generation)?);
        Ok(Stamp { sha256, stat: Stat::of(&metadata) })
    }

    /// What is different about a file since `stamp`, in words; it is read only when its dates differ.
    /// A file that was only touched gets a new stamp.
    pub(super) fn difference(&self, generation: u64, stamp: &mut Stamp) -> Option<String> {
        let path = self.file(generation);
        let shown = path.display();
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Some(format!("{shown} is gone"));
            }
            Err(error) => return Some(format!("{shown} cannot be looked at: {error}")),
        };
        if Stat::of(&metadata) == stamp.stat {
            return None;
        }
        match self.stamp(generation) {
            Ok(found) if found.sha256 == stamp.sha256 => {
                *stamp = found;
                None
            }
            Ok(_) => Some(format!(
                "{shown} was changed: it has other contents than were written, in {} bytes where {} were written",
                metadata.len(),
                stamp.stat.bytes
            )),
            Err(damage) => Some(format!("{shown}: {damage}")),
        }
    }
}

/// Whether only we may read and write it.
fn is_private(metadata: &Metadata) -> bool {
    metadata.mode() & 0o077 == 0 && metadata.uid() == rustix::process::geteuid().as_raw()
}

/// How many generations there are.
pub(super) const GENERATIONS_MAX: usize = 3;
/// The largest file that is written or read: 40,000 Routes take less than a tenth of it.
const FILE_BYTES_MAX: u64 = 1 << 30;
const ENDING: &str = ".kept";
/// What is being written; left over after a crash, and overwritten.
const BESIDE: &str = "being-written";
const BUFFER_BYTES: usize = 64 << 10;
