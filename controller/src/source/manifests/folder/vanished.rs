//! Files that are not there any more, and which of them went for good.
//!
//! A file that is deleted was meant to go. A folder in which nothing is left where there were several
//! files, or that is another one than before, was more likely unmounted or emptied by mistake: what was
//! last read of it counts until that is confirmed, as for an empty list of an API server.

use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubeng_config::problem::{Problem, REMOVAL_HELD, Subject};

use super::{File, Folder, GRACE};
use crate::source::manifests::tree::{is_manifest, problem};

/// How much later a second look must find nothing, as for lists.
pub(crate) const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// What is known of what is missing.
#[derive(Debug, Default)]
pub(super) struct Vanished {
    /// Since when nothing has been left, while what was last read counts.
    held_since: Option<Instant>,
    /// When a file that had Objects was last taken away at once.
    taken_at: Option<Instant>,
    /// Device and inode of the folder at the last look.
    folder: Option<(u64, u64)>,
    /// Whether a link leads nowhere behind which something was read.
    has_dangling: bool,
}

/// Whether a look finds the folder that was looked at before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The same, or the first one.
    Same,
    /// Another one is in its place, or it was away.
    Other,
}

impl Folder {
    /// Whether something is missing that may come back without a report.
    pub(crate) fn lacks_any(&self) -> bool {
        self.vanished.held_since.is_some() || self.vanished.has_dangling
    }

    /// Notes that a file or folder was renamed away. Editors do that just
    /// before they write the file anew, so its Objects stay for a moment.
    pub(crate) fn note_renamed_away(&mut self, path: &Path, now: Instant) {
        let known = self.files.iter();
        let below = known.filter(|(file, known)| file.starts_with(path) && !known.is_held);
        let below: Vec<Arc<Path>> = below.map(|(file, _)| Arc::clone(file)).collect();
        for path in below {
            if !path.exists() {
                self.fade(&path, now);
            }
        }
    }

    /// Takes away a file that was deleted: at once, unless it is the last one that is left. Then the
    /// next moment tells whether others went with it.
    pub(super) fn note_deleted(&mut self, path: &Path, now: Instant) {
        let Some(file) = self.files.get(path).filter(|file| !file.is_leaving()) else { return };
        let has_objects = has_objects(file);
        let is_recent = self.vanished.taken_at.is_some_and(|at| now < at + GRACE);
        if has_objects && self.are_others_gone(path, is_recent) {
            self.fade(path, now);
            return;
        }
        if has_objects {
            self.vanished.taken_at = Some(now);
        }
        self.forget(path);
    }

