//! What lies on the disk of a replica: a Statement, the Parts of a Delta, Endpoints and secrets.

use kubeng_config::canonical::Digest;
use kubeng_config::snapshot::Snapshot;

use crate::persist::fuzz::{Written, framed, read, write};

/// Saved files: the bytes as they are, and as the contents of a file whose frame and checksum are
/// right. What is read and makes a Snapshot is written and read alike, to the byte.
pub fn saved_file(bytes: &[u8]) {
    let _ = read(bytes);
    let Ok(saved) = read(&framed(bytes)) else { return };
    let Ok(snapshot) = Snapshot::default().edited(saved.delta.upserts.iter().cloned(), []) else {
        return;
    };
    let Some(Written { bytes: first, target }) = write(&saved, &snapshot) else { return };
    let again = read(&first).unwrap_or_else(|damage| panic!("it was just written: {damage}"));
    assert_eq!(target, snapshot.digest());
    assert_eq!(digest_of(&again.delta.upserts), target, "Parts survive");
    assert_eq!(again.statement.statement, saved.statement.statement, "the Statement survives");
    let names = |saved: &crate::persist::Saved| {
        let endpoints = saved.delta.endpoints.iter().map(|(id, set)| (id.clone(), set.clone()));
        endpoints.collect::<Vec<_>>()
    };
    assert_eq!(names(&again), names(&saved), "Endpoints survive");
    let second = write(&again, &snapshot).map(|written| written.bytes);
    assert_eq!(second.as_ref(), Some(&first), "canonical is final");
}

fn digest_of(parts: &[kubeng_config::delta::AnyPart]) -> Digest {
    let snapshot = Snapshot::default().edited(parts.iter().cloned(), []);
    snapshot.map(|snapshot| snapshot.digest()).unwrap_or_default()
}
