//! Fields behind a body, where both sides speak HTTP/2.

use http::HeaderMap;

use super::strip;
use crate::listener::head::is_token_byte;
use crate::nominated::is_protected;

/// What of trailers may go on: nothing that frames, routes, or tells who somebody is (RFC 9110
/// section 6.5.1). None where nothing is left, or where there are too many.
pub(super) fn allowed(mut trailers: HeaderMap) -> Option<HeaderMap> {
    strip(&mut trailers);
    let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let refused: Vec<_> = trailers
        .keys()
        .filter(|name| {
            let name = name.as_str().as_bytes();
            is_protected(name) || !name.iter().copied().all(is_token_byte)
        })
        .cloned()
        .collect();
    for name in &refused {
        trailers.remove(name);
    }
    let fits = trailers.len() <= TRAILERS_MAX && bytes <= TRAILER_BYTES_MAX;
    Some(trailers).filter(|trailers| fits && !trailers.is_empty())
}

const TRAILERS_MAX: usize = 32;
const TRAILER_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn trailers_neither_frame_nor_name_anybody() {
        let mut all = HeaderMap::new();
        for name in ["grpc-status", "content-length", "host", "connection", "x-forwarded-for"] {
            all.insert(name, HeaderValue::from_static("0"));
        }
        let left = allowed(all).unwrap();
        assert_eq!(left.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["grpc-status"]);
        assert_eq!(allowed(HeaderMap::new()), None);
    }
}
