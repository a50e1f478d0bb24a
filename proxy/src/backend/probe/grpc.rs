//! `grpc.health.v1.Health/Check` (gRPC Health Checking Protocol), of which two small messages are
//! needed: a question with a name, and an answer with a number.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::response::Parts;

/// Where it is asked.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

/// A `HealthCheckRequest` for `service` in its frame.
pub(super) fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        // Field 1, a string.
        message.put_u8(1 << 3 | 2);
        put_varint(service.len() as u64, &mut message);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + FRAME_HEAD);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// Whether the answer says that the service is well, or what is wrong.
pub(super) fn judge(head: &Parts, trailers: &HeaderMap, body: &[u8]) -> Result<(), Box<str>> {
    if head.status != http::StatusCode::OK {
        return Err(format!("status {}", head.status.as_u16()).into());
    }
    // An answer without a message has its status in the head.
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    match status.map(http::HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(other) => {
            return Err(format!("grpc-status {}", String::from_utf8_lossy(other)).into());
        }
        None => return Err("no grpc-status".into()),
    }
    match serving_status(body) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(format!("serving status {other}").into()),
        None => Err("an answer that cannot be read".into()),
    }
}

/// Field 1 of a `HealthCheckResponse`; an absent one is 0.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (head, message) = body.split_at_checked(FRAME_HEAD)?;
    let (is_plain, length) = head.split_first().map(|(flag, length)| (*flag == 0, length))?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if !is_plain || message.len() != usize::try_from(length).ok()? {
        return None;
    }
    match message.split_first() {
        None => Some(0),
        Some((&STATUS_FIELD, rest)) => varint(rest),
        Some(_) => None,
    }
}

fn put_varint(mut number: u64, to: &mut BytesMut) {
    while number >= 0x80 {
        to.put_u8((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    to.put_u8((number & 0x7F) as u8);
}

/// A number that is all of `bytes`.
fn varint(bytes: &[u8]) -> Option<u64> {
    let (last, before) = bytes.split_last()?;
    if *last >= 0x80 || before.iter().any(|byte| *byte < 0x80) || bytes.len() > 9 {
        return None;
    }
    Some(bytes.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7F)))
}

const FRAME_HEAD: usize = 5;
const STATUS_FIELD: u8 = 1 << 3;
const SERVING: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_framed_messages() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
        assert_eq!(question(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 10, 0xC8, 1]);
    }

    #[track_caller]
    fn check(status: Option<&str>, body: &[u8], expected: Result<(), &str>) {
        let (head, ()) = http::Response::new(()).into_parts();
        let mut trailers = HeaderMap::new();
        if let Some(status) = status {
            trailers.insert("grpc-status", status.parse().unwrap());
        }
        let judged = judge(&head, &trailers, body);
        assert_eq!(judged.as_ref().map_err(AsRef::as_ref).copied(), expected);
    }

    #[test]
    fn only_serving_is_well() {
        check(Some("0"), &[0, 0, 0, 0, 2, 8, 1], Ok(()));
        check(Some("0"), &[0, 0, 0, 0, 2, 8, 2], Err("serving status 2"));
        check(Some("0"), &[0, 0, 0, 0, 0], Err("serving status 0"));
        check(Some("12"), &[], Err("grpc-status 12"));
        check(None, &[0, 0, 0, 0, 2, 8, 1], Err("no grpc-status"));
        for bad in [
            &[][..],
            &[0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 2, 9, 1],
            &[0, 0, 0, 0, 2, 8, 0x81],
        ] {
            check(Some("0"), bad, Err("an answer that cannot be read"));
        }
    }
}
