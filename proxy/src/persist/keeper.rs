//! The task that keeps what is served on disk, and watches that nobody else changes it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::heartbeat::{FileState, LastKnownGood};
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::SignedStatement;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::DataKey;
use super::folder::{Folder, Stamp};
use super::format::Contents;
use crate::background::Background;
use crate::proxy::ProxyFacts;
use crate::table::writer::Secrets;

/// What is to be kept. A clone is a few pointers.
#[derive(Clone)]
pub struct Keep {
    /// What a controller said about it.
    pub statement: SignedStatement,
    /// The Snapshot that it says.
    pub snapshot: Snapshot,
    /// The secrets that belong to it.
    pub secrets: Secrets,
    /// How often somebody has had all healed: with every next time what others have done to the files
    /// is taken as it is, and told no more.
    pub heals: u32,
}

/// Where and how it is kept.
pub struct KeeperSettings {
    /// The folder.
    pub folder: PathBuf,
    /// The key that secrets are encrypted with; none: the mode of the file protects them.
    pub key: Option<Arc<DataKey>>,
    /// What was loaded from there and is served; it is not written again.
    pub loaded: Option<SignedStatement>,
    /// What is wrong with what was found at the start, in words.
    pub damaged: Option<String>,
}

/// Keeps what is served on disk. One for each folder.
pub struct Keeper {
    background: Background,
    shelf: Shelf,
    newest: watch::Receiver<Option<Keep>>,
    state: watch::Sender<Option<LastKnownGood>>,
    kept: Option<Kept>,
    loaded: Option<SignedStatement>,
    /// As the last [`Keep`] that was written said.
    heals: u32,
    /// When it was last written, or was tried to be.
    tried: Option<Instant>,
}

/// What lies there.
struct Kept {
    digest: Digest,
    endpoints: Digest,
    file: FileState,
}

impl Keeper {
    /// One that keeps what `newest` says, the newest of it, by the `background`, and tells `state` how
    /// the file is.
    #[must_use]
    pub fn new(
        settings: KeeperSettings,
        (facts, background): (ProxyFacts, Background),
        newest: watch::Receiver<Option<Keep>>,
        state: watch::Sender<Option<LastKnownGood>>,
    ) -> Self {
        let KeeperSettings { folder, key, loaded, damaged } = settings;
        let folder = Folder::new(&folder);
        let shelf = Shelf { folder, key, facts, stamps: BTreeMap::new(), damaged };
        Self { background, shelf, newest, state, kept: None, loaded, heals: 0, tried: None }
    }

    /// Runs until it is told to stop; what is not on disk by then is written first.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut endpoints = tokio::time::interval(ENDPOINTS_EVERY);
        endpoints.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was loaded is served: it lies there already, and is looked after from here on.
        self = self.adopt().await;
        loop {
            let may_write = self.tried.map(|tried| tried + WRITE_EVERY);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.newest.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if let Some(may_write) = may_write {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = tokio::time::sleep_until(may_write) => {}
                        }
                    }
                    self = self.write().await;
                }
                _ = look.tick() => self = self.look().await,
                _ = endpoints.tick() => self = self.keep_endpoints().await,
            }
        }
        if self.newest.has_changed().unwrap_or(false) {
            self.write().await;
        }
    }

    /// Takes note of the files that are there.
    async fn adopt(mut self) -> Self {
        let Some(loaded) = self.loaded.take() else { return self };
        // What came since then is written as every other.
        let is_loaded = |keep: &Keep| keep.statement == loaded;
        if !self.newest.borrow().as_ref().is_some_and(is_loaded) {
            return self;
        }
        self.newest.mark_unchanged();
        let (shelf, (endpoints, file)) = apart(&self.background, self.shelf, |shelf| {
            let endpoints = shelf.facts.endpoints_digest();
            (endpoints, shelf.adopt())
        })
        .await;
        self.shelf = shelf;
        self.kept = Some(Kept { digest: loaded.statement.target, endpoints, file });
        self.tell();
        self
    }

    async fn write(mut self) -> Self {
        let Some(keep) = self.newest.borrow_and_update().clone() else { return self };
        self.tried = Some(Instant::now());
        let digest = keep.statement.statement.target;
        let (heals, heals_before) = (keep.heals, self.heals);
        let (shelf, written) = apart(&self.background, self.shelf, move |shelf| {
            let written = shelf.write(&keep)?;
            if heals != heals_before {
                shelf.take_as_they_are();
            }
            Ok::<_, io::Error>(written)
        })
        .await;
        self.shelf = shelf;
        match written {
            Ok(endpoints) => {
                self.heals = heals;
                self.kept = Some(Kept { digest, endpoints, file: FileState::Intact });
            }
            Err(error) => {
                let text = format!("{}: {error}", self.shelf.folder.path().display());
                if !self.kept.as_ref().is_some_and(|kept| is_unwritable(&kept.file)) {
                    tracing::error!(error = %text, "what is served cannot be kept on disk");
                }
                let before = self.kept.take();
                let (digest, endpoints) =
                    before.map_or_else(Default::default, |kept| (kept.digest, kept.endpoints));
                let file = FileState::Unwritable(text);
                self.kept = Some(Kept { digest, endpoints, file });
            }
        }
        self.tell();
        self
    }

    /// Looks whether the files are as they were written; tries again what could not be written.
    async fn look(mut self) -> Self {
        match self.kept.as_ref().map(|kept| &kept.file) {
            None => return self,
            Some(FileState::Unwritable(_)) => {
                let is_due = self.tried.is_none_or(|tried| tried.elapsed() >= RETRY_EVERY);
                return if is_due { self.write().await } else { self };
            }
            Some(FileState::Intact | FileState::Altered(_)) => {}
        }
        let (shelf, file) = apart(&self.background, self.shelf, Shelf::look).await;
        self.shelf = shelf;
        if let Some(kept) = &mut self.kept
            && kept.file != file
        {
            if let FileState::Altered(what) = &file {
                tracing::error!(%what, "what is kept on disk was changed by somebody else");
            }
            kept.file = file;
            self.tell();
        }
        self
    }

    /// Writes again when only Endpoints are other ones.
    async fn keep_endpoints(mut self) -> Self {
        let Some(kept) = &self.kept else { return self };
        let before = kept.endpoints;
        match kept.file {
            FileState::Intact => {}
            // What was changed is told until a change or a person has it written again.
            FileState::Altered(_) | FileState::Unwritable(_) => return self,
        }
        let (shelf, now) =
            apart(&self.background, self.shelf, |shelf| shelf.facts.endpoints_digest()).await;
        self.shelf = shelf;
        if now == before { self } else { self.write().await }
    }

    fn tell(&self) {
        let state = self
            .kept
            .as_ref()
            .map(|kept| LastKnownGood { kept: kept.digest, file: kept.file.clone() });
        self.state.send_if_modified(|before| {
            let is_other = *before != state;
            *before = state;
            is_other
        });
    }
}

