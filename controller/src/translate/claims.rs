//! What an Ingress lays claim to, read from itself alone: hosts, and paths under them.

use std::sync::Arc;

use kubeng_config::backend::HostOrIp;
use kubeng_config::matching::{HostMatch, PathMatch, PathPrefix};
use kubeng_config::name::{Hostname, NameError};
use kubeng_config::path::{CanonicalPath, PathError};
use kubeng_config::problem::BAD_HOST;

use super::refusal::Refused;
use crate::kind::ingress::{Ingress, IngressPath};

/// The hosts of the rules, each once. Without rules: every host.
///
/// A host under which nothing could be read makes no claim, so that a broken
/// Ingress takes no host from another.
pub(crate) fn rule_hosts(ingress: &Ingress) -> Vec<HostMatch> {
    if ingress.rules.is_empty() {
        return ingress.default_backend.iter().map(|_| HostMatch::Any).collect();
    }
    let rules = ingress.rules.iter().filter(|rule| {
        rule.paths.is_empty() || rule.paths.iter().any(|path| path_match(path).is_ok())
    });
    each_once(rules.filter_map(|rule| host_match(rule.host.as_deref()).ok()))
}

/// The hosts of the tls sections that are ones, each once.
pub(crate) fn tls_hosts(ingress: &Ingress) -> Vec<HostMatch> {
    let written = ingress.tls.iter().flat_map(|tls| &tls.hosts);
    each_once(written.filter_map(|host| host_match(Some(host)).ok()))
}

/// Whether any tls section names a Secret.
pub(crate) fn has_tls(ingress: &Ingress) -> bool {
    ingress.tls.iter().any(|tls| tls.secret.is_some())
}

/// What must be unique among Ingresses: host and path, and all other paths of a host.
///
/// A default backend beside rules makes no claim: it belongs to the oldest
/// Ingress of the host, whoever else has one.
pub(crate) fn claims(ingress: &Ingress) -> Vec<Arc<str>> {
    if ingress.rules.is_empty() {
        let claim = claim_text(&HostMatch::Any, &PathMatch::Otherwise).into();
        return ingress.default_backend.iter().map(|_| Arc::clone(&claim)).collect();
    }
    let mut claims = Vec::new();
    for rule in &ingress.rules {
        let Ok(host) = host_match(rule.host.as_deref()) else { continue };
        if rule.paths.is_empty() && ingress.default_backend.is_some() {
            claims.push(claim_text(&host, &PathMatch::Otherwise).into());
        }
        let paths = rule.paths.iter().filter_map(|path| path_match(path).ok());
        claims.extend(paths.map(|path| Arc::from(claim_text(&host, &path))));
    }
    claims
}

/// The text of one claim: `a.example/buy`, `a.example=/buy`, `a.example` for all other paths.
pub(crate) fn claim_text(host: &HostMatch, path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) => format!("{host}={path}"),
        PathMatch::Prefix(prefix) => format!("{host}{prefix}"),
        PathMatch::Regex(pattern) => format!("{host}~{pattern}"),
        PathMatch::Otherwise => host.to_string(),
    }
}

/// Why `written` cannot be a host, and what would be one.
pub(crate) fn bad_host(written: &str, error: &NameError) -> Refused {
    let Some((_, tail)) = written.rsplit_once('*') else {
        return Refused::new(BAD_HOST, error.to_string(), ANY_HOST);
    };
    let message =
        format!("{written:?} is no host: an asterisk may only be the whole first label, once");
    let tail = tail.strip_prefix('.').and_then(|tail| tail.parse::<Hostname>().ok());
    match tail {
        Some(tail) => {
            let remedy = format!("write \"*.{tail}\", or each host by its own name");
            Refused::new(BAD_HOST, message, remedy)
        }
        None => Refused::new(BAD_HOST, message, ANY_HOST),
    }
}

const ANY_HOST: &str = "write a DNS name such as shop.example.com or *.example.com";

/// The hosts that `host:` of a rule or tls section means.
///
/// # Errors
/// When it is neither a DNS name nor one below `*.`; an address is none.
pub(crate) fn host_match(written: Option<&str>) -> Result<HostMatch, NameError> {
    let written = written.unwrap_or_default();
    if written.is_empty() {
        Ok(HostMatch::Any)
    } else if let Some(name) = written.strip_prefix("*.") {
        name.parse::<Hostname>().map(HostMatch::OneLabelBelow)
    } else {
        match written.parse()? {
            HostOrIp::Name(name) => Ok(HostMatch::Exact(name)),
            HostOrIp::Ip(_) => {
                let form = "a DNS name; a request for an address has no host";
                Err(NameError::Form { text: written.to_owned(), form })
            }
        }
    }
}

/// Why a path cannot be served, and what is refused for it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct BadPath {
    pub(crate) why: String,
    /// The paths that could have been meant. Refused behind all other Rules.
    pub(crate) blocks: PathMatch,
}

/// The paths that an entry of `paths` means.
///
/// # Errors
/// When the path is none, or its type is unknown.
pub(crate) fn path_match(path: &IngressPath) -> Result<PathMatch, BadPath> {
    let written = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let canonical = CanonicalPath::of_rule(written).map_err(|error| bad_path(written, error))?;
    match path.path_type.as_str() {
        "Exact" => Ok(PathMatch::Exact(canonical)),
        "Prefix" | "ImplementationSpecific" => Ok(PathMatch::Prefix(PathPrefix::new(&canonical))),
        other => Err(BadPath {
            why: format!("pathType {other:?} is unknown"),
            // As the widest of the known types, so that nothing wider opens.
            blocks: PathMatch::Prefix(PathPrefix::new(&canonical)),
        }),
    }
}

/// A path that is none can be meant by no request, but for a missing slash in front.
///
/// What is refused for it keeps the host known, so that neither the rules
/// without a host nor a default backend take over what was to be protected.
pub(crate) fn bad_path(written: &str, error: PathError) -> BadPath {
    let why = format!("{written:?} is not a path: {error}");
    let blocks = match (error, CanonicalPath::of_rule(&format!("/{written}"))) {
        (PathError::NotAbsolute, Ok(meant)) => PathMatch::Prefix(PathPrefix::new(&meant)),
        _ => PathMatch::Otherwise,
    };
    BadPath { why, blocks }
}

/// The paths that one that nobody may serve could have meant: the widest.
pub(crate) fn blocked_path(written: &str) -> PathMatch {
    match CanonicalPath::of_rule(written) {
        Ok(path) => PathMatch::Prefix(PathPrefix::new(&path)),
        Err(error) => bad_path(written, error).blocks,
    }
}

fn each_once(hosts: impl Iterator<Item = HostMatch>) -> Vec<HostMatch> {
    let mut all: Vec<HostMatch> = Vec::new();
    for host in hosts {
        if !all.contains(&host) {
            all.push(host);
        }
    }
    all
}
