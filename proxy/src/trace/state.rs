//! Whether a `tracestate` may be passed on (W3C Trace Context, level 2, section 3.3).

use http::HeaderValue;
use http::header::GetAll;

/// Whether all lines together are a list of at most 32 members, each key once.
pub(super) fn is_valid(lines: GetAll<'_, HeaderValue>) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    for member in lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b',')) {
        let member = trim(member);
        // Empty members are allowed and mean nothing.
        if member.is_empty() {
            continue;
        }
        let Some(key) = key_of(member) else { return false };
        if keys.len() == MEMBERS_MAX || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }
    true
}

fn trim(text: &[u8]) -> &[u8] {
    let is_text = |&byte: &u8| byte != b' ' && byte != b'\t';
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// The key of `key=value`, if both are well formed.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let at = member.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (member.get(..at)?, member.get(at + 1..)?);
    let is_key = (1..=256).contains(&key.len())
        && key.first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && key.iter().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte)
        });
    let is_value = (1..=256).contains(&value.len())
        && value.iter().all(|&byte| (0x20..=0x7e).contains(&byte) && byte != b'=');
    (is_key && is_value).then_some(key)
}

const MEMBERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: bool) {
        let mut headers = http::HeaderMap::new();
        for line in lines {
            headers.append("tracestate", line.parse().unwrap());
        }
        assert_eq!(is_valid(headers.get_all("tracestate")), expected, "{lines:?}");
    }

    #[test]
    fn lists_are_checked_as_a_whole() {
        check(&["a=1"], true);
        check(&["a=1,b=2", "c=3"], true);
        check(&["a=1 , ,\tb=x y"], true);
        check(&["fw529a3039@dt=FfffffffS,0a/b*c-d_e=!"], true);
        check(&[""], true);
        check(&["a=1", "a=2"], false);
        check(&["A=1"], false);
        check(&["=1"], false);
        check(&["a="], false);
        check(&["a=b=c"], false);
        check(&["a"], false);
        check(&["@a=1"], false);
        let many = |count: usize| (0..count).map(|n| format!("k{n}=1,")).collect::<String>();
        check(&[&many(32)], true);
        check(&[&many(33)], false);
        check(&[&format!("{}=1", "a".repeat(256))], true);
        check(&[&format!("{}=1", "a".repeat(257))], false);
        check(&[&format!("a={}", "1".repeat(257))], false);
    }
}
