//! A number for each request, to find it again in logs.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HeaderName, HeaderValue};
use kubeng_config::filter::request_id::RequestIds;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Step, Target};
use crate::request::{Extra, RequestEdit};

/// The id of a request and the header that carries it.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    pub(crate) header: HeaderName,
    pub(crate) value: HeaderValue,
}

/// Gives the request an id.
pub(crate) fn on_request(
    ids: &RequestIds,
    at: SystemTime,
    target: &Target<'_>,
    extra: &mut Extra,
) -> Step {
    let header = ids.header.name().clone();
    let is_trusted = target.facts.trusted_proxies.is_some();
    let told = target.headers.get(&header).filter(|told| is_trusted && is_fine(told));
    let mut random = [0; 10];
    // Without it the time alone is the id: better a poor one than none.
    let _ = SystemRandom::new().fill(&mut random);
    let value = told.cloned().or_else(|| HeaderValue::from_str(&uuid_v7(at, random)).ok());
    if let Some(value) = value {
        extra.edits.push(RequestEdit::Set(header.clone(), value.clone()));
        extra.request_id = Some(RequestId { header, value });
    }
    Step::Pass
}

/// Whether an id can stand in a log line.
fn is_fine(told: &HeaderValue) -> bool {
    let bytes = told.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    !bytes.is_empty() && bytes.len() <= ID_BYTES_MAX && bytes.iter().all(is_plain)
}

/// A UUID of version 7 (RFC 9562 section 5.7): the time in milliseconds, then chance.
fn uuid_v7(at: SystemTime, random: [u8; 10]) -> String {
    let millis = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let time = (millis & 0xFFFF_FFFF_FFFF) << 80;
    let chance = random.iter().fold(0_u128, |all, &byte| (all << 8) | u128::from(byte));
    let version_and_variant = (0xF << 76) | (0x3 << 62);
    let number = time | (chance & !version_and_variant) | (0x7 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let (a, b, c, d, e) = (part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32));
    format!("{a}-{b}-{c}-{d}-{e}")
}

const ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_id_is_a_uuid_that_begins_with_the_time() {
        // The example of RFC 9562, appendix A.6.
        let at = UNIX_EPOCH + Duration::from_millis(0x017F_22E2_79B0);
        let random = [0x0C, 0xC3, 0x18, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F];
        assert_eq!(uuid_v7(at, random), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        assert_eq!(uuid_v7(at, [0xFF; 10]), "017f22e2-79b0-7fff-bfff-ffffffffffff");
    }

    #[test]
    fn what_could_break_a_log_line_is_not_kept() {
        for (told, expected) in
            [("abc-1_2.3:4/5+6=@", true), ("", false), ("a b", false), ("a\"b", false)]
        {
            assert_eq!(is_fine(&told.parse().unwrap()), expected, "{told:?}");
        }
        assert!(!is_fine(&"a".repeat(129).parse().unwrap()));
    }
}
