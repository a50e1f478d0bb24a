//! Annotations of ingress-nginx. They are not translated: what an Ingress loses by that is told, and
//! where it would be served to people or from places that it was not meant for, it is closed.

mod known;

use kubeng_config::matching::PathMatch;
use kubeng_config::problem::{BAD_VALUE, NGINX_CLOSED, NGINX_IGNORED, NGINX_WAIVED};

use super::claims::{blocked_path, path_match};
use super::clients::written::field;
use super::refusal::Refused;
use crate::kind::ingress::{Ingress, IngressPath};
use known::{AUTH_TLS, Asks, CANARY, Known, REWRITE_TARGET, USE_REGEX, known};

/// What becomes of an Ingress because of such annotations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Review {
    /// Why none of its rules is served.
    pub(crate) closed: Option<Refused>,
    /// It was a part of another Ingress, so it takes no request from any.
    is_canary: bool,
    /// Why paths that are regular expressions are refused.
    regex: Option<Refused>,
    /// What is to be told, and where it stands.
    pub(crate) told: Vec<(String, Refused)>,
}

/// What becomes of `ingress`.
pub(crate) fn review(ingress: &Ingress) -> Review {
    let all: Vec<Written<'_>> = written(ingress).collect();
    let mut told = Vec::new();
    if let Some(bad) = waiver_fault(ingress) {
        told.push((field(WAIVER), bad));
    }
    if all.is_empty() {
        return Review { told, ..Review::default() };
    }
    let asking = |wanted: Asks| -> Vec<&Written<'_>> {
        all.iter().filter(|written| written.asks == wanted).collect()
    };
    let (closing, tuning) = (asking(Asks::Closes), asking(Asks::Tunes));
    if is_waived(ingress) {
        let ignored: Vec<&Written<'_>> = closing.into_iter().chain(tuning).collect();
        if !ignored.is_empty() {
            let message = format!("ignored because of {WAIVER}: {}", names(&ignored));
            let remedy = format!("nothing, if that is meant; else {}", instead_of(&ignored));
            told.push((place(&ignored), Refused::new(NGINX_WAIVED, message, remedy)));
        }
        return Review { told, ..Review::default() };
    }
    let closed = closed(ingress);
    if let Some(refused) = &closed {
        told.push((place(&closing), refused.clone()));
    }
    let regex = regex(ingress);
    if let Some((at, refused)) = &regex {
        told.push((field(at), refused.clone()));
    }
    if !tuning.is_empty() {
        let message = format!("not understood and without effect: {}", names(&tuning));
        let remedy = format!("{}, and remove them; see {PAGE}", instead_of(&tuning));
        told.push((place(&tuning), Refused::new(NGINX_IGNORED, message, remedy)));
    }
    let regex = regex.map(|(_, refused)| refused);
    Review { closed, is_canary: is_canary(ingress), regex, told }
}

/// Whether it is a second backend of another Ingress and so claims nothing itself.
pub(crate) fn is_canary(ingress: &Ingress) -> bool {
    asks(ingress, |written| written.name == CANARY && written.asks == Asks::Closes)
}

/// Whether it asks clients for certificates, as ingress-nginx does for the whole host.
pub(crate) fn asks_clients(ingress: &Ingress) -> bool {
    asks(ingress, |written| written.asks_clients())
}

/// The annotation by which it asks clients for certificates, and why that closes the host.
pub(crate) fn of_clients(ingress: &Ingress) -> Option<(&str, Refused)> {
    let asking = written(ingress).find(|written| written.asks_clients())?;
    closed(ingress).map(|refused| (asking.whole, refused))
}

impl Review {
    /// The paths that are refused in the place of `path`, behind all others, and why; None where
    /// it keeps its place.
    pub(crate) fn set_aside(&self, path: &IngressPath) -> Option<(Refused, Vec<PathMatch>)> {
        let written = path.path.as_deref().unwrap_or("/");
        if self.regex.is_some() && is_regex(written) {
            let why = self.closed.as_ref().or(self.regex.as_ref());
            return why.cloned().map(|refused| (refused, meant(written)));
        }
        let refused = self.canary()?;
        Some((refused, vec![path_match(path).unwrap_or_else(|bad| bad.blocks)]))
    }

    /// Why an Ingress that was a part of another one is refused, behind all others.
    pub(crate) fn canary(&self) -> Option<Refused> {
        self.closed.clone().filter(|_| self.is_canary)
    }
}

/// One annotation of the family.
struct Written<'a> {
    /// With the prefix.
    whole: &'a str,
    /// Without it.
    name: &'a str,
    known: Option<&'static Known>,
    asks: Asks,
}

impl Written<'_> {
    fn asks_clients(&self) -> bool {
        self.known.is_some_and(|known| known.name == AUTH_TLS)
    }
}

fn written(ingress: &Ingress) -> impl Iterator<Item = Written<'_>> {
    let ours = ingress.annotations.range(FAMILY.to_owned()..);
    let ours = ours.map_while(|(whole, value)| Some((whole, whole.strip_prefix(FAMILY)?, value)));
    ours.map(|(whole, name, value)| {
        let known = known(name);
        let asks = known.map_or(Asks::Tunes, |known| (known.asks)(value));
        Written { whole, name, known, asks }
    })
}

