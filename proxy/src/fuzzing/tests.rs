use proptest::prelude::*;

use super::*;

/// Bytes that are likely to mean something.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "GET",
        "POST",
        " ",
        "/",
        "http://",
        "a",
        ":",
        "80",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "\r\n",
        "\n",
        "Host: a\r\n",
        "Host:",
        "Content-Length: ",
        "Transfer-Encoding: ",
        "chunked",
        "Connection: ",
        "host",
        "close",
        ",",
        "0",
        "5",
        "\t",
        "%2e",
        "%2F",
        "%61",
        "..",
        ".",
        ";",
        "?",
        "#",
        "\0",
        "\u{e4}",
        "[::1]",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "x: y\r\n",
        "\"",
        "_",
        "{",
        "}",
    ]);
    prop::collection::vec(words, 0..24).prop_map(|words| words.concat().into_bytes())
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![likely(), prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn entry_points_hold_for_any_bytes(bytes in any_bytes()) {
        chunks(&bytes);
        frames(&bytes);
        path(&bytes);
        authority(&bytes);
        filter(&bytes);
        proxy_header(&bytes);
        client_hello(&bytes);
        saved_file(&bytes);
    }

    #[test]
    fn the_gate_holds_for_any_bytes(bytes in any_bytes()) {
        request_head(&bytes);
        let begun = [b"GET / HTTP/1.1\r\nHost: a\r\n", &bytes[..], b"\r\n\r\n"].concat();
        request_head(&begun);
    }
}

/// The folder of seeds, one folder for each target. A find that was mended stays here.
const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");

fn names_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".rs", ""))
        .collect();
    names.sort();
    names
}

#[test]
fn every_seed_holds() {
    for (name, entry_point) in ENTRY_POINTS {
        let folder = format!("{SEEDS}/{name}");
        let files = names_in(&folder);
        assert!(files.len() >= 4, "{folder} has {} seeds", files.len());
        for file in files {
            let bytes = std::fs::read(format!("{folder}/{file}")).unwrap();
            let held = std::panic::catch_unwind(|| entry_point(&bytes));
            assert!(held.is_ok(), "{folder}/{file}");
        }
    }
}

#[test]
fn every_entry_point_has_a_target_and_seeds() {
    let names: Vec<&str> = ENTRY_POINTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names_in(SEEDS), names);
    assert_eq!(names_in(&format!("{SEEDS}/../fuzz_targets")), names);
    let manifest = std::fs::read_to_string(format!("{SEEDS}/../Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is no [[bin]]");
    }
}

#[test]
fn seeds_are_read_to_their_end() {
    let seed = |name: &str| std::fs::read(format!("{SEEDS}/{name}")).unwrap();
    let is_head = |seed: Vec<u8>| gate(BytesMut::from(&*seed), &Limits::default()).is_some();
    assert!(is_head(seed("request_head/get")));
    assert!(is_head(seed("request_head/chunked")));
    for (name, parts) in [("route_and_endpoints", 4), ("certificate", 8)] {
        let file = crate::persist::fuzz::framed(&seed(&format!("saved_file/{name}")));
        let saved = crate::persist::fuzz::read(&file).unwrap();
        assert_eq!(saved.delta.upserts.len(), parts, "{name}");
    }
    for (file, name) in [("openssl_tls13", "web.example.com"), ("openssl_tls12", "a.example")] {
        let mut peek = crate::listener::client_hello::Peek::default();
        let hello = seed(&format!("client_hello/{file}"));
        let told = peek.look(&hello[1..]).map_err(|_| file).unwrap();
        let wanted = crate::listener::client_hello::Hello::Whole(Some(name.into()));
        assert_eq!(told, wanted, "{file}");
    }
}
