//! Building what is served anew, from nothing but what was acknowledged.

use kubeng_config::canonical::Digest;
use kubeng_config::delta::AnyPart;
use kubeng_config::part::Part;
use kubeng_config::snapshot::{Snapshot, SnapshotError};

use super::{Applied, TableWriter};
use crate::compile::{KeyCache, Rejection};
use crate::table::Table;

impl TableWriter {
    /// Builds the whole Table again from the Snapshot that was acknowledged, and puts it in place.
    /// Endpoints, their health and what Filters remember stay; Routes that were refused on this
    /// replica alone serve again.
    ///
    /// # Errors
    /// When the Snapshot itself is not what it was: then a controller must send everything again.
    /// Nothing has changed then.
    pub fn heal(&mut self) -> Result<Applied, Rejection> {
        let running = self.shared.table.load_full();
        let snapshot = read_again(&running.snapshot)?;
        let delta = Snapshot::default().delta_to(&snapshot);
        // What is alive of a Backend stays.
        let before = Table { backends: running.backends.clone(), ..Table::empty() };
        self.keys = KeyCache::default();
        self.refused.clear();
        let gone = |id: &_| !snapshot.backends().contains(id);
        let gone: Vec<_> = running.backends.keys().filter(|id| gone(id)).cloned().collect();
        let mut before = before;
        gone.iter().for_each(|id| drop(before.backends.remove(id)));
        self.apply_to(&before, &delta)
    }
}

/// The Snapshot with every Part written again. What was changed in memory has another digest.
fn read_again(snapshot: &Snapshot) -> Result<Snapshot, SnapshotError> {
    let mut parts = Vec::new();
    macro_rules! write {
        ($($map:ident as $kind:ident),*) => {$(
            for (id, part) in snapshot.$map().iter() {
                parts.push(AnyPart::$kind(id.clone(), Part::of(part.value().clone())));
            }
        )*};
    }
    write!(
        listeners as Listener,
        policies as Policy,
        backends as Backend,
        certificates as Certificate,
        server_names as ServerName,
        routes as Route
    );
    let again = Snapshot::default().edited(parts, [])?;
    let (target, found): (Digest, Digest) = (snapshot.digest(), again.digest());
    if found == target { Ok(again) } else { Err(SnapshotError::Target { target, found }) }
}
