//! Values as the code has them, and as people read them.

use std::time::Duration;

use super::read;

/// The value of a constant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Amount {
    Number(u64),
    Time(Duration),
}

/// The value of the constant `name` in the file at `path`.
#[track_caller]
pub(super) fn constant(path: &str, name: &str) -> Amount {
    let text = read(path);
    let head = format!("const {name}:");
    let found = text.split_once(&head).and_then(|(_, rest)| rest.split_once(';'));
    let Some((declared, _)) = found else { panic!("{path} has no constant {name}") };
    let (_, value) = declared.split_once('=').unwrap();
    evaluate(value).unwrap_or_else(|| panic!("{path}: {name} is {value}, which is not understood"))
}

/// Whole numbers with `*` and `<<`, and durations of them.
fn evaluate(text: &str) -> Option<Amount> {
    let text = text.trim();
    let made = |of: &str| text.strip_prefix(of)?.strip_suffix(')').and_then(number);
    if let Some(seconds) = made("Duration::from_secs(") {
        return Some(Amount::Time(Duration::from_secs(seconds)));
    }
    if let Some(millis) = made("Duration::from_millis(") {
        return Some(Amount::Time(Duration::from_millis(millis)));
    }
    number(text).map(Amount::Number)
}

fn number(text: &str) -> Option<u64> {
    text.split('*').try_fold(1, |product: u64, factor| {
        let mut shifts = factor.split("<<");
        let read = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
        let first = shifts.next().and_then(read)?;
        let shifted = shifts.try_fold(first, |value, by| Some(value << read(by)?))?;
        product.checked_mul(shifted)
    })
}

/// A time of the code.
#[track_caller]
pub(super) fn time_of(path: &str, name: &str) -> String {
    match constant(path, name) {
        Amount::Time(found) => time(found),
        Amount::Number(_) => panic!("{path}: {name} is no time"),
    }
}

/// A number of the code.
#[track_caller]
pub(super) fn count_of(path: &str, name: &str) -> String {
    count(number_of(path, name))
}

/// A number of bytes of the code.
#[track_caller]
pub(super) fn bytes_of(path: &str, name: &str) -> String {
    bytes(number_of(path, name))
}

#[track_caller]
pub(super) fn number_of(path: &str, name: &str) -> u64 {
    match constant(path, name) {
        Amount::Number(found) => found,
        Amount::Time(_) => panic!("{path}: {name} is no number"),
    }
}

/// Such as `30 s`.
pub(super) fn time(found: Duration) -> String {
    let (millis, seconds) = (found.as_millis(), found.as_secs());
    match seconds {
        _ if !millis.is_multiple_of(1000) => format!("{millis} ms"),
        day if day > 86_400 && day.is_multiple_of(86_400) => format!("{} days", day / 86_400),
        hour if hour >= 3600 && hour.is_multiple_of(3600) => format!("{} h", hour / 3600),
        minute if minute > 60 && minute.is_multiple_of(60) => format!("{} min", minute / 60),
        _ => format!("{seconds} s"),
    }
}

/// Such as `64 KiB`.
pub(super) fn bytes(found: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| found >= *unit && found.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{} {name}", found / unit),
        None => format!("{} bytes", count(found)),
    }
}

/// Such as `16,384`.
pub(super) fn count(found: u64) -> String {
    let digits = found.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn values_are_read_and_written_as_they_are() {
    let seconds = |seconds| Some(Amount::Time(Duration::from_secs(seconds)));
    assert_eq!(evaluate(" 1_000 "), Some(Amount::Number(1000)));
    assert_eq!(evaluate("16 * 1024"), Some(Amount::Number(16_384)));
    assert_eq!(evaluate("256 << 20"), Some(Amount::Number(268_435_456)));
    assert_eq!(evaluate("Duration::from_secs(24 * 3600)"), seconds(86_400));
    assert_eq!(evaluate("OTHER / 10"), None);
    let shown = [time(Duration::from_millis(2500)), time(Duration::from_secs(60))];
    assert_eq!(shown, ["2500 ms", "60 s"]);
    let shown = [300, 3600, 86_400, 30 * 86_400].map(|s| time(Duration::from_secs(s)));
    assert_eq!(shown, ["5 min", "1 h", "24 h", "30 days"]);
    assert_eq!([bytes(107), bytes(65_536), bytes(1 << 30)], ["107 bytes", "64 KiB", "1 GiB"]);
    assert_eq!([count(7), count(1000), count(1_048_576)], ["7", "1,000", "1,048,576"]);
}
