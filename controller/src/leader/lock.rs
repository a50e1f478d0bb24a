//! Which of several controllers that share a folder leads: whoever holds a lock in it.
//!
//! The lock ends with its process, however that ends. A process that is stopped keeps it: nobody else
//! leads meanwhile, and replicas are served by all controllers anyway. Beside it stands the number of
//! the term, raised before each, so that what a deposed leader says is refused.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kubeng_config::statement::Epoch;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Term;

/// A try to lead by the lock in one folder.
#[derive(Debug)]
pub struct FolderLock {
    folder: PathBuf,
    held: Option<File>,
    term: Term,
}

impl FolderLock {
    /// Nothing is done before the first [`turn`](Self::turn).
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, held: None, term: Term::default() }
    }

    /// What was found by the last turn.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Looks who leads, and does it if nobody else does. Reads and writes files, and waits for none
    /// but the disk.
    ///
    /// # Errors
    /// When the folder cannot be used, or what stands there is no number. Nobody leads then; the
    /// epoch is the newest that is known.
    pub fn turn(&mut self) -> io::Result<Term> {
        self.term.is_leader = false;
        let found = read_epoch(&self.folder)?;
        if self.held.is_some() && self.is_deposed(found)? {
            // Somebody has removed the file, and another one leads by a file of its own.
            self.held = None;
        }
        if self.held.is_some() {
            self.term.is_leader = true;
        } else if let Some(lock) = take(&self.folder)? {
            // Read again under the lock: its former holder may have raised it since.
            let epoch = read_epoch(&self.folder)?.max(self.term.epoch);
            let next = epoch.0.checked_add(1).ok_or_else(|| unusable("the last epoch is over"))?;
            write_epoch(&self.folder, Epoch(next))?;
            self.term = Term { is_leader: true, epoch: Epoch(next) };
            self.held = Some(lock);
        } else {
            self.term.epoch = self.term.epoch.max(read_epoch(&self.folder)?);
        }
        Ok(self.term)
    }

    fn is_deposed(&self, found: Epoch) -> io::Result<bool> {
        let Some(lock) = &self.held else { return Ok(true) };
        Ok(found > self.term.epoch || !is_same(&self.folder.join(LOCK), &lock.metadata()?))
    }
}

