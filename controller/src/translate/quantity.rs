//! Quantities as people write them: durations and percentages.

use std::time::Duration;

/// Reads a duration of Gateway API (GEP-2257): one to four numbers of at most five digits, each with
/// `h`, `m`, `s` or `ms`, such as `1h30m`, `15s`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    for _ in 0..PIECES_MAX {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest.get(..digits).filter(|_| digits <= DIGITS_MAX)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let one = match rest.get(..unit)? {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        rest = rest.get(unit..)?;
        sum += one * number;
        if rest.is_empty() {
            return Some(sum);
        }
    }
    None
}

/// Writes a duration as [`duration`] reads it.
pub(crate) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    match (millis % 3_600_000, millis % 60_000, millis % 1000) {
        _ if millis == 0 => "0s".to_owned(),
        (0, _, _) => format!("{}h", millis / 3_600_000),
        (_, 0, _) => format!("{}m", millis / 60_000),
        (_, _, 0) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// Reads a whole percentage, `0%` to `100%`.
pub(crate) fn percent(text: &str) -> Option<u8> {
    let digits = text.strip_suffix('%')?;
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|percent| is_plain && *percent <= 100)
}

const PIECES_MAX: usize = 4;
const DIGITS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gateway_api() {
        let good: [(&str, u64); 8] = [
            ("0s", 0),
            ("500ms", 500),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("1m1s", 61_000),
            ("10s1ms", 10_001),
            ("1h1m1s1ms", 3_661_001),
            ("99999h", 359_996_400_000),
        ];
        for (text, millis) in good {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        let bad = [
            "",
            "s",
            "1",
            "1.5s",
            "-1s",
            "1 s",
            "1S",
            "1d",
            "100000s",
            "1s1",
            "1us",
            "+1s",
            "1s1s1s1s1s",
            "１s",
        ];
        for text in bad {
            assert_eq!(duration(text), None, "{text:?}");
        }
        for text in ["0s", "2h", "90m", "61s", "1500ms"] {
            assert_eq!(shown(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn percentages_are_whole() {
        for (text, expected) in [("0%", Some(0)), ("7%", Some(7)), ("100%", Some(100))] {
            assert_eq!(percent(text), expected, "{text}");
        }
        for text in ["", "%", "50", "101%", "-1%", "+1%", "1.5%", "50 %", "300%"] {
            assert_eq!(percent(text), None, "{text:?}");
        }
    }
}