fn is_unwritable(file: &FileState) -> bool {
    match file {
        FileState::Unwritable(_) => true,
        FileState::Intact | FileState::Altered(_) => false,
    }
}

/// What touches the disk.
struct Shelf {
    folder: Folder,
    key: Option<Arc<DataKey>>,
    facts: ProxyFacts,
    /// How each file was when it was written or taken note of.
    stamps: BTreeMap<u64, Stamp>,
    /// What was wrong at the start and has not been written again.
    damaged: Option<String>,
}

impl Shelf {
    fn write(&mut self, keep: &Keep) -> io::Result<Digest> {
        let Keep { statement, snapshot, secrets, heals: _ } = keep;
        let endpoints = self.facts.discovered();
        let contents = Contents { statement, snapshot, endpoints: &endpoints, secrets };
        let (generation, stamp) = self.folder.write(&contents, self.key.as_deref())?;
        self.stamps.insert(generation, stamp);
        let there = self.folder.generations()?;
        self.stamps.retain(|generation, _| there.contains(generation));
        // What others put there has a place among the generations until it is the oldest.
        for generation in there {
            if !self.stamps.contains_key(&generation)
                && let Ok(stamp) = self.folder.stamp(generation)
            {
                self.stamps.insert(generation, stamp);
            }
        }
        self.damaged = None;
        let sets = endpoints.iter().map(|(id, set)| (id, &**set));
        Ok(kubeng_config::endpoint::digest_of_all(sets))
    }

    fn adopt(&mut self) -> FileState {
        self.take_as_they_are();
        self.look()
    }

    /// Takes note of all files as they are. What is not whole is never started from.
    fn take_as_they_are(&mut self) {
        for generation in self.folder.generations().unwrap_or_default() {
            if let Ok(stamp) = self.folder.stamp(generation) {
                self.stamps.insert(generation, stamp);
            }
        }
    }

    fn look(&mut self) -> FileState {
        if let Some(damaged) = &self.damaged {
            return FileState::Altered(damaged.clone());
        }
        let there = match self.folder.generations() {
            Ok(there) => there,
            Err(error) => {
                let shown = self.folder.path().display();
                return FileState::Altered(format!("{shown} cannot be looked into: {error}"));
            }
        };
        let folder = &self.folder;
        let mut differences: Vec<String> = self
            .stamps
            .iter_mut()
            .filter_map(|(generation, stamp)| folder.difference(*generation, stamp))
            .collect();
        let foreign = there.iter().filter(|generation| !self.stamps.contains_key(generation));
        differences.extend(foreign.map(|generation| {
            format!("{} was put there by somebody else", folder.file(*generation).display())
        }));
        if differences.is_empty() {
            FileState::Intact
        } else {
            FileState::Altered(differences.join("; "))
        }
    }
}

/// Does something with the shelf where it holds up nobody.
async fn apart<T: Send + 'static>(
    background: &Background,
    mut shelf: Shelf,
    act: impl FnOnce(&mut Shelf) -> T + Send + 'static,
) -> (Shelf, T) {
    let act = move || {
        let result = act(&mut shelf);
        (shelf, result)
    };
    background.run(act).await
}

/// At least so long between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How often Endpoints are looked at that are not written yet.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a disk is tried again that was full or read-only.
const RETRY_EVERY: Duration = Duration::from_secs(5);
