//! The format of saved files, for fuzzing.

use kubeng_config::canonical::Digest;
use kubeng_config::snapshot::Snapshot;

use super::format::{self, Contents};
use super::{Damage, Saved};
use crate::table::Map;
use crate::table::writer::Secrets;

/// A file, and the digest of the Snapshot in it.
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    pub(crate) target: Digest,
}

/// A file with these contents, whatever they are: its begin and its checksum are right.
pub(crate) fn framed(contents: &[u8]) -> Vec<u8> {
    let mut file = [format::MAGIC, &format::VERSION.to_be_bytes(), contents].concat();
    file.extend(format::hash(&file));
    file
}

/// Reads a file whose secrets are not encrypted.
pub(crate) fn read(bytes: &[u8]) -> Result<Saved, Damage> {
    format::read(bytes, None)
}

/// Writes what was read; none when there is more than a file can hold.
pub(crate) fn write(saved: &Saved, snapshot: &Snapshot) -> Option<Written> {
    let mut secrets = Map::default();
    for (id, secret) in &saved.delta.secrets {
        secrets.insert(id.clone(), secret.clone());
    }
    let contents = Contents {
        statement: &saved.statement,
        snapshot,
        endpoints: &saved.delta.endpoints,
        secrets: &Secrets(secrets),
    };
    let mut bytes = Vec::new();
    format::write(&contents, None, &mut bytes).ok()?;
    Some(Written { bytes, target: snapshot.digest() })
}