/// Tries to lead, and looks who does, until told to stop; then another one may lead.
pub async fn run(folder: PathBuf, told: watch::Sender<Term>, stop: CancellationToken) {
    let mut lock = FolderLock::new(folder);
    let mut failing = None;
    loop {
        let turned = tokio::task::spawn_blocking(move || {
            let turned = lock.turn();
            (lock, turned)
        });
        let Ok((back, turned)) = turned.await else { return };
        lock = back;
        match turned {
            Ok(_) => failing = None,
            Err(error) => {
                let error = error.to_string();
                if failing.as_ref() != Some(&error) {
                    warn!(folder = %lock.folder.display(), error, "nobody can lead by this folder: mend it, then it goes on by itself");
                    failing = Some(error);
                }
            }
        }
        tell(&told, lock.term());
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    tell(&told, Term { is_leader: false, ..lock.term() });
}

fn tell(told: &watch::Sender<Term>, next: Term) {
    told.send_if_modified(|term| {
        let before = std::mem::replace(term, next);
        if before.is_leader != next.is_leader {
            info!(leads = next.is_leader, epoch = %next.epoch, "leadership by the folder");
        }
        before != next
    });
}

/// The lock, if nobody else has it.
fn take(folder: &Path) -> io::Result<Option<File>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
    match lock.try_lock() {
        // A file that was removed meanwhile locks nobody out.
        Ok(()) => Ok(is_same(&path, &lock.metadata()?).then_some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_same(path: &Path, held: &Metadata) -> bool {
    let there = std::fs::metadata(path);
    there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino()))
}

/// Zero where nobody has led yet.
fn read_epoch(folder: &Path) -> io::Result<Epoch> {
    match std::fs::read_to_string(folder.join(EPOCH)) {
        Ok(text) => match text.trim().parse() {
            Ok(epoch) => Ok(Epoch(epoch)),
            // Never taken for zero: replicas would refuse whatever is said from there on.
            Err(_) => Err(unusable("it holds no number; write one above all that were there")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Epoch::default()),
        Err(error) => Err(error),
    }
}

/// On the disk when it returns, and whole at every moment.
fn write_epoch(folder: &Path, epoch: Epoch) -> io::Result<()> {
    let new = folder.join(EPOCH_NEW);
    let mut file = File::create(&new)?;
    file.write_all(format!("{epoch}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(EPOCH))?;
    File::open(folder)?.sync_all()
}

fn unusable(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{EPOCH}: {why}"))
}

/// The file that is locked.
const LOCK: &str = "leader.lock";

/// The number of the term.
const EPOCH: &str = "leader.epoch";

/// The same before it is in force. Only who holds the lock writes it.
const EPOCH_NEW: &str = "leader.epoch.new";

/// How often it is looked who leads.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(epoch: u32) -> Term {
        Term { is_leader: true, epoch: Epoch(epoch) }
    }

    fn follows(epoch: u32) -> Term {
        Term { is_leader: false, epoch: Epoch(epoch) }
    }

    fn two() -> (tempfile::TempDir, FolderLock, FolderLock) {
        let folder = tempfile::tempdir().unwrap();
        let lock = || FolderLock::new(folder.path().join("authority"));
        let (a, b) = (lock(), lock());
        (folder, a, b)
    }

    #[test]
    fn one_leads_and_the_next_one_has_a_later_term() {
        let (_folder, mut a, mut b) = two();
        assert_eq!(a.turn().unwrap(), leads(1));
        assert_eq!(b.turn().unwrap(), follows(1));
        assert_eq!(a.turn().unwrap(), leads(1), "it stays in its term");
        drop(a);
        assert_eq!(b.turn().unwrap(), leads(2));
        let mut again = FolderLock::new(b.folder.clone());
        assert_eq!(again.turn().unwrap(), follows(2));
    }

    #[test]
    fn who_was_deposed_keeps_its_term_until_it_looks() {
        let (_folder, mut a, mut b) = two();
        assert_eq!(a.turn().unwrap(), leads(1));
        // `a` is paused, and somebody helps `b` to lead.
        std::fs::remove_file(a.folder.join(LOCK)).unwrap();
        assert_eq!(b.turn().unwrap(), leads(2));
        assert_eq!(
            a.term(),
            leads(1),
            "what it says is refused by whoever has heard of the second"
        );
        assert_eq!(a.turn().unwrap(), follows(2));
        assert_eq!(b.turn().unwrap(), leads(2));
    }

    #[test]
    fn nobody_leads_where_the_term_cannot_be_told() {
        let (_folder, mut a, mut b) = two();
        assert_eq!(a.turn().unwrap(), leads(1));
        std::fs::write(a.folder.join(EPOCH), "x").unwrap();
        for lock in [&mut a, &mut b] {
            let error = lock.turn().unwrap_err();
            assert!(error.to_string().contains("no number"), "{error}");
            assert!(!lock.term().is_leader);
        }
        std::fs::write(a.folder.join(EPOCH), "7\n").unwrap();
        assert_eq!(a.turn().unwrap(), leads(8), "as after somebody else");
        assert_eq!(b.turn().unwrap(), follows(8));
    }

    #[tokio::test]
    async fn a_follower_takes_over_and_learns_the_term_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (told, term) = watch::channel(Term::default());
            let stop = CancellationToken::new();
            tasks.spawn(run(folder.path().to_owned(), told, stop.clone()));
            all.push((stop, term));
        }
        let (mut stops, mut terms): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let leader = loop {
            for term in &mut terms {
                term.wait_for(|term| term.epoch == Epoch(1)).await.unwrap();
            }
            if let Some(leader) = terms.iter().position(|term| term.borrow().is_leader) {
                break leader;
            }
        };
        assert_eq!(terms.iter().filter(|term| term.borrow().is_leader).count(), 1);
        stops.remove(leader).cancel();
        terms.remove(leader);
        let within = Duration::from_secs(20);
        let next = terms[0].wait_for(|term| *term == leads(2));
        tokio::time::timeout(within, next).await.unwrap().unwrap();
        stops[0].cancel();
        while tasks.join_next().await.is_some() {}
    }
}
