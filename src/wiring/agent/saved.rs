//! What a replica keeps on its disk: loaded at the start, written beside the path of changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use kubeng_config::heartbeat::{FileState, LastKnownGood, Origin};
use kubeng_config::problem;
use kubeng_config::statement::SignedStatement;
use kubeng_controller::distribution::signing::VerifyingKeys;
use kubeng_proxy::persist::{DataKey, HeardEpoch, Keep, Keeper, KeeperSettings, load};
use kubeng_proxy::{Background, ProxyFacts, TableWriter};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{Agent, known};

/// The disk of a replica.
#[derive(Clone)]
pub(in crate::wiring) struct Disk {
    folder: PathBuf,
    key: Option<Arc<DataKey>>,
}

/// What was found there.
pub(in crate::wiring) struct Found {
    pub(in crate::wiring) serves: Option<SignedStatement>,
    pub(in crate::wiring) epoch: kubeng_config::statement::Epoch,
    damaged: Vec<String>,
    unbound: Vec<kubeng_config::problem::Problem>,
}

/// The way to the task that writes.
pub(in crate::wiring) struct Keeping {
    newest: watch::Sender<Option<Keep>>,
    pub(in crate::wiring) state: watch::Receiver<Option<LastKnownGood>>,
    heard: HeardEpoch,
    /// How often all was healed.
    heals: u32,
}

impl Disk {
    /// The disk in the data folder `data`; secrets are encrypted where a file with a key is given.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub(in crate::wiring) fn open(data: &Path, key_file: Option<&Path>) -> anyhow::Result<Self> {
        let key = key_file.map(|path| {
            let shown = path.display();
            let bytes = std::fs::read(path)
                .with_context(|| format!("cannot read data-key-file {shown}"))?;
            let key = DataKey::new(&bytes);
            key.map(Arc::new).with_context(|| format!("data-key-file {shown} cannot be used"))
        });
        Ok(Self { folder: data.join(FOLDER), key: key.transpose()? })
    }

    /// Serves what was kept, the newest that is whole and that `believed` stand for.
    pub(in crate::wiring) fn start(
        &self,
        writer: &mut TableWriter,
        fleet: &kubeng_config::name::FleetName,
        believed: Option<&VerifyingKeys>,
    ) -> Found {
        let began = std::time::Instant::now();
        let mut unbound = Vec::new();
        let loaded = load(&self.folder, self.key.as_deref(), |saved| {
            if let Some(keys) = believed {
                keys.verify(&saved.statement).map_err(|error| format!("{error:#}"))?;
            }
            let of = &saved.statement.statement.fleet;
            if of != fleet {
                return Err(format!("it is of fleet {of}, and this replica is of {fleet}"));
            }
            let applied = writer.apply(&saved.delta);
            let applied = applied.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
            unbound = applied.unbound.iter().map(known::unbound).collect();
            Ok(())
        });
        let damaged = loaded.damaged.iter().map(|file| {
            let text = format!(
                "{}: {:#}",
                file.path.display(),
                anyhow::Error::msg(file.damage.to_string())
            );
            error!(file = %text, "what was kept cannot be used; the one before it is taken");
            text
        });
        let damaged: Vec<String> = damaged.collect();
        let heard = HeardEpoch::of(&self.folder).read().unwrap_or_else(|error| {
            warn!(%error, "the newest epoch that was heard of cannot be read");
            Default::default()
        });
        let serves = loaded.saved.map(|saved| saved.statement);
        match &serves {
            Some(signed) => info!(
                digest = %signed.statement.target.short(),
                position = %signed.statement.position,
                milliseconds = began.elapsed().as_millis(),
                "serving from disk, no controller heard"
            ),
            None => info!("nothing to serve was kept; waiting for a controller"),
        }
        Found { serves, epoch: heard, damaged, unbound }
    }

    /// The task that keeps what is served from here on, and the way to it.
    pub(in crate::wiring) fn keeper(
        &self,
        facts: ProxyFacts,
        background: Background,
        found: &Found,
    ) -> (Keeper, Keeping) {
        let (newest, wanted) = watch::channel(None);
        let (state, told) = watch::channel(None);
        let damaged = (!found.damaged.is_empty()).then(|| found.damaged.join("; "));
        let settings = KeeperSettings {
            folder: self.folder.clone(),
            key: self.key.clone(),
            loaded: found.serves.clone(),
            damaged,
        };
        let keeper = Keeper::new(settings, (facts, background), wanted, state);
        let heard = HeardEpoch::of(&self.folder);
        (keeper, Keeping { newest, state: told, heard, heals: 0 })
    }
}