fn asks(ingress: &Ingress, wanted: impl Fn(&Written<'_>) -> bool) -> bool {
    written(ingress).any(|written| wanted(&written)) && !is_waived(ingress)
}

fn is_waived(ingress: &Ingress) -> bool {
    ingress.annotations.get(WAIVER).is_some_and(|value| value == "true")
}

fn waiver_fault(ingress: &Ingress) -> Option<Refused> {
    let value = ingress.annotations.get(WAIVER)?;
    (value != "true" && value != "false").then(|| {
        let message =
            format!("{value:.80?} is neither \"true\" nor \"false\", so it has no effect");
        Refused::new(BAD_VALUE, message, "write \"true\", or remove it")
    })
}

fn closed(ingress: &Ingress) -> Option<Refused> {
    let all: Vec<Written<'_>> = written(ingress).collect();
    let closing: Vec<&Written<'_>> =
        all.iter().filter(|written| written.asks == Asks::Closes).collect();
    (!closing.is_empty()).then(|| {
        let message = format!(
            "not understood, and without {} it may be served otherwise than it was meant to be, so it is closed",
            names(&closing)
        );
        let remedy = format!(
            "{}, and remove them (see {PAGE}); or serve it without them: {WAIVER}: \"true\"",
            instead_of(&closing)
        );
        Refused::new(NGINX_CLOSED, message, remedy)
    })
}

/// The annotation that makes paths regular expressions, and why they are refused; None where no
/// path is one.
fn regex(ingress: &Ingress) -> Option<(&str, Refused)> {
    let switch = written(ingress).find(|written| {
        let is_switch = [USE_REGEX, REWRITE_TARGET].contains(&written.name);
        is_switch && written.asks != Asks::Nothing
    })?;
    let paths = ingress.rules.iter().flat_map(|rule| &rule.paths);
    let mut paths = paths.filter_map(|path| path.path.as_deref()).filter(|path| is_regex(path));
    let first = paths.next()?;
    let rest = match paths.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let message = format!(
        "{} makes {first:.80?}{rest} a regular expression, which no path can be here; it is closed",
        switch.name
    );
    let remedy = format!(
        "write paths of pathType Prefix or Exact and rewrite.path of a RouteOverride, and remove \
         the annotation (see {PAGE}); or take paths as plain text: {WAIVER}: \"true\""
    );
    Some((switch.whole, Refused::new(NGINX_CLOSED, message, remedy)))
}

/// Whether a path says more as a regular expression than as text. A dot stands in many plain paths.
fn is_regex(path: &str) -> bool {
    path.contains(SIGNS)
}

/// The paths that a regular expression may mean, as far as it begins with plain text: what lies
/// below that text, and below its last whole segment.
fn meant(written: &str) -> Vec<PathMatch> {
    let written = written.trim_start_matches('^');
    let (plain, sign) = match written.find(SIGNS) {
        Some(at) => (&written[..at], written[at..].chars().next()),
        None => (written, None),
    };
    let mut plain = plain.to_owned();
    // The sign before it may be missing.
    if matches!(sign, Some('?' | '*' | '{')) {
        plain.pop();
    }
    let whole = plain.rfind('/').map_or("/", |at| &plain[..=at]);
    let mut all = vec![blocked_path(whole)];
    let below = blocked_path(if plain.is_empty() { "/" } else { &plain });
    if !all.contains(&below) {
        all.push(below);
    }
    all
}

/// Their names for people, of [`NAMED_MAX`] at most.
fn names(all: &[&Written<'_>]) -> String {
    let named = all.iter().take(NAMED_MAX).map(|written| format!("{:.63}", written.name));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if all.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", all.len() - NAMED_MAX));
    }
    text
}

/// What to write in their place.
fn instead_of(all: &[&Written<'_>]) -> String {
    let mut ways: Vec<String> = Vec::new();
    for written in all.iter().take(NAMED_MAX) {
        let way = written.known.map(|known| known.instead).filter(|way| !way.is_empty());
        ways.extend(way.map(|way| format!("{way} for {:.63}", written.name)));
    }
    if ways.is_empty() {
        return "do without, for nothing here does the same".to_owned();
    }
    format!("write what does the same (members are those of a RouteOverride): {}", ways.join(", "))
}

/// The one annotation, or where all of them stand.
fn place(all: &[&Written<'_>]) -> String {
    match all {
        [one] => field(one.whole),
        _ => "/metadata/annotations".to_owned(),
    }
}

/// What all of them begin with.
const FAMILY: &str = "nginx.ingress.kubernetes.io/";
/// `true` serves an Ingress as if it had none of them.
const WAIVER: &str = "kubeng.io/ignore-nginx-annotations";
/// What is said about all of them.
const PAGE: &str = "docs/from-ingress-nginx.md";
/// Annotations that a Problem names; the rest is counted.
const NAMED_MAX: usize = 6;
/// What makes a path more than plain text.
const SIGNS: [char; 12] = ['^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '|', '\\'];

#[cfg(test)]
mod tests;
