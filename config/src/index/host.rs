//! From a host to its paths.

use std::sync::Arc;

use super::path::Paths;
use crate::matching::HostMatch;
use crate::name::Hostname;

/// The hosts of one Listener. Exact names first, then wildcards, then the rest.
#[derive(Clone, Debug)]
pub(super) struct Hosts<T> {
    exact: HostMap<T>,
    one_label_below: HostMap<T>,
    any_labels_below: HostMap<T>,
    any: Option<Arc<Paths<T>>>,
}

type HostMap<T> = imbl::GenericHashMap<
    Hostname,
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

    /// Takes the paths of exactly `host` out.
    pub(super) fn take(&mut self, host: &HostMatch) -> Option<Arc<Paths<T>>> {
        match host {
            HostMatch::Any => self.any.take(),
            HostMatch::Exact(name) => self.exact.remove(name),
            HostMatch::OneLabelBelow(name) => self.one_label_below.remove(name),
            HostMatch::AnyLabelsBelow(name) => self.any_labels_below.remove(name),
        }
    }

    /// Puts paths of `host` in, unless there are none.
    pub(super) fn put(&mut self, host: &HostMatch, paths: &Arc<Paths<T>>) {
        if paths.is_empty() {
            return;
        }
        let (map, name) = match host {
            HostMatch::Any => {
                self.any = Some(Arc::clone(paths));
                return;
            }
            HostMatch::Exact(name) => (&mut self.exact, name),
            HostMatch::OneLabelBelow(name) => (&mut self.one_label_below, name),
            HostMatch::AnyLabelsBelow(name) => (&mut self.any_labels_below, name),
        };
        map.insert(name.clone(), Arc::clone(paths));
    }

    /// All hosts with their paths, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (HostMatch, &Paths<T>)> {
        of(&self.exact, HostMatch::Exact)
            .chain(of(&self.one_label_below, HostMatch::OneLabelBelow))
            .chain(of(&self.any_labels_below, HostMatch::AnyLabelsBelow))
            .chain(self.any.as_deref().map(|paths| (HostMatch::Any, paths)))
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

fn of<T>(
    map: &HostMap<T>,
    form: fn(Hostname) -> HostMatch,
) -> impl Iterator<Item = (HostMatch, &Paths<T>)> {
    map.iter().map(move |(name, paths)| (form(name.clone()), &**paths))
}
