//! Merging as the design demands it: nothing changes nothing, twice is once, order does not count.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;
use crate::patch::Patch;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(crate::name::ObjectKind::RouteOverride, "shop", name)
}

/// Merges Patches of one layer and scope, the oldest first.
fn together(patches: &[Value]) -> Merged {
    let keys: Vec<ObjectKey> = (0..patches.len()).map(|at| key(&format!("o{at}"))).collect();
    let written: Vec<Written<'_>> = patches
        .iter()
        .zip(&keys)
        .map(|(patch, object)| Written {
            layer: Layer::Tenant,
            scope: Scope::Rule,
            created: 0,
            object,
            patch,
        })
        .collect();
    merge(&written)
}

/// Merges Patches of scopes that grow narrower: at most six.
fn on_top(patches: &[Value]) -> Merged {
    let object = key("o");
    let places = [Layer::Tenant, Layer::Emergency].into_iter().flat_map(|layer| {
        [Scope::Namespace, Scope::Object, Scope::Rule].map(|scope| (layer, scope))
    });
    let written: Vec<Written<'_>> = patches
        .iter()
        .zip(places)
        .map(|(patch, (layer, scope))| Written { layer, scope, created: 0, object: &object, patch })
        .collect();
    merge(&written)
}

#[track_caller]
fn check(patches: &[Value], expected: Value, resets: &[&str]) {
    let merged = on_top(patches);
    assert_eq!(merged.values, expected, "{patches:?}");
    assert_eq!(merged.resets.iter().map(String::as_str).collect::<Vec<_>>(), resets);
}

#[test]
fn narrower_scopes_and_later_layers_win_member_by_member() {
    check(
        &[json!({"a": {"x": 1, "y": 1}}), json!({"a": {"y": 2}})],
        json!({"a": {"x": 1, "y": 2}}),
        &[],
    );
    check(&[json!({"a": {"x": 1}}), json!({"a": null})], json!({}), &["/a"]);
    check(&[json!({"a": null}), json!({"a": {"x": 2}})], json!({"a": {"x": 2}}), &["/a"]);
    check(&[json!({"a": [1, 2]}), json!({"a": [3]})], json!({"a": [3]}), &[]);
    check(&[json!({"a": {}}), json!({})], json!({"a": {}}), &[]);
}

#[test]
fn a_choice_between_forms_is_replaced_as_a_whole() {
    check(
        &[
            json!({"rewrite": {"path": {"full": "/a"}}}),
            json!({"rewrite": {"path": {"prefix": "/b"}}}),
        ],
        json!({"rewrite": {"path": {"prefix": "/b"}}}),
        &[],
    );
}

#[test]
fn names_of_headers_are_the_same_in_any_case() {
    check(
        &[
            json!({"headers": {"request": {"set": {"X-A": "1"}}}}),
            json!({"headers": {"request": {"set": {"x-a": "2"}}}}),
        ],
        json!({"headers": {"request": {"set": {"x-a": "2"}}}}),
        &[],
    );
}

#[test]
fn elements_of_keyed_lists_merge_by_key() {
    let low =
        json!({"backends": [{"name": "a", "port": 80, "weight": 1}, {"name": "b", "port": 80}]});
    let high = json!({"backends": [
        {"kind": "Service", "name": "a", "port": 80, "disabled": true},
        {"name": "b", "port": 80, "$remove": true},
        {"kind": "Upstream", "name": "u", "weight": 3},
    ]});
    check(
        &[low, high],
        json!({"backends": [
            {"kind": "Service", "name": "a", "port": 80, "weight": 1, "disabled": true},
            {"kind": "Upstream", "name": "u", "weight": 3},
        ]}),
        &["/backends/Service~1b:80"],
    );
}

#[test]
fn of_two_in_one_scope_the_older_keeps_what_it_has_set() {
    let merged = together(&[
        json!({"timeouts": {"request": "1s"}}),
        json!({"timeouts": {"request": "2s", "connect": "3s"}}),
        json!({"timeouts": null}),
    ]);
    assert_eq!(merged.values, json!({"timeouts": {"request": "1s", "connect": "3s"}}));
    let conflict = |pointer: &str, loser: &str| Conflict {
        pointer: pointer.to_owned(),
        loser: key(loser),
        owner: key(if loser == "o2" { "o1" } else { "o0" }),
    };
    assert_eq!(
        merged.conflicts,
        [conflict("/timeouts/request", "o1"), conflict("/timeouts", "o2")]
    );
    let setters = &merged.setters["/timeouts/connect"];
    assert_eq!(setters.iter().map(|s| &s.object).collect::<Vec<_>>(), [&key("o1")]);
}

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = Value> {
    select(choices).prop_map(Value::from)
}

fn or_null(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![4 => value, 1 => Just(Value::Null)].boxed()
}

fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let parts: Vec<_> = members
        .into_iter()
        .map(|(name, value)| (Just(name), proptest::option::of(value)))
        .collect();
    parts
        .prop_map(|parts| {
            let set = parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(set.collect::<Map<_, _>>())
        })
        .boxed()
}

