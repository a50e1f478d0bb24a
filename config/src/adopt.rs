//! Adopting what a replica was changed to: RouteOverrides that say the same, as far as they can.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::canonical::Digest;
use crate::compare::{self, Side};
use crate::delta::AnyPart;
use crate::filter::Filter;
use crate::filter::body_limit::BodyLimit;
use crate::name::{ObjectKind, PolicyId, RouteId};
use crate::policy::Policy;
use crate::policy::retry::{Retry, RetryOn};
use crate::policy::timeouts::Timeouts;
use crate::route::Route;

/// What can be adopted, and what cannot.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// RouteOverrides in YAML, one for each Route.
    pub overrides: Vec<String>,
    /// What no override can say.
    pub left_out: Vec<LeftOut>,
}

/// Something that no override can say.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The Part.
    pub key: String,
    /// The field in it, as a JSON Pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    /// Why not.
    pub why: String,
}

/// Turns what `running` has otherwise than `intended` into overrides.
///
/// Time limits, retries and the limits of bodies can be adopted. What is left out stays as intended.
#[must_use]
pub fn adopt(intended: &[AnyPart], running: &[AnyPart]) -> Adoption {
    let mut adoption = Adoption::default();
    let (before, after) = (Routes::of(intended), Routes::of(running));
    for (id, route) in &before.routes {
        let Some(changed) = after.routes.get(id) else { continue };
        let mut patch = Map::new();
        policies(&mut patch, before.policy(route), after.policy(changed), id, &mut adoption);
        filters(&mut patch, route, changed, id, &mut adoption);
        if patch.is_empty() {
            continue;
        }
        match document(id, patch, &before) {
            Ok(text) => adoption.overrides.push(text),
            Err(why) => adoption.leave(&format!("route {id}"), "", why),
        }
    }
    whole(intended, running, &mut adoption);
    adoption
}

impl Adoption {
    fn leave(&mut self, key: &str, pointer: &str, why: &str) {
        let (key, pointer, why) = (key.to_owned(), pointer.to_owned(), why.to_owned());
        self.left_out.push(LeftOut { key, pointer, why });
    }
}

/// The Routes of one side with their Policies.
struct Routes<'a> {
    routes: BTreeMap<&'a RouteId, &'a Route>,
    policies: BTreeMap<&'a PolicyId, &'a Policy>,
}

impl<'a> Routes<'a> {
    fn of(parts: &'a [AnyPart]) -> Self {
        let mut of = Self { routes: BTreeMap::new(), policies: BTreeMap::new() };
        for part in parts {
            match part {
                AnyPart::Route(id, part) => drop(of.routes.insert(id, part.value())),
                AnyPart::Policy(id, part) => drop(of.policies.insert(id, part.value())),
                AnyPart::Listener(..)
                | AnyPart::Backend(..)
                | AnyPart::Certificate(..)
                | AnyPart::ServerName(..) => {}
            }
        }
        of
    }

    fn policy(&self, route: &Route) -> Option<&'a Policy> {
        self.policies.get(&route.policy).copied()
    }
}

fn policies(
    patch: &mut Map<String, Value>,
    before: Option<&Policy>,
    after: Option<&Policy>,
    id: &RouteId,
    adoption: &mut Adoption,
) {
    let (Some(before), Some(after)) = (before, after) else { return };
    if before.timeouts != after.timeouts {
        match timeouts(&before.timeouts, &after.timeouts) {
            Ok(members) => drop(patch.insert("timeouts".into(), members.into())),
            Err(why) => adoption.leave(&format!("route {id}"), "/timeouts", why),
        }
    }
    if before.retry != after.retry {
        match retry(&before.retry, &after.retry) {
            Ok(members) => drop(patch.insert("retry".into(), members.into())),
            Err(why) => adoption.leave(&format!("route {id}"), "/retry", why),
        }
    }
}

fn timeouts(before: &Timeouts, after: &Timeouts) -> Result<Map<String, Value>, &'static str> {
    let Timeouts { connect, first_byte, read, write, tunnel, per_try, request } = after;
    if read != write && (before.read != *read || before.write != *write) {
        return Err("an override has one limit for reading and writing");
    }
    let mut members = Map::new();
    let mut put = |name: &str, was: Option<Duration>, is: Option<Duration>| {
        if was != is {
            members.insert(name.into(), span(is.unwrap_or_default()).into());
        }
    };
    put("request", before.request, *request);
    put("backendRequest", before.per_try, *per_try);
    put("connect", Some(before.connect), Some(*connect));
    put("firstByte", before.first_byte, *first_byte);
    put("idle", Some(before.read), Some(*read));
    put("tunnel", Some(before.tunnel), Some(*tunnel));
    Ok(members)
}

