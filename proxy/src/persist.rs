//! Last known good: what a replica keeps on its disk, for a start without a controller.
//!
//! A folder holds three generations, each one file with everything: the Statement, all Parts, the
//! Endpoints that were known, and the secrets. A file is written beside the others and renamed, so
//! it is there as a whole or not at all, and ends with a checksum. The newest that can be used is
//! loaded; what cannot is named and passed over. Nothing here is on the path of a change.

mod folder;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod heard;
mod keeper;
mod sealing;

use std::io;
use std::path::{Path, PathBuf};

use kubeng_config::delta::Delta;
use kubeng_config::statement::SignedStatement;

use folder::Folder;
pub use heard::HeardEpoch;
pub use keeper::{Keep, Keeper, KeeperSettings};
pub use sealing::{DataKey, DataKeyError};

/// What was read from one file.
#[derive(Debug)]
pub struct Saved {
    /// What a controller said about it. Whether it is to be believed is the caller's to find out.
    pub statement: SignedStatement,
    /// The way to it from nothing; it leads where the Statement says or is not applied.
    pub delta: Delta,
}

/// What became of a look for something to start from.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What was taken.
    pub saved: Option<Saved>,
    /// Files that could not be used, the newest first.
    pub damaged: Vec<DamagedFile>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub struct DamagedFile {
    /// Which one.
    pub path: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
}

/// Why a file is not loaded. Not retried: the one before it is taken.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It cannot be read at all.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Others than its owner may have read or written it.
    #[error("{0}")]
    Exposed(&'static str),
    /// It is larger than any that is written.
    #[error("it has {0} bytes, more than any that is written")]
    TooLarge(u64),
    /// It is something else.
    #[error("it is no file of this kind")]
    Foreign,
    /// It was written by a newer program.
    #[error("it is of version {0} of the format, which this program does not know")]
    Version(u32),
    /// It was changed, cut short or damaged.
    #[error("its checksum does not fit: it was changed or cut short")]
    Checksum,
    /// Its contents are not what they should be although the checksum fits.
    #[error("{what} in it cannot be read")]
    Contents {
        /// What of it.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its secrets are encrypted, or are not.
    #[error("{0}")]
    Sealed(&'static str),
    /// Who asked for it does not take it: its signature is bad, or it does not lead where it says.
    #[error("it is not taken: {0}")]
    NotTaken(String),
}

/// Looks for something to start from in `folder`, the newest first, and hands it to `take` until that
/// takes one. A folder that is not there is an empty one.
///
/// `take` has to check the signature and to apply it. Blocks; a file of 5,000 Routes takes some tens
/// of milliseconds.
pub fn load(
    folder: &Path,
    key: Option<&DataKey>,
    mut take: impl FnMut(&Saved) -> Result<(), String>,
) -> Loaded {
    let folder = Folder::new(folder);
    let mut loaded = Loaded::default();
    let generations = match folder.generations() {
        Ok(generations) => generations,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return loaded,
        Err(error) => {
            let damage = Damage::Read(error);
            loaded.damaged.push(DamagedFile { path: folder.path().to_path_buf(), damage });
            return loaded;
        }
    };
    for generation in generations.into_iter().rev() {
        let read = folder.read(generation).and_then(|bytes| format::read(&bytes, key));
        let taken = read.and_then(|saved| match take(&saved) {
            Ok(()) => Ok(saved),
            Err(reason) => Err(Damage::NotTaken(reason)),
        });
        match taken {
            Ok(saved) => {
                loaded.saved = Some(saved);
                return loaded;
            }
            Err(damage) => {
                loaded.damaged.push(DamagedFile { path: folder.file(generation), damage });
            }
        }
    }
    loaded
}

#[cfg(test)]
mod tests;
