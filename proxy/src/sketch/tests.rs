use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::record::tests::record;

fn at(bucket: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + BUCKET * 1_000_000 + Duration::from_secs(bucket * BUCKET.as_secs())
}

fn key(host: u8, path: u16) -> Key {
    Key {
        listener: "http".parse().unwrap(),
        host: Some(format!("h{host}.example").parse().unwrap()),
        method: Method::GET,
        path: format!("/{path}").into(),
        sni: None,
        selected: Box::default(),
    }
}

/// Everything that was counted, exactly.
#[derive(Default)]
struct Oracle(HashMap<Key, Vec<(u64, u64)>>);

impl Oracle {
    fn add(&mut self, key: &Key, bucket: u64) {
        let of_key = self.0.entry(key.clone()).or_default();
        match of_key.iter_mut().find(|(other, _)| *other == bucket) {
            Some((_, count)) => *count += 1,
            None => of_key.push((bucket, 1)),
        }
    }

    /// How often `key` came in the buckets that are kept.
    fn count(&self, key: &Key, newest: u64) -> u64 {
        let of_key = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        let is_kept = |bucket: u64| bucket + BUCKETS as u64 > newest;
        of_key.iter().filter(|(bucket, _)| is_kept(*bucket)).map(|(_, count)| count).sum()
    }
}

/// Requests: host, path, and whether time goes on before it. Some paths come often.
fn requests() -> impl Strategy<Value = Vec<(u8, u16, bool)>> {
    let path = prop_oneof![0_u16..4, 0_u16..4, 0_u16..400];
    let host = prop_oneof![Just(0_u8), 0_u8..4, 0_u8..40];
    vec((host, path, prop::bool::weighted(0.01)), 1..1500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn counts_are_as_good_as_they_say(requests in requests(), keys_max in 24_usize..900) {
        let mut sketch = Sketch::new(keys_max);
        let mut oracle = Oracle::default();
        let mut now = 0;
        for (host, path, goes_on) in requests {
            now += u64::from(goes_on);
            let key = key(host, path);
            oracle.add(&key, now);
            sketch.count(&key.borrowed(), at(now));
        }
        let reading = sketch.read(at(now), usize::MAX, |_| true);
        let held: usize = sketch.buckets.values().map(|bucket| bucket.keys().count()).sum();
        prop_assert!(held <= keys_max, "{} of {}", held, keys_max);
        for bucket in sketch.buckets.values() {
            bucket.check();
        }
        let told: HashMap<_, _> = reading.keys.iter().map(|(key, count)| (&**key, *count)).collect();
        for (key, &Count { count, error }) in &told {
            let exact = oracle.count(key, now);
            prop_assert!(exact <= count && count - error <= exact, "{exact} {count} {error}");
        }
        for key in oracle.0.keys().filter(|key| !told.contains_key(key)) {
            let of_host = reading.floors.iter().find(|(host, _)| *host == key.host);
            let floor = of_host.map_or(0, |(_, floor)| *floor) + reading.floor_of_others;
            let exact = oracle.count(key, now);
            prop_assert!(exact <= floor, "{key:?} came {exact} times, and at most {floor} is told");
        }
    }

    #[test]
    fn with_room_counts_are_exact(requests in vec((0_u8..5, 0_u16..20), 1..400)) {
        let mut sketch = Sketch::new(20_000);
        let mut oracle = Oracle::default();
        for (host, path) in requests {
            oracle.add(&key(host, path), 0);
            sketch.count(&key(host, path).borrowed(), at(0));
        }
        let reading = sketch.read(at(0), usize::MAX, |_| true);
        prop_assert_eq!(reading.keys.len(), oracle.0.len());
        for (key, count) in &reading.keys {
            prop_assert_eq!(*count, Count { count: oracle.count(key, 0), error: 0 });
        }
    }
}

#[test]
fn a_host_with_many_paths_does_not_push_others_out() {
    let mut sketch = Sketch::new(600);
    for path in 0..20 {
        sketch.count(&key(1, path).borrowed(), at(0));
    }
    for path in 0..10_000 {
        sketch.count(&key(0, path).borrowed(), at(0));
    }
    for path in 20..40 {
        sketch.count(&key(1, path).borrowed(), at(0));
    }
    let reading = sketch.read(at(0), usize::MAX, |key| {
        key.host.as_ref().is_some_and(|host| host.as_str() == "h1.example")
    });
    assert_eq!(reading.keys.len(), 40);
    assert!(reading.keys.iter().all(|(_, count)| *count == Count { count: 1, error: 0 }));
}

#[test]
fn a_host_of_one_group_has_the_bound_of_space_saving() {
    let mut sketch = Sketch::new(60);
    let places = sketch.bucket_keys_max as u64;
    for turn in 0..1000 {
        sketch.count(&key(0, turn % 3).borrowed(), at(0));
        sketch.count(&key(0, 100 + turn).borrowed(), at(0));
    }
    let reading = sketch.read(at(0), 3, |_| true);
    assert!(reading.floors[0].1 <= 2000 / places, "{:?}", reading.floors);
    let paths: Vec<&str> = reading.keys.iter().map(|(key, _)| &*key.path).collect();
    assert!(["/0", "/1", "/2"].iter().all(|path| paths.contains(path)), "{paths:?}");
}

#[test]
fn keys_have_what_routing_looks_at_and_leave_with_time() {
    let mut sketch = Sketch::new(600);
    let mut long = record("a.example", &format!("/{}", "x".repeat(300)), 200, at(0));
    sketch.add(&long);
    long.listener = None;
    sketch.add(&long);
    assert_eq!(sketch.unkeyed, 2);
    sketch.add(&record("a.example", "/a/../b//c", 200, at(0)));
    let reading = sketch.read(at(BUCKETS as u64 - 1), 10, |_| true);
    assert_eq!(reading.since, Some(at(0)));
    assert_eq!(reading.keys.len(), 1);
    assert_eq!(&*reading.keys[0].0.path, &*canonical("/a/../b//c", PathRules::INGRESS).unwrap());
    assert!(sketch.read(at(BUCKETS as u64), 10, |_| true).keys.is_empty());
}
