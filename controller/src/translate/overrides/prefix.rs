//! `prefix` in a rewrite or a redirect: it takes the place of the prefix that a Rule has matched.
//!
//! A Rule that matches none could only lead to where the request is already: a redirect without end. So
//! its Routes go without the whole member, as without all that only tunes and cannot be carried out. It is
//! told once: by an override of an Object at itself, of one for a namespace at each Object with such Rules.

use kubeng_config::filter::Filter;
use kubeng_config::filter::rewrite::PathRewrite;
use kubeng_config::layer::Scope;
use kubeng_config::matching::{Match, PathMatch};
use kubeng_config::merge::Merged;
use kubeng_config::patch::Patch;
use kubeng_config::patch::url::PathEdit;
use kubeng_config::route::Route;

use super::place::Place;
use super::{guard, misfit, owners};
use crate::kind::Body;
use crate::kind::ingress::Ingress;
use crate::kind::route_override::{RuleRef, Target};
use crate::translate::claims::{claim_text, host_match, path_match};
use crate::translate::refusal::Refused;
use crate::translate::upstream::routes as upstream_routes;
use crate::translate::upstream::routes::filters::replaces_prefix;
use crate::world::view::View;

/// Leaves those of `filters` out that `route` has no prefix for. What is given is for its Object to tell.
pub(super) fn leave_out(
    route: &Route,
    filters: &mut Vec<Filter>,
    merged: &Merged,
) -> Option<Refused> {
    if route.matches.iter().all(has_prefix) {
        return None;
    }
    let (without, fitting): (Vec<Filter>, Vec<Filter>) =
        std::mem::take(filters).into_iter().partition(replaces_prefix);
    *filters = fitting;
    let mut told = without.iter().filter_map(|filter| {
        let pointer = format!("{}/path", guard::pointer(filter));
        let setter = merged.setters.get(&pointer)?.last()?;
        let owner = owners(merged, &pointer);
        (setter.scope == Scope::Namespace).then(|| format!("prefix in {pointer} of {owner}"))
    });
    let first = told.next()?;
    let all = told.fold(first, |all, one| format!("{all}, and {one}"));
    let paths = route.matches.iter().filter(|wanted| !has_prefix(wanted));
    let paths: Vec<String> = paths.map(|wanted| wanted.path.to_string()).collect();
    let message = format!("{all} has no effect on {}, {NO_PREFIX}", paths.join(" and "));
    Some(misfit(message, REMEDY))
}

/// Where `patch` asks for a prefix that Rules of the Object that it is for do not have.
pub(super) fn faults(
    view: &mut View<'_>,
    target: &Target,
    rule: Option<&RuleRef>,
    patch: &Patch,
) -> Vec<(&'static str, Refused)> {
    let Patch { rewrite, redirect, .. } = patch;
    let rewrite = rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let redirect = redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    let edits = [("/rewrite/path", rewrite), ("/redirect/path", redirect)];
    let asking = edits.into_iter().filter(|(_, path)| path.is_some_and(asks));
    let asking: Vec<&'static str> = asking.map(|(pointer, _)| pointer).collect();
    let Target::Object(key) = target else { return Vec::new() };
    if asking.is_empty() {
        return Vec::new();
    }
    let without = match view.object(key).as_deref().map(|object| &object.body) {
        Some(Body::Ingress(ingress)) => of_ingress(ingress, rule),
        Some(Body::Upstream(upstream)) => upstream_routes::without_prefix(upstream, rule),
        None
        | Some(
            Body::IngressClass(_)
            | Body::Service(_)
            | Body::EndpointSlice(_)
            | Body::Secret(_)
            | Body::ConfigMap(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_),
        ) => Vec::new(),
    };
    let Some(first) = without.first() else { return Vec::new() };
    let more = match without.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("prefix has no effect on {first}{more} of {key}, {NO_PREFIX}");
    asking.into_iter().map(|pointer| (pointer, misfit(message.clone(), REMEDY))).collect()
}

/// The Rules of `ingress` that match no prefix and that `rule` means.
fn of_ingress(ingress: &Ingress, rule: Option<&RuleRef>) -> Vec<String> {
    let mut without = Vec::new();
    for written in &ingress.rules {
        let Ok(host) = host_match(written.host.as_deref()) else { continue };
        let hosts = std::slice::from_ref(&host);
        for path in written.paths.iter().filter_map(|path| path_match(path).ok()) {
            let place = Place { name: None, hosts, path: &path };
            if !is_prefix(&path) && rule.is_none_or(|rule| place.is(rule)) {
                without.push(claim_text(&host, &path));
            }
        }
    }
    if ingress.default_backend.is_some() && rule.is_none() {
        without.push("the default backend".to_owned());
    }
    without
}

fn asks(path: &PathEdit) -> bool {
    match &path.0 {
        PathRewrite::Prefix(_) => true,
        PathRewrite::Full(_) | PathRewrite::Regex(_) => false,
    }
}

/// Whether a match has a prefix that another one can take the place of.
pub(crate) fn has_prefix(wanted: &Match) -> bool {
    is_prefix(&wanted.path)
}

fn is_prefix(path: &PathMatch) -> bool {
    match path {
        PathMatch::Prefix(_) => true,
        PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Otherwise => false,
    }
}

const NO_PREFIX: &str = "where no prefix is matched; requests pass there as without it";
const REMEDY: &str = "write full instead of prefix, or let the rule match by prefix";
