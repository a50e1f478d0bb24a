//! Entry points for fuzzing: each takes any bytes, never panics, and checks what must hold of
//! whatever passes. The targets in `fuzz/` call them, and so do bounded property tests here.

mod client_hello;
mod proxy_header;
mod request_head;
mod saved_file;

use bytes::BytesMut;
use kubeng_config::authority::{Authority, Host};
use kubeng_config::path::{DoubleSlash, EncodedSlash, PathRules, canonical};

use crate::limits::Limits;
use crate::listener::body::Chunks;
use crate::listener::frames::Frames;
use crate::listener::head::gate;
pub use client_hello::client_hello;
pub use proxy_header::proxy_header;
pub use saved_file::saved_file;

/// The name of a target and of its folder of seeds, and what is called with each input.
pub type EntryPoint = (&'static str, fn(&[u8]));

/// Every entry point.
pub const ENTRY_POINTS: &[EntryPoint] = &[
    ("authority", authority),
    ("chunks", chunks),
    ("client_hello", client_hello),
    ("filter", filter),
    ("frames", frames),
    ("path", path),
    ("proxy_header", proxy_header),
    ("request_head", request_head),
    ("saved_file", saved_file),
];

/// The head gate. What passes must pass again, unchanged: it is canonical; and a strict reader that
/// shares nothing with it finds one way to read it.
pub fn request_head(bytes: &[u8]) {
    let limits = Limits::default();
    let Some(head) = gate(BytesMut::from(bytes), &limits) else { return };
    let end = memchr::memmem::find(&head, b"\r\n\r\n").map_or(0, |at| at + 4);
    let first = head.get(..end).unwrap_or_default();
    assert!(end > 0, "a head ends with an empty line");
    assert!(!first.contains(&0), "NUL in a head");
    request_head::assert_plain(first);
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

/// The accountant of HTTP/2 frames, in both directions. Pieces make no difference, and it knows
/// where frames begin.
pub fn frames(bytes: &[u8]) {
    let judged = |step: usize| {
        let mut frames = Frames::new(100);
        let told = bytes.chunks(step.max(1)).try_for_each(|piece| frames.read(piece));
        (told, frames.is_begun())
    };
    assert_eq!(judged(1), judged(bytes.len()), "pieces make no difference");
    let mut wrote = Frames::new(100);
    wrote.wrote(bytes);
    assert_eq!(wrote.is_between_frames(), is_between_frames(bytes));
    let mut frames = Frames::new(100);
    for piece in bytes.chunks(7) {
        frames.wrote(piece);
        if frames.read(piece).is_err() {
            break;
        }
    }
}

/// Whether `bytes` end where a frame ends (RFC 9113 section 4.1).
fn is_between_frames(mut bytes: &[u8]) -> bool {
    while let Some(([a, b, c, ..], _)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(rest) = bytes.get(9 + length..) else { return false };
        bytes = rest;
    }
    bytes.is_empty()
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

/// Authorities: whatever is one has no byte that ends a host elsewhere, and says the same when it is
/// written anew.
pub fn authority(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(authority) = Authority::parse(text) {
        let is_bad = |byte: u8| !byte.is_ascii_graphic() || b"/?#@,\\\"<>%".contains(&byte);
        assert!(!text.bytes().any(is_bad), "{text:?}");
        let host = match &authority.host {
            Host::Name(name) => name.as_str().to_owned(),
            Host::V4(address) => address.to_string(),
            Host::V6(address) => format!("[{address}]"),
        };
        let port = authority.port.map_or(String::new(), |port| format!(":{port}"));
        assert_eq!(Authority::parse(&format!("{host}{port}")), Ok(authority), "{text:?}");
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
mod tests;
