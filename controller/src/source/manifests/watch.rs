//! The thread that watches a folder and reads it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use kubeng_config::problem::{Problem, SOURCE_UNREACHABLE, Subject};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::folder::Folder;
use super::tree::is_manifest;
use crate::object::Event;
use crate::source::Received;

/// How often the whole folder is looked at although nothing was reported.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The same where changes cannot be watched, or something is missing that may come back unreported.
const LOOK_EVERY_UNWATCHED: Duration = Duration::from_secs(5);

/// How often a folder that is not there is looked for.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How soon a folder is looked at again after a sub-folder has appeared: files
/// may be written there before it is watched.
const LOOK_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// Most signals that are taken together.
const SIGNALS_MAX: usize = 4096;

/// What wakes the thread.
#[derive(Debug)]
pub(crate) enum Signal {
    /// The file system reports something.
    Changed(notify::Result<notify::Event>, Instant),
    /// The source was dropped.
    Stop,
}

/// The two ends through which signals reach the thread.
pub(crate) fn signals() -> (SyncSender<Signal>, Receiver<Signal>) {
    std::sync::mpsc::sync_channel(SIGNALS_MAX)
}

/// The thread's own state.
pub(crate) struct Watch {
    root: PathBuf,
    /// The same as the file system names it in its reports; none where that is how it was named.
    absolute: Option<PathBuf>,
    folder: Folder,
    watcher: Option<Watching>,
    sender: SyncSender<Signal>,
    signals: Receiver<Signal>,
    /// Set when a signal found no place in the queue.
    has_overflowed: Arc<AtomicBool>,
    events: mpsc::Sender<Received>,
    look_at: Instant,
    look_again_at: Vec<Instant>,
}

/// A running watch, and the folder that it is for.
struct Watching {
    _watcher: RecommendedWatcher,
    identity: (u64, u64),
}

/// What a batch of signals asks for.
#[derive(Debug, Default)]
struct Wanted {
    renamed_away: Vec<PathBuf>,
    opened: Vec<PathBuf>,
    changed: Vec<PathBuf>,
    look: bool,
    look_again: bool,
}

impl Watch {
    pub(crate) fn new(
        root: PathBuf,
        (sender, signals): (SyncSender<Signal>, Receiver<Signal>),
        events: mpsc::Sender<Received>,
    ) -> Self {
        Self {
            folder: Folder::new(root.clone()),
            absolute: root.is_relative().then(|| std::path::absolute(&root).ok()).flatten(),
            root,
            watcher: None,
            sender,
            signals,
            has_overflowed: Arc::default(),
            events,
            look_at: Instant::now(),
            look_again_at: Vec::new(),
        }
    }