fn retry(before: &Retry, after: &Retry) -> Result<Map<String, Value>, &'static str> {
    let Retry { retries_max, on, methods, backoff, backoff_max } = after;
    if *retries_max > 5 {
        return Err("an override asks for 5 attempts at most");
    }
    let mut members = Map::new();
    if before.retries_max != *retries_max {
        members.insert("attempts".into(), (*retries_max).into());
    }
    if before.on != *on {
        members.insert("on".into(), reasons(on).into());
    }
    if before.methods != *methods {
        members.insert("methods".into(), json!(methods));
    }
    if before.backoff != *backoff {
        members.insert("backoff".into(), span(*backoff).into());
    }
    if before.backoff_max != *backoff_max {
        members.insert("backoffMax".into(), span(*backoff_max).into());
    }
    Ok(members)
}

fn reasons(on: &RetryOn) -> Vec<Value> {
    let RetryOn { reset, timeout, statuses } = on;
    let reset = reset.then(|| "reset".into());
    let timeout = timeout.then(|| "timeout".into());
    let statuses = statuses.iter().map(|status| status.to_string().into());
    reset.into_iter().chain(timeout).chain(statuses).collect()
}

/// The limits of bodies; other Filters are told as left out by [`whole`].
fn filters(
    patch: &mut Map<String, Value>,
    before: &Route,
    after: &Route,
    id: &RouteId,
    adoption: &mut Adoption,
) {
    let (was, is) = (body_limit(before), body_limit(after));
    if was == is {
        return;
    }
    let mut members = Map::new();
    let mut put = |name: &str, was: Option<u64>, is: Option<u64>| match is {
        Some(bytes) if was != is => drop(members.insert(name.into(), bytes.into())),
        // Without a limit, where something below may set one: only its author can take it away.
        None if was.is_some() => {
            let why = "an override cannot take a limit away that its object sets";
            adoption.leave(&format!("route {id}"), "/filters", why);
        }
        Some(_) | None => {}
    };
    put("requestBody", was.0, is.0);
    put("responseBody", was.1, is.1);
    if !members.is_empty() {
        patch.insert("limits".into(), members.into());
    }
}

fn body_limit(route: &Route) -> (Option<u64>, Option<u64>) {
    let limit = route
        .filters
        .iter()
        .find_map(|filter| if let Filter::BodyLimit(limit) = filter { Some(*limit) } else { None });
    let BodyLimit { request_bytes_max, response_bytes_max } = limit.unwrap_or_default();
    (request_bytes_max.map(|bytes| bytes.get()), response_bytes_max.map(|bytes| bytes.get()))
}

/// Names what differs and is not of a kind that can be adopted.
fn whole(intended: &[AnyPart], running: &[AnyPart], adoption: &mut Adoption) {
    let side =
        |parts: &[AnyPart]| Side { name: String::new(), parts: parts.to_vec(), endpoints: None };
    let found = compare::compare(&side(intended), &side(running));
    let elsewhere = "it comes from other objects: mend those";
    for field in &found.differences {
        let is_adopted = field.key.starts_with("policy ")
            || field.key.starts_with("route ") && ["/policy"].contains(&field.pointer.as_str())
            || field.pointer.contains("bodyLimit");
        if !is_adopted {
            adoption.leave(&field.key, &field.pointer, elsewhere);
        }
    }
    for key in &found.only_left {
        if !key.starts_with("policy ") {
            adoption.leave(key, "", "an override cannot take it away");
        }
    }
    for key in &found.only_right {
        if !key.starts_with("policy ") {
            adoption.leave(key, "", "an override cannot add it");
        }
    }
}

/// The RouteOverride of one Route.
fn document(
    id: &RouteId,
    patch: Map<String, Value>,
    intended: &Routes<'_>,
) -> Result<String, &'static str> {
    let kind = id.object.kind;
    if kind != ObjectKind::Ingress && kind != ObjectKind::Upstream {
        return Err("overrides are for Ingresses and Upstreams");
    }
    let name = Digest::of([id.to_string().as_bytes()]).short();
    let mut spec = json!({
        "targetRef": {"kind": kind.as_str(), "name": &*id.object.name},
        "patch": patch,
        "reason": "adopted from a replica",
    });
    let beside = intended.routes.keys().filter(|other| other.object == id.object).count();
    match rule(id) {
        Some((host, path)) => spec["rule"] = json!({"host": host, "path": path}),
        None if beside == 1 => {}
        None => return Err("an override cannot be for this rule alone"),
    }
    let document = json!({
        "apiVersion": "kubeng.io/v1alpha1",
        "kind": "RouteOverride",
        "metadata": {"namespace": &*id.object.namespace, "name": format!("adopted-{name}")},
        "spec": spec,
    });
    serde_saphyr::to_string(&document).map_err(|_| "it has no form in YAML")
}

