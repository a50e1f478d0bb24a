//! What people do about a deviation: heal, adopt, dismiss.

use std::time::Duration;

use kubeng_config::adopt::{Adoption, adopt};

use super::record::{DriftRecord, RecordError, Resolution, check};
use super::registry::now;
use super::{AskError, Replicas};
use crate::distribution::{Question, Reply};

/// How long a replica may take to make anew what it runs.
pub(super) const HEAL_WITHIN: Duration = Duration::from_secs(30);

/// Why something was not done about a deviation. Nothing has changed then.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ActError {
    /// The record cannot be changed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The replica did not do it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It did it and runs something else all the same.
    #[error("replica {replica} made what it runs anew, and runs {runs} instead of {wanted}")]
    Unhealed {
        /// The replica.
        replica: String,
        /// What it runs.
        runs: String,
        /// What it acknowledged.
        wanted: String,
    },
    /// Its own program is what was changed.
    #[error("a replica cannot exchange its own program: install the right one and restart it")]
    Program,
    /// The fleet is gone.
    #[error("the fleet of the replica does not exist any more")]
    FleetGone,
}

impl Replicas {
    /// Has the replica of a record make anew what it runs, and sees to it that it does.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn heal(
        &self,
        id: &str,
        etag: Option<&str>,
        by: &str,
    ) -> Result<DriftRecord, ActError> {
        let record = self.book.get(id).ok_or_else(|| RecordError::Unknown(id.to_owned()))?;
        check(&record, etag)?;
        if !record.is_healable {
            return Err(ActError::Program);
        }
        let replica = &record.replica;
        let wanted = self.get(replica).and_then(|view| view.acknowledged);
        let reply = self.ask(replica, Question::Heal, HEAL_WITHIN).await?;
        let Reply::Healed(runs) = reply else {
            let why = "it replied to another question".to_owned();
            return Err(AskError::Refused { replica: replica.clone(), why }.into());
        };
        // Something newer may have come in between.
        let newer = self.get(replica).and_then(|view| view.acknowledged);
        self.registry.with(replica, |entry| entry.healed(runs, now()));
        if ![wanted, newer].contains(&Some(runs)) {
            let short = |digest: kubeng_config::canonical::Digest| digest.short();
            return Err(ActError::Unhealed {
                replica: replica.to_string(),
                runs: runs.short(),
                wanted: newer.map_or_else(|| "nothing".to_owned(), short),
            });
        }
        self.metrics.healed.inc();
        let reason = "it made what it runs anew";
        Ok(self.book.resolve(id, None, Resolution::Healed, by, reason)?)
    }

    /// Writes what differs as overrides, as far as it can be, and ends the record. It writes nowhere
    /// else: what is to be served is what its sources say.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn adopt(
        &self,
        id: &str,
        etag: Option<&str>,
        by: &str,
        reason: &str,
    ) -> Result<(DriftRecord, Adoption), ActError> {
        let record = self.book.get(id).ok_or_else(|| RecordError::Unknown(id.to_owned()))?;
        check(&record, etag)?;
        let running = self.running(&record.replica).await?;
        let intended = self.intended(&record.replica.fleet).ok_or(ActError::FleetGone)?;
        let found = adopt(&intended.parts, &running.parts);
        if found.overrides.is_empty() {
            // What cannot be adopted at all stays open.
            return Ok((record, found));
        }
        let record = self.book.resolve(id, etag, Resolution::Adopted, by, reason)?;
        Ok((record, found))
    }

    /// Says that a deviation is well, until its evidence changes.
    ///
    /// # Errors
    /// See [`ActError`].
    pub fn dismiss(
        &self,
        id: &str,
        etag: Option<&str>,
        by: &str,
        reason: &str,
    ) -> Result<DriftRecord, ActError> {
        Ok(self.book.resolve(id, etag, Resolution::Dismissed, by, reason)?)
    }
}
