//! Files of a folder that several controllers share: each is made once, whole, and for nobody else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use kubeng_config::certificate::Secret;
use zeroize::Zeroizing;

use super::AuthorityError;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Makes the folder, for its owner alone, if it is not there.
pub(super) fn make_private(folder: &Path) -> Result<(), AuthorityError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| AuthorityError::File { path: folder.to_owned(), source })
}

pub(super) fn read(path: &Path) -> Result<Secret, AuthorityError> {
    read_bounded(path).map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

fn read_bounded(path: &Path) -> io::Result<Secret> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    fs::read(path).map(Secret::new)
}

/// Reads a file; where it is not there, it is made first. Of several that make it at once one wins,
/// and all read what that one wrote.
pub(super) fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, AuthorityError>,
) -> Result<Secret, AuthorityError> {
    let file = |source| AuthorityError::File { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let bytes = Zeroizing::new(make()?);
            create(path, &bytes).map_err(file)?;
        }
        Err(error) => return Err(file(error)),
        Ok(metadata) => {
            let is_secret = path.extension().is_some_and(|extension| extension == "key");
            if is_secret && metadata.mode() & 0o077 != 0 {
                return Err(AuthorityError::Exposed { path: path.to_owned() });
            }
        }
    }
    read(path)
}

/// Writes the whole file under another name first: a link to it is made at once or not at all.
fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = folder.join(format!(".{name}.{:016x}", fastrand::u64(..)));
    let written = write_new(&beside, bytes).and_then(|()| match fs::hard_link(&beside, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&beside);
    written.and(removed)?;
    File::open(folder)?.sync_all()
}

/// Writes a file that was not there, for its owner alone, to the disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