impl Agent {
    /// Takes note of what was found on disk and is served.
    pub(in crate::wiring) fn found(&mut self, found: Found) {
        let Found { serves, epoch: _, damaged, unbound } = found;
        self.note_ports(unbound);
        self.known.damaged = damaged
            .into_iter()
            .map(|text| {
                let remedy = "find out who changed it; it is written again with the next change";
                known::of_replica(problem::SAVED_FILE_DAMAGED, text, remedy)
            })
            .collect();
        if let Some(statement) = serves {
            (self.origin, self.since) = (Origin::Disk, SystemTime::now());
            if let Some(keeping) = &self.keeping {
                let (snapshot, secrets) = (self.writer.snapshot(), self.writer.secrets());
                let heals = keeping.heals;
                keeping.newest.send_replace(Some(Keep { statement, snapshot, secrets, heals }));
            }
        }
    }

    /// Has it written down again, whatever others have done to the files.
    pub(super) fn keep_anew(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            keeping.heals = keeping.heals.wrapping_add(1);
        }
        self.keep();
    }

    /// Has what is served written down, the newest of it.
    pub(super) fn keep(&mut self) {
        if let (Some(keeping), Some(statement)) = (&self.keeping, self.follower.serves()) {
            let (snapshot, secrets) = (self.writer.snapshot(), self.writer.secrets());
            let (statement, heals) = (statement.clone(), keeping.heals);
            keeping.newest.send_replace(Some(Keep { statement, snapshot, secrets, heals }));
        }
    }

    /// Writes down that a new term of leadership was heard of, before anything is answered.
    pub(super) async fn note_epoch(&mut self) {
        let Some(keeping) = &self.keeping else { return };
        let (heard, epoch) = (keeping.heard.clone(), self.follower.epoch());
        let written = tokio::task::spawn_blocking(move || heard.write(epoch)).await;
        if let Ok(Err(error)) = written {
            // Serving goes on; only after a restart an earlier leader could be heard.
            error!(%error, %epoch, "the epoch cannot be written down");
        }
    }

    /// Takes note of how the file is; true when something has changed for those who look on.
    pub(in crate::wiring) fn look_at_file(&mut self) -> bool {
        let Some(keeping) = &mut self.keeping else { return false };
        let state = keeping.state.borrow_and_update().clone();
        let unwritable = match state.map(|kept| kept.file) {
            Some(FileState::Unwritable(text)) => {
                let remedy = "make room, or give the right to write there; it is tried again";
                Some(known::of_replica(problem::SAVED_FILE_UNWRITABLE, text, remedy))
            }
            Some(FileState::Intact) => {
                self.known.damaged.clear();
                None
            }
            Some(FileState::Altered(_)) | None => None,
        };
        self.known.unwritable = unwritable;
        true
    }
}

/// Waits until the file is in another state. Cancel safe.
pub(super) async fn file_changed(keeping: &mut Option<Keeping>) {
    let is_told = match keeping {
        Some(keeping) => keeping.state.changed().await.is_ok(),
        None => false,
    };
    if !is_told {
        // Nobody keeps anything, or the process ends.
        std::future::pending::<()>().await;
    }
}

/// Within the data folder.
const FOLDER: &str = "last-known-good";