/// Host and path of a rule of an Ingress, from the key of its Route.
fn rule(id: &RouteId) -> Option<(&str, &str)> {
    if id.object.kind != ObjectKind::Ingress {
        return None;
    }
    let at = id.rule.find(['/', '=', '~'])?;
    let (host, path) = id.rule.split_at(at);
    Some((host, path.trim_start_matches(['=', '~'])))
}

/// A duration as objects have it (GEP-2257): at most five digits a unit.
fn span(duration: Duration) -> String {
    let all = duration.as_millis();
    let parts = [
        (all / 3_600_000, "h"),
        (all / 60_000 % 60, "m"),
        (all / 1000 % 60, "s"),
        (all % 1000, "ms"),
    ];
    let written: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if written.is_empty() { "0s".to_owned() } else { written }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{Listener, Protocol};
    use crate::matching::{HostMatch, Match, PathMatch};
    use crate::part::Part;
    use crate::route::{Action, Attachment, Rank};

    fn route(id: &str, filters: Vec<Filter>) -> AnyPart {
        let route = Route {
            rank: Rank { created: 0, rule: 0 },
            attached: vec![Attachment {
                listener: "http".parse().unwrap(),
                hosts: vec![HostMatch::Any],
            }],
            matches: vec![Match::of_path(PathMatch::Otherwise)],
            filters,
            policy: "p".parse().unwrap(),
            action: Action::Answer,
        };
        AnyPart::Route(id.parse().unwrap(), Part::new(route))
    }

    fn policy(change: impl FnOnce(&mut Policy)) -> AnyPart {
        let mut policy = Policy::default();
        change(&mut policy);
        AnyPart::Policy("p".parse().unwrap(), Part::new(policy))
    }

    fn limit(bytes: u64) -> Filter {
        let max = serde_json::from_value(bytes.into()).unwrap();
        Filter::BodyLimit(BodyLimit { request_bytes_max: Some(max), response_bytes_max: None })
    }

    const ID: &str = "Ingress/shop/web#a.example=/buy";

    #[test]
    fn time_limits_retries_and_body_limits_become_an_override() {
        let intended = [policy(|_| {}), route(ID, vec![])];
        let changed = policy(|policy| {
            policy.timeouts.request = Some(Duration::from_millis(90_500));
            policy.timeouts.first_byte = None;
            policy.retry.retries_max = 4;
            policy.retry.on.statuses = vec![503];
        });
        let found = adopt(&intended, &[changed, route(ID, vec![limit(4096)])]);
        let [text] = found.overrides.as_slice() else { panic!("{found:?}") };
        let read: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(
            read["spec"],
            json!({
                "targetRef": {"kind": "Ingress", "name": "web"},
                "rule": {"host": "a.example", "path": "/buy"},
                "patch": {
                    "timeouts": {"request": "1m30s500ms"},
                    "retry": {"attempts": 4, "on": ["503"]},
                    "limits": {"requestBody": 4096},
                },
                "reason": "adopted from a replica",
            })
        );
    }

    #[test]
    fn what_no_override_can_say_is_named() {
        let listener = |port| {
            let listener = Listener::new(([127, 0, 0, 1], port).into(), Protocol::Http);
            AnyPart::Listener("http".parse().unwrap(), Part::new(listener))
        };
        let intended = [policy(|_| {}), listener(80), route(ID, vec![])];
        let running = [
            policy(|policy| policy.timeouts.read = Duration::from_secs(1)),
            listener(81),
            route("Ingress/shop/web#default", vec![]),
        ];
        let found = adopt(&intended, &running);
        assert!(found.overrides.is_empty());
        let keys: Vec<&str> = found.left_out.iter().map(|left| left.key.as_str()).collect();
        let (gone, added) = (format!("route {ID}"), "route Ingress/shop/web#default");
        assert_eq!(keys, ["listener http", gone.as_str(), added]);
    }

    #[test]
    fn durations_are_written_as_objects_have_them() {
        for (millis, text) in [(0, "0s"), (1, "1ms"), (60_000, "1m"), (3_661_001, "1h1m1s1ms")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
