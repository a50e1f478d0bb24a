//! Damage on purpose, in builds for tests only: what a fault of the program, of the memory or of
//! somebody with a debugger would do to a running Table, so that a test sees that it is found.
//!
//! The variable `KUBENG_TEST_TAMPER` names a folder. While a replica serves, a file `drift` there
//! with the name of a Route makes the Route answer as it should not; a file `slow` gives its Policy
//! another time limit, which an override could say, too; a file `diverge` hides every prefix of its
//! hosts from look-ups, which no Part shows. Each file is taken once, and removed.

pub(crate) mod reject;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kubeng_config::name::RouteId;
use kubeng_config::policy::Policy;
use kubeng_config::route::{Action, Route};

use crate::table::writer::TableWriter;
use crate::table::{CompiledRoute, Table};

type Act = fn(&mut Table, &RouteId);

impl TableWriter {
    /// Does what the files of the folder say; gives whether there was one. Cheap to ask every few
    /// seconds.
    pub fn tamper(&mut self) -> bool {
        let Some(folder) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return false };
        let mut has_tampered = false;
        let acts: [(&str, Act); 3] = [("drift", drift), ("slow", slow), ("diverge", diverge)];
        for (name, act) in acts {
            let path = folder.join(name);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let Ok(id) = text.trim().parse::<RouteId>() else { continue };
            if std::fs::remove_file(&path).is_err() {
                continue;
            }
            tracing::error!(route = %id, kind = name, "a test tampers with the running table");
            let mut table = Table::clone(&self.shared.table.load());
            act(&mut table, &id);
            self.shared.table.store(Arc::new(table));
            has_tampered = true;
        }
        has_tampered
    }
}

fn drift(table: &mut Table, id: &RouteId) {
    let Some(route) = table.snapshot.routes().get(id).map(|part| part.value().clone()) else {
        return;
    };
    let place = table.routes.places().find(|place| place.placed.id == id);
    let Some(usage) = place.map(|place| place.placed.value.usage.clone()) else { return };
    let other = Route { action: Action::Answer, filters: Vec::new(), ..Route::clone(&route) };
    let compiled =
        CompiledRoute { route: Arc::new(other), states: Box::default(), rotation: None, usage };
    table.routes.remove(id, &route);
    table.routes.insert(id, &route, &Arc::new(compiled));
}

fn slow(table: &mut Table, id: &RouteId) {
    let Some(id) = table.snapshot.routes().get(id).map(|part| part.value().policy.clone()) else {
        return;
    };
    let Some(mut other) = table.policies.get(&id).map(|policy| Policy::clone(policy)) else {
        return;
    };
    other.timeouts.request = Some(Duration::from_secs(90));
    table.policies.insert(id, Arc::new(other));
}

fn diverge(table: &mut Table, id: &RouteId) {
    if let Some(route) = table.snapshot.routes().get(id).map(|part| part.value().clone()) {
        table.routes.hide_prefixes(&route);
    }
}

const VARIABLE: &str = "KUBENG_TEST_TAMPER";
