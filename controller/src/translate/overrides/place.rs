//! Where a Rule stands, and whether an override means it.

use kubeng_config::matching::{HostMatch, PathMatch, PathPrefix};
use kubeng_config::path::CanonicalPath;

use crate::kind::ingress::Ingress;
use crate::kind::route_override::RuleRef;
use crate::translate::claims::{host_match, path_match};

/// Where a Rule stands in its Object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Its name, in kinds whose Rules have one.
    pub(crate) name: Option<&'a str>,
    /// Its hosts.
    pub(crate) hosts: &'a [HostMatch],
    /// Its path.
    pub(crate) path: &'a PathMatch,
}

impl Place<'_> {
    /// Whether `rule` means the Rule that stands here.
    pub(crate) fn is(&self, rule: &RuleRef) -> bool {
        match rule {
            RuleRef::Name(name) => self.name == Some(name),
            RuleRef::Place { host, path } => {
                let host = host_match(Some(host));
                host.is_ok_and(|host| self.hosts.contains(&host)) && self.is_path(path)
            }
        }
    }

    fn is_path(&self, written: &str) -> bool {
        let Ok(path) = CanonicalPath::of_rule(written) else { return false };
        match self.path {
            PathMatch::Exact(exact) => *exact == path,
            PathMatch::Prefix(prefix) => *prefix == PathPrefix::new(&path),
            PathMatch::Regex(pattern) => pattern.as_str() == written,
            PathMatch::Otherwise => false,
        }
    }
}

/// Whether `ingress` has a Rule that `rule` means.
pub(crate) fn has_rule(ingress: &Ingress, rule: &RuleRef) -> bool {
    ingress.rules.iter().any(|written| {
        let Ok(host) = host_match(written.host.as_deref()) else { return false };
        let hosts = [host];
        written
            .paths
            .iter()
            .filter_map(|path| path_match(path).ok())
            .any(|path| Place { name: None, hosts: &hosts, path: &path }.is(rule))
    })
}
