//! The newest epoch that was heard of: on disk before anything is answered, so that no earlier leader
//! is heard after a restart either.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kubeng_config::statement::Epoch;

/// The file that holds it: one number in one line.
#[derive(Clone, Debug)]
pub struct HeardEpoch(PathBuf);

impl HeardEpoch {
    /// In this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self(folder.to_path_buf())
    }

    /// What it says; nothing was heard where there is no such file.
    ///
    /// # Errors
    /// When it cannot be read or holds something else. It is written anew with the next epoch.
    pub fn read(&self) -> io::Result<Epoch> {
        match fs::read_to_string(self.0.join(NAME)) {
            Ok(text) => text
                .trim()
                .parse()
                .map(Epoch)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not a number")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Epoch::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it down and waits until it lies on the disk. Once for each term of leadership.
    ///
    /// # Errors
    /// When the disk is full or read-only.
    pub fn write(&self, epoch: Epoch) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let beside = self.0.join(BESIDE);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{epoch}")?;
        file.sync_all()?;
        fs::rename(beside, self.0.join(NAME))?;
        File::open(&self.0)?.sync_all()
    }
}

const NAME: &str = "epoch";
const BESIDE: &str = "epoch.new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_read_again_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let heard = HeardEpoch::of(folder.path());
        assert_eq!(heard.read().unwrap(), Epoch(0));
        heard.write(Epoch(7)).unwrap();
        assert_eq!(heard.read().unwrap(), Epoch(7));
        fs::write(folder.path().join(NAME), "x").unwrap();
        heard.read().unwrap_err();
        heard.write(Epoch(8)).unwrap();
        assert_eq!(heard.read().unwrap(), Epoch(8));
    }
}