/// A Patch with few names, so that many meet.
fn patch() -> BoxedStrategy<Value> {
    let span = || or_null(text(&["1s", "1000ms", "30s"]));
    let fields = btree_map(select(&["x-a", "X-A", "x-b"][..]), or_null(text(&["1", "2"])), 0..3)
        .prop_map(|map| json!(map));
    let edits = object(vec![
        ("set", or_null(fields)),
        ("remove", or_null(vec(text(&["x-a", "x-c"]), 0..2).prop_map(Value::Array))),
    ]);
    let path = prop_oneof![
        Just(json!({"full": "/a"})),
        Just(json!({"prefix": "/b"})),
        Just(json!({"regex": "/(.*)", "substitution": "/$1"})),
    ];
    let backend =
        (select(&["a", "b"][..]), 0..3_u32, any::<bool>()).prop_map(|(name, weight, gone)| {
            if gone {
                json!({"name": name, "port": 80, "$remove": true})
            } else {
                json!({"name": name, "port": 80, "weight": weight})
            }
        });
    object(vec![
        ("timeouts", or_null(object(vec![("request", span()), ("connect", span())]))),
        ("headers", or_null(object(vec![("request", or_null(edits))]))),
        ("rewrite", or_null(object(vec![("path", or_null(path))]))),
        ("access", or_null(object(vec![("deny", or_null(Just(json!(["10.0.0.0/8"]))))]))),
        ("backends", or_null(vec(backend, 0..3).prop_map(Value::Array))),
        ("compression", or_null(object(vec![("level", or_null((1..9_u8).prop_map(Value::from)))]))),
    ])
}

fn written() -> impl Strategy<Value = (Layer, Scope, i64, String, Value)> {
    (
        select(&[Layer::Tenant, Layer::Emergency][..]),
        select(&[Scope::Namespace, Scope::Object, Scope::Rule][..]),
        0..3_i64,
        select(&["o1", "o2", "o3"][..]).prop_map(str::to_owned),
        patch(),
    )
}

proptest! {
    #[test]
    fn an_empty_patch_changes_nothing(patches in vec(patch(), 0..5)) {
        let mut longer = patches.clone();
        longer.push(json!({}));
        let (merged, longer) = (on_top(&patches), on_top(&longer));
        prop_assert_eq!(merged.values, longer.values);
        prop_assert_eq!(merged.resets, longer.resets);
    }

    #[test]
    fn merging_twice_is_merging_once(patches in vec(patch(), 1..5)) {
        let mut twice = patches.clone();
        twice.extend(patches.last().cloned());
        let (merged, twice) = (on_top(&patches), on_top(&twice));
        prop_assert_eq!(merged.values, twice.values);
        prop_assert_eq!(merged.resets, twice.resets);
    }

    #[test]
    fn the_order_in_which_they_are_given_does_not_count(
        (all, other) in vec(written(), 0..7).prop_flat_map(|mut all| {
            // Each Object stands there once.
            let mut seen = BTreeSet::new();
            all.retain(|one| seen.insert(one.3.clone()));
            (Just(all.clone()), Just(all).prop_shuffle())
        }),
    ) {
        let merged = |all: &[(Layer, Scope, i64, String, Value)]| {
            let keys: Vec<ObjectKey> = all.iter().map(|one| key(&one.3)).collect();
            let written: Vec<Written<'_>> = all
                .iter()
                .zip(&keys)
                .map(|((layer, scope, created, _, patch), object)| Written {
                    layer: *layer, scope: *scope, created: *created, object, patch,
                })
                .collect();
            merge(&written)
        };
        prop_assert_eq!(merged(&all), merged(&other));
    }

    #[test]
    fn the_result_is_a_patch_whenever_the_parts_are(patches in vec(patch(), 0..6)) {
        for patch in &patches {
            prop_assert!(serde_json::from_value::<Patch>(patch.clone()).is_ok(), "{}", patch);
        }
        for merged in [on_top(&patches), together(&patches)] {
            let read = serde_json::from_value::<Patch>(merged.values.clone());
            prop_assert!(read.is_ok(), "{}: {:?}", merged.values, read);
        }
    }
}

#[test]
fn what_stands_below_all_layers_holds_where_nobody_writes_or_takes_it_back() {
    #[track_caller]
    fn check(lowest: Value, patches: &[Value], left: Value, values: Value) {
        let merged = on_top(patches);
        assert_eq!(merged.left_of(&lowest), left, "{lowest} {patches:?}");
        assert_eq!(merged.values_on(&lowest), values, "{lowest} {patches:?}");
    }
    let lowest = json!({"a": {"x": [1], "y": 1}, "b": {}});
    check(lowest.clone(), &[json!({})], lowest.clone(), lowest.clone());
    let values = json!({"a": {"x": [2], "y": 1}, "b": {}});
    check(lowest.clone(), &[json!({"a": {"x": [2]}})], lowest.clone(), values);
    let left = json!({"a": {"y": 1}, "b": {}});
    check(lowest.clone(), &[json!({"a": {"x": null}})], left.clone(), left);
    // Taken back, and set again by a later layer.
    let patches = [json!({"a": null}), json!({"a": {"x": [3]}})];
    let values = json!({"a": {"x": [3]}, "b": {}});
    check(lowest, &patches, json!({"b": {}}), values);
    check(Value::Null, &[json!({"a": 1})], json!({}), json!({"a": 1}));
    let backends =
        json!({"backends": [{"kind": "Service", "name": "web", "port": 80, "weight": 1}]});
    check(json!({}), std::slice::from_ref(&backends), json!({}), backends.clone());
    let names = json!({"headers": {"request": {"set": {"X-A": "1"}}}});
    let patch = json!({"headers": {"request": {"set": {"x-a": null}}}});
    let left = json!({"headers": {"request": {"set": {}}}});
    check(names, &[patch], left.clone(), left);
}
