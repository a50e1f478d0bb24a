//! From a host to its paths.

use std::sync::Arc;

use super::path::Paths;
use crate::matching::HostMatch;

/// The hosts of one Listener. Exact names first, then wildcards, then the rest.
#[derive(Clone, Debug)]
pub(super) struct Hosts<T> {
    exact: HostMap<T>,
    one_label_below: HostMap<T>,
    any_labels_below: HostMap<T>,
    any: Option<Arc<Paths<T>>>,
}

type HostMap<T> = imbl::GenericHashMap<
    Arc<str>,
    Arc<Paths<T>>,
    foldhash::fast::RandomState,
    imbl::shared_ptr::DefaultSharedPtr,
>;

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: HostMap::default(),
            one_label_below: HostMap::default(),
            any_labels_below: HostMap::default(),
            any: None,
        }
    }
}

impl<T: Clone> Hosts<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.one_label_below.is_empty()
            && self.any_labels_below.is_empty()
            && self.any.is_none()
    }

    /// Changes the paths of `host`; a host without paths is forgotten.
    pub(super) fn update(&mut self, host: &HostMatch, change: impl FnOnce(&mut Paths<T>)) {
        let (map, name) = match host {
            HostMatch::Any => {
                let mut paths = self.any.take().unwrap_or_default();
                change(Arc::make_mut(&mut paths));
                self.any = (!paths.is_empty()).then_some(paths);
                return;
            }
            HostMatch::Exact(name) => (&mut self.exact, name),
            HostMatch::OneLabelBelow(name) => (&mut self.one_label_below, name),
            HostMatch::AnyLabelsBelow(name) => (&mut self.any_labels_below, name),
        };
        // Taken out, so that only what an older Index still shares is copied.
        let mut paths = map.remove(name.as_str()).unwrap_or_default();
        change(Arc::make_mut(&mut paths));
        if !paths.is_empty() {
            map.insert(name.as_str().into(), paths);
        }
    }

    /// The paths of the most special host that accepts `host`.
    pub(super) fn find(&self, host: Option<&str>) -> Option<&Paths<T>> {
        let found = host.and_then(|host| {
            self.exact.get(host).or_else(|| self.find_wildcard(host)).map(|paths| &**paths)
        });
        found.or(self.any.as_deref())
    }

    fn find_wildcard(&self, host: &str) -> Option<&Arc<Paths<T>>> {
        if self.one_label_below.is_empty() && self.any_labels_below.is_empty() {
            return None;
        }
        let (label, parent) = host.split_once('.')?;
        if label.is_empty() {
            return None;
        }
        if let Some(paths) = self.one_label_below.get(parent) {
            return Some(paths);
        }
        let mut rest = Some(parent);
        while let Some(parent) = rest {
            if let Some(paths) = self.any_labels_below.get(parent) {
                return Some(paths);
            }
            rest = parent.split_once('.').map(|(_, parent)| parent);
        }
        None
    }
}