    /// Does what is due by the passing of time alone.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_due = |since: Option<Instant>| since.is_some_and(|since| since + GRACE <= now);
        let is_file_due = |file: &File| is_due(file.fading) || is_due(file.open);
        let due: Vec<Arc<Path>> = self
            .waiting
            .iter()
            .filter(|path| self.files.get(*path).is_some_and(|file| is_file_due(file)))
            .cloned()
            .collect();
        let mut gone = Vec::new();
        let mut began = now;
        for path in due {
            self.read(&path, super::Look::Always, now);
            let fading = self.files.get(&path).and_then(|file| file.fading);
            let Some(since) = fading.filter(|since| is_due(Some(*since))) else { continue };
            // Still gone, or still empty: it was meant.
            if path.exists() {
                self.update(&path, |file| *file = File::default());
            } else if self.is_unknown(&path) {
                self.update(&path, |file| file.fading = None);
            } else {
                began = began.min(since);
                gone.push(path);
            }
        }
        self.take_away(gone, began, Place::Same, now);
        self.end_hold(now);
    }

    /// Notes the links that lead nowhere; what was read behind them goes on counting.
    pub(super) fn note_dangling(&mut self, dangling: Vec<(PathBuf, io::Error)>) {
        self.vanished.has_dangling = false;
        for (link, error) in dangling {
            let from = (Bound::Included(&*link), Bound::Unbounded);
            let first = self.files.range::<Path, _>(from).next();
            let is_known = first.is_some_and(|(path, _)| path.starts_with(&link));
            self.vanished.has_dangling |= is_known;
            if is_known || is_manifest(&link) {
                let message = format!("the link leads nowhere: {error}");
                self.listed_problems.push(problem(&link, message));
            }
        }
    }

    /// Notes which folder is looked at. To be asked before it is known to be reachable again: an
    /// inode may be used anew.
    pub(super) fn place_of_folder(&mut self) -> Place {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(&self.root).ok();
        let current = metadata.map(|metadata| (metadata.dev(), metadata.ino()));
        let former = std::mem::replace(&mut self.vanished.folder, current);
        let is_same = former.is_none_or(|_| former == current) && self.unreachable.is_none();
        if is_same { Place::Same } else { Place::Other }
    }

    /// Finds what a look at the whole folder has not found any more.
    pub(super) fn look_for_losses(
        &mut self,
        files: &BTreeSet<PathBuf>,
        unread: &[PathBuf],
        place: Place,
        now: Instant,
    ) {
        let gone: Vec<Arc<Path>> = self
            .files
            .iter()
            .filter(|(path, file)| !file.is_leaving() && !files.contains(&***path))
            .map(|(path, _)| Arc::clone(path))
            .filter(|path| !unread.iter().any(|folder| path.starts_with(folder)))
            .collect();
        self.take_away(gone, now, place, now);
        let is_believed =
            self.vanished.held_since.is_some_and(|since| since + BELIEVED_AFTER <= now);
        if is_believed && unread.is_empty() && !self.has_any() {
            self.vanished.held_since = None;
            for path in self.held() {
                self.forget(&path);
            }
        }
    }

    /// Takes away files that are not there, or holds all when nothing is left. `began`: when the
    /// first of them went.
    fn take_away(&mut self, gone: Vec<Arc<Path>>, began: Instant, place: Place, now: Instant) {
        if gone.is_empty() {
            return;
        }
        if self.is_emptied() && self.is_doubtful(began, place) {
            self.hold(now);
            return;
        }
        for path in gone {
            self.forget(&path);
        }
    }

    /// Whether every file that had Objects is gone.
    fn is_emptied(&self) -> bool {
        let mut having = self.files.iter().filter(|(_, file)| has_objects(file)).peekable();
        having.peek().is_some()
            && having.all(|(path, file)| file.is_held || self.has_vanished(path))
    }

    /// Whether that nothing is left may be a mistake. Who deletes the only file means it.
    fn is_doubtful(&self, began: Instant, place: Place) -> bool {
        let first =
            |places: &super::Definitions| places.first().map(|((_, path, _), _)| Arc::clone(path));
        let serving: BTreeSet<Arc<Path>> = self.definitions.values().filter_map(first).collect();
        let went_before = self.vanished.taken_at.is_some_and(|at| began < at + GRACE);
        place == Place::Other || serving.len() > 1 || went_before
    }

    fn hold(&mut self, now: Instant) {
        let missing = self
            .files
            .iter()
            .filter(|(path, file)| has_objects(file) && !file.is_held && self.has_vanished(path));
        let missing: Vec<Arc<Path>> = missing.map(|(path, _)| Arc::clone(path)).collect();
        for path in missing {
            self.update(&path, |file| {
                file.is_held = true;
                file.fading = None;
                file.open = None;
                file.fingerprint = None;
            });
        }
        self.vanished.held_since.get_or_insert(now);
        self.may_problems_differ = true;
    }

    /// Ends the hold when something can be read again: what is not there a moment later has gone.
    fn end_hold(&mut self, now: Instant) {
        if self.vanished.held_since.is_none() || !self.has_any() {
            return;
        }
        self.vanished.held_since = None;
        self.may_problems_differ = true;
        for path in self.held() {
            self.update(&path, |file| {
                file.is_held = false;
                file.fading = Some(now);
            });
        }
    }

    fn held(&self) -> Vec<Arc<Path>> {
        let held = self.files.iter().filter(|(_, file)| file.is_held);
        held.map(|(path, _)| Arc::clone(path)).collect()
    }

    /// Whether a file with Objects is there.
    fn has_any(&self) -> bool {
        self.files.values().any(|file| has_objects(file) && !file.is_leaving())
    }

    /// What is told while nothing is left.
    pub(super) fn held_problem(&self) -> Option<Problem> {
        self.vanished.held_since?;
        Some(Problem {
            subject: Subject::Other(format!("manifests:{}", self.root.display())),
            field: String::new(),
            code: REMOVAL_HELD,
            message: format!(
                "nothing is left in the folder of {} files; what was last read is served until a \
                 second look at least {} s later finds nothing either",
                self.held().len(),
                BELIEVED_AFTER.as_secs()
            ),
            remedy: "mount or fill the folder again; if it is meant to be empty, only wait"
                .to_owned(),
            provenance: None,
        })
    }

    /// Whether no other file with Objects is there; `or_none`: also where none is known any more.
    fn are_others_gone(&self, path: &Path, or_none: bool) -> bool {
        let files = self.files.iter();
        let mut others =
            files.filter(|(other, file)| ***other != *path && has_objects(file)).peekable();
        (or_none || others.peek().is_some())
            && others.all(|(other, file)| file.is_held || self.has_vanished(other))
    }

    fn fade(&mut self, path: &Path, now: Instant) {
        self.update(path, |file| {
            file.fading.get_or_insert(now);
            file.fingerprint = None;
        });
    }

    /// Whether a file is surely not there.
    fn has_vanished(&self, path: &Path) -> bool {
        matches!(path.try_exists(), Ok(false)) && !self.is_unknown(path)
    }

    /// Whether the folder of `path` is not there, or a link on its way leads nowhere: then nothing is
    /// known of it, and what was last read goes on counting.
    pub(super) fn is_unknown(&self, path: &Path) -> bool {
        let below = path.ancestors().take_while(|part| part.starts_with(&self.root));
        (path != self.root && !self.root.exists())
            || below.into_iter().any(|part| part.is_symlink() && !part.exists())
    }
}

fn has_objects(file: &File) -> bool {
    file.objects().next().is_some()
}
