//! Entry points for fuzzing: each takes any bytes, never panics, and checks what must hold of
//! whatever passes. The targets in `fuzz/` call them, and so do bounded property tests here.

use bytes::BytesMut;
use kubeng_config::authority::Authority;
use kubeng_config::path::{DoubleSlash, EncodedSlash, PathRules, canonical};

use crate::limits::Limits;
use crate::listener::body::Chunks;
use crate::listener::frames::Frames;
use crate::listener::head::gate;

/// The head gate. What passes must pass again, unchanged: it is canonical.
pub fn request_head(bytes: &[u8]) {
    let limits = Limits::default();
    let Some(head) = gate(BytesMut::from(bytes), &limits) else { return };
    let end = memchr::memmem::find(&head, b"\r\n\r\n").map_or(0, |at| at + 4);
    let first = head.get(..end).unwrap_or_default();
    assert!(end > 0, "a head ends with an empty line");
    assert!(!first.contains(&0), "NUL in a head");
    let again = gate(BytesMut::from(first), &limits);
    // Of a chunked body the begin may be missing now; the head is the same.
    assert_eq!(again.as_deref(), Some(first), "canonical is final");
}

/// Chunked bodies, in pieces whose size the first byte tells. What passes must pass again, unchanged.
pub fn chunks(bytes: &[u8]) {
    let Some((&step, text)) = bytes.split_first() else { return };
    let pass = |text: &[u8], step: usize| {
        let (mut chunks, mut kept, mut is_end) = (Chunks::new(), Vec::new(), false);
        for piece in text.chunks(step.max(1)) {
            if is_end {
                break;
            }
            let mut piece = piece.to_vec();
            let passed = chunks.pass(&mut piece).ok()?;
            assert!(passed.kept <= passed.taken, "it never gives more than it took");
            kept.extend_from_slice(piece.get(..passed.kept).unwrap_or_default());
            is_end = passed.is_end;
        }
        is_end.then_some(kept)
    };
    let passed = pass(text, usize::from(step));
    assert_eq!(passed, pass(text, text.len()), "pieces make no difference");
    if let Some(kept) = passed {
        assert_eq!(pass(&kept, kept.len()).as_ref(), Some(&kept), "canonical is final");
    }
}

/// The accountant of HTTP/2 frames, in both directions.
pub fn frames(bytes: &[u8]) {
    let mut frames = Frames::new(100);
    for piece in bytes.chunks(7) {
        frames.wrote(piece);
        if frames.read(piece).is_err() {
            break;
        }
    }
}

/// Canonical paths. What passes must pass again, unchanged, without dot segments.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for encoded_slash in [EncodedSlash::Refuse, EncodedSlash::Keep] {
        for double_slash in [DoubleSlash::Merge, DoubleSlash::Keep] {
            let rules = PathRules { encoded_slash, double_slash };
            let Ok(path) = canonical(text, rules) else { continue };
            assert_eq!(canonical(&path, rules).as_deref(), Ok(&*path), "canonical is final");
            let is_dots = |segment: &str| segment == "." || segment == "..";
            assert!(!path.split('/').any(is_dots), "{path}");
            assert!(path.starts_with('/') && path.is_ascii(), "{path}");
        }
    }
}

/// Authorities: whatever is one has no byte that ends a host elsewhere.
pub fn authority(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if Authority::parse(text).is_ok() {
        let is_bad = |byte: u8| !byte.is_ascii_graphic() || b"/?#@,\\\"<>%".contains(&byte);
        assert!(!text.bytes().any(is_bad), "{text:?}");
    }
}

/// Filters as they are stored: what is read is written and read alike.
pub fn filter(bytes: &[u8]) {
    use kubeng_config::filter::Filter;
    let Ok(filter) = serde_json::from_slice::<Filter>(bytes) else { return };
    let written = serde_json::to_vec(&filter).unwrap_or_default();
    let again = serde_json::from_slice::<Filter>(&written);
    assert_eq!(again.ok().as_ref(), Some(&filter), "a filter survives its text");
}

#[cfg(test)]
mod tests {
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
        }

        #[test]
        fn the_gate_holds_for_any_bytes(bytes in any_bytes()) {
            request_head(&bytes);
            let begun = [b"GET / HTTP/1.1\r\nHost: a\r\n", &bytes[..], b"\r\n\r\n"].concat();
            request_head(&begun);
        }
    }
}