    /// Watches until the source is dropped.
    pub(crate) fn run(mut self) {
        self.look(Instant::now());
        while self.tell(Instant::now()) {
            let now = Instant::now();
            let (wanted, at) = match self.signals.recv_timeout(self.wait(now)) {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Signal::Changed(event, at)) => match self.collect(event) {
                    Some(wanted) => (wanted, at),
                    None => return,
                },
                Err(RecvTimeoutError::Timeout) => (Wanted::default(), Instant::now()),
            };
            self.carry_out(wanted);
            if !self.tell(at) {
                return;
            }
        }
    }

    /// Takes all signals that are there. `None`: the source was dropped.
    fn collect(&self, first: notify::Result<notify::Event>) -> Option<Wanted> {
        let mut wanted = Wanted::default();
        self.sort(first, &mut wanted);
        for signal in self.signals.try_iter().take(SIGNALS_MAX) {
            match signal {
                Signal::Stop => return None,
                Signal::Changed(event, _) => self.sort(event, &mut wanted),
            }
        }
        Some(wanted)
    }

    fn carry_out(&mut self, wanted: Wanted) {
        let now = Instant::now();
        for path in &wanted.renamed_away {
            self.folder.note_renamed_away(path, now);
        }
        for path in &wanted.opened {
            self.folder.note_open(path, now);
        }
        for path in &wanted.changed {
            self.folder.read_changed(path, now);
        }
        if wanted.look_again {
            self.look_again_at.extend(LOOK_AGAIN_AFTER.map(|after| now + after));
        }
        let has_again = self.look_again_at.iter().any(|at| *at <= now);
        self.look_again_at.retain(|at| *at > now);
        let has_overflowed = self.has_overflowed.swap(false, Ordering::Relaxed);
        if wanted.look || has_again || has_overflowed || self.look_at <= now {
            self.look(now);
        }
        self.folder.expire(now);
    }

    /// Looks at the whole folder; begins to watch it first, so that nothing is missed.
    fn look(&mut self, now: Instant) {
        let identity = identity(&self.root);
        if self.watcher.as_ref().map(|watching| watching.identity) != identity {
            self.watcher = None;
            self.folder.note_watching(None);
            if let Some(identity) = identity {
                self.begin(identity);
            }
        }
        self.folder.look(now);
        self.look_at = now
            + if self.folder.is_unreachable() {
                RETRY_EVERY
            } else if self.watcher.is_none() || self.folder.lacks_any() {
                LOOK_EVERY_UNWATCHED
            } else {
                LOOK_EVERY
            };
    }

    fn begin(&mut self, identity: (u64, u64)) {
        let (sender, has_overflowed) = (self.sender.clone(), Arc::clone(&self.has_overflowed));
        let heard = move |event: notify::Result<notify::Event>| {
            // Our own reading is reported, too.
            if event.as_ref().is_ok_and(is_reading) {
                return;
            }
            if sender.try_send(Signal::Changed(event, Instant::now())).is_err() {
                has_overflowed.store(true, Ordering::Relaxed);
            }
        };
        let is_link = self.root.is_symlink();
        let begun = notify::recommended_watcher(heard).and_then(|mut watcher| {
            if self.root.is_file() {
                watcher.watch(parent(&self.root), RecursiveMode::NonRecursive)?;
            } else {
                watcher.watch(&self.root, RecursiveMode::Recursive)?;
                if is_link {
                    // The link may be pointed elsewhere.
                    watcher.watch(parent(&self.root), RecursiveMode::NonRecursive)?;
                }
            }
            Ok(watcher)
        });
        match begun {
            Ok(watcher) => self.watcher = Some(Watching { _watcher: watcher, identity }),
            Err(error) => self.folder.note_watching(Some(self.unwatched(&error))),
        }
    }

    fn unwatched(&self, error: &notify::Error) -> Problem {
        Problem {
            subject: Subject::Other(format!("manifests:{}", self.root.display())),
            field: String::new(),
            code: SOURCE_UNREACHABLE,
            message: format!(
                "changes cannot be watched, so it is read every {} s: {error}",
                LOOK_EVERY_UNWATCHED.as_secs()
            ),
            remedy: "raise fs.inotify.max_user_watches or max_user_instances".to_owned(),
            provenance: None,
        }
    }

    /// Tells what has changed. False when nobody listens any more.
    fn tell(&mut self, at: Instant) -> bool {
        // What one save changes belongs together: a Route may lead to what stands behind it.
        let event = Event::Together(self.folder.tell());
        let is_any = !matches!(&event, Event::Together(events) if events.is_empty());
        (!is_any || self.events.blocking_send(Received { event, at }).is_ok())
            && !self.events.is_closed()
    }

    fn wait(&self, now: Instant) -> Duration {
        let again = self.look_again_at.iter().copied().min();
        let deadlines = [Some(self.look_at), again, self.folder.deadline()];
        let first = deadlines.into_iter().flatten().min().unwrap_or(now);
        first.saturating_duration_since(now)
    }

    fn sort(&self, event: notify::Result<notify::Event>, wanted: &mut Wanted) {
        match event {
            Ok(event) if event.need_rescan() => wanted.look = true,
            Ok(mut event) => {
                event.paths.iter_mut().for_each(|path| self.name_as_given(path));
                self.sort_event(event, wanted);
            }
            Err(_) => wanted.look = true,
        }
    }

    /// Names a path that is reported as the folder was named; reports are absolute.
    fn name_as_given(&self, path: &mut PathBuf) {
        let Some(absolute) = &self.absolute else { return };
        if let Ok(below) = path.strip_prefix(absolute) {
            let is_root = below.as_os_str().is_empty();
            *path = if is_root { self.root.clone() } else { self.root.join(below) };
        }
    }

    fn sort_event(&self, event: notify::Event, wanted: &mut Wanted) {
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Metadata(_))
            | EventKind::Remove(RemoveKind::File) => {
                // With a link the Problem goes that it leads nowhere.
                let is_removal = matches!(event.kind, EventKind::Remove(_));
                wanted.look |= is_removal && self.folder.has_links();
                for path in event.paths {
                    self.sort_file(path, wanted);
                }
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                for path in event.paths {
                    if path.is_dir() || path.is_symlink() {
                        wanted.look = true;
                        wanted.look_again |= path.is_dir();
                    } else {
                        self.sort_file(path, wanted);
                    }
                }
            }
            // Reading is no change, and both halves of a rename are reported alone.
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {}
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                // Without the folder itself nothing is known to be gone: a look says that.
                wanted.look |= event.paths.contains(&self.root) || self.folder.has_links();
                let below = event.paths.into_iter().filter(|path| *path != self.root);
                wanted.renamed_away.extend(below);
            }
            EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_))
                if cfg!(target_os = "linux") =>
            {
                for path in event.paths {
                    self.sort_opened(path, wanted);
                }
            }
            EventKind::Create(CreateKind::Folder) => {
                wanted.look = true;
                wanted.look_again = true;
            }
            EventKind::Any
            | EventKind::Create(_)
            | EventKind::Modify(_)
            | EventKind::Remove(_)
            | EventKind::Other => wanted.look |= self.concerns(&event.paths),
        }
    }

    /// A file has been written or removed.
    fn sort_file(&self, path: PathBuf, wanted: &mut Wanted) {
        if self.is_ours(&path) {
            wanted.changed.push(path);
        } else if self.concerns(std::slice::from_ref(&path)) {
            wanted.look |= self.folder.has_links() || path == self.root;
        }
    }

    /// A file has been created or written to; its closing will be reported.
    fn sort_opened(&self, path: PathBuf, wanted: &mut Wanted) {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { return };
        if metadata.is_symlink() {
            wanted.look |= self.concerns(std::slice::from_ref(&path));
        } else if self.is_ours(&path) {
            use std::os::unix::fs::MetadataExt;
            // A hard link is whole at once and is never closed.
            let to = if metadata.nlink() > 1 { &mut wanted.changed } else { &mut wanted.opened };
            to.push(path);
        }
    }

    /// Whether `path` is one that the folder would list.
    fn is_ours(&self, path: &Path) -> bool {
        if path == self.root {
            return self.root.is_file();
        }
        let Ok(below) = path.strip_prefix(&self.root) else { return false };
        let is_hidden =
            |part: std::path::Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
        is_manifest(path) && !below.components().any(is_hidden)
    }

    fn concerns(&self, paths: &[PathBuf]) -> bool {
        paths.is_empty() || paths.iter().any(|path| path.starts_with(&self.root))
    }
}

/// Whether a file was only opened, read, or closed after that.
fn is_reading(event: &notify::Event) -> bool {
    matches!(event.kind, EventKind::Access(access)
        if access != AccessKind::Close(AccessMode::Write))
        && !event.need_rescan()
}

/// What tells one folder from another of the same name.
fn identity(root: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(root).ok()?;
    // A file is watched through its folder, and saving may replace it.
    if metadata.is_file() { Some((0, 0)) } else { Some((metadata.dev(), metadata.ino())) }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}
