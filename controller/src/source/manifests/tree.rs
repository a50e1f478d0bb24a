//! Which files of a folder are manifests.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use kubeng_config::problem::{Problem, Subject, UNREADABLE};

use super::file::micros;

/// The manifests below a folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The files, in order.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Folders that could not be read, and links that lead nowhere: nothing is known of what is in them.
    pub(crate) unread: Vec<PathBuf>,
    /// The links that lead nowhere, and why.
    pub(crate) dangling: Vec<(PathBuf, io::Error)>,
    /// What is wrong with single entries.
    pub(crate) problems: Vec<Problem>,
    /// Whether any entry is a symbolic link, so that a change elsewhere may count.
    pub(crate) has_links: bool,
    /// The newest time of change of the folders, in microseconds since 1970.
    pub(crate) read_to: u64,
}

/// Most files of a folder.
const FILES_MAX: usize = 100_000;

/// Lists the manifests at and below `root`, which may be a file.
///
/// Names that begin with a dot are left out: editors and mounted ConfigMaps
/// keep things there. Links are followed; a folder or file that is reached
/// twice is taken once.
///
/// # Errors
/// When `root` itself cannot be read.
pub(crate) fn list(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let metadata = std::fs::metadata(root)?;
    if metadata.is_file() {
        listing.files.insert(root.to_owned());
        return Ok(listing);
    }
    let real_root = std::fs::canonicalize(root)?;
    let mut walk = Walk { visited: BTreeSet::from([real_root.clone()]), ..Walk::default() };
    walk.folder(root, &real_root, &mut listing)?;
    while let Some((path, real)) = walk.open.pop() {
        if let Err(error) = walk.folder(&path, &real, &mut listing) {
            listing.problems.push(problem(&path, error.to_string()));
            listing.unread.push(path);
        }
    }
    for (real, path) in walk.links {
        if walk.real_files.insert(real) {
            listing.files.insert(path);
        }
    }
    Ok(listing)
}

/// Whether `path` has the name of a manifest.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden && ["yaml", "yml", "json"].contains(&extension)
}

/// A Problem of an entry of the folder.
pub(crate) fn problem(path: &Path, message: String) -> Problem {
    Problem {
        subject: Subject::Other(path.display().to_string()),
        field: String::new(),
        code: UNREADABLE,
        message,
        remedy: "make it readable, or remove it; what was last read is served until then"
            .to_owned(),
        provenance: None,
    }
}

#[derive(Default)]
struct Walk {
    visited: BTreeSet<PathBuf>,
    open: Vec<(PathBuf, PathBuf)>,
    real_files: BTreeSet<PathBuf>,
    /// Where a link leads, and the link.
    links: BTreeSet<(PathBuf, PathBuf)>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, real: &Path, listing: &mut Listing) -> io::Result<()> {
        // Looked at first: what changes while it is read is newer.
        let changed = std::fs::metadata(folder)?.modified().map_or(0, micros);
        listing.read_to = listing.read_to.max(changed);
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if listing.files.len() + self.links.len() >= FILES_MAX {
                let message =
                    format!("there are more than {FILES_MAX} files; the rest is left out");
                listing.problems.push(problem(folder, message));
                return Ok(());
            }
            self.entry(&entry, real.join(&name), listing);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &std::fs::DirEntry, real: PathBuf, listing: &mut Listing) {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { return };
        let (kind, real) = if kind.is_symlink() {
            listing.has_links = true;
            let target = std::fs::canonicalize(&path);
            match target.and_then(|real| Ok((std::fs::metadata(&real)?.file_type(), real))) {
                Ok((kind, real)) if kind.is_file() => {
                    if is_manifest(&path) {
                        self.links.insert((real, path));
                    }
                    return;
                }
                Ok(found) => found,
                Err(error) => {
                    listing.unread.push(path.clone());
                    listing.dangling.push((path, error));
                    return;
                }
            }
        } else {
            (kind, real)
        };
        if kind.is_dir() {
            if self.visited.insert(real.clone()) {
                self.open.push((path, real));
            }
        } else if kind.is_file() && is_manifest(&path) {
            self.real_files.insert(real);
            listing.files.insert(path);
        }
    }
}
