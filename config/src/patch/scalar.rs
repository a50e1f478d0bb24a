//! Values that people write with units: durations, sizes, shares.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::name::{NameError, serde_as_text};

/// How long something may take: from a millisecond to a day.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span(Duration);

/// How long something may take at most: `0s` for no limit, or from a millisecond to a day.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Deadline(Option<Duration>);

impl Span {
    /// The duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }

    /// In whole seconds, not less than one.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0.as_secs().max(1)
    }

    /// In milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Deadline {
    /// The duration; `None` for no limit.
    #[must_use]
    pub fn get(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for Span {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = "a duration from 1ms to 24h, such as 15s, 500ms or 1m30s";
        match duration(text) {
            Some(found) if (SHORTEST..=LONGEST).contains(&found) => Ok(Self(found)),
            Some(_) | None => Err(NameError::Form { text: text.into(), form }),
        }
    }
}

impl FromStr for Deadline {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = "a duration from 1ms to 24h such as 15s, or 0s for no limit";
        match duration(text) {
            Some(Duration::ZERO) => Ok(Self(None)),
            Some(found) if found <= LONGEST => Ok(Self(Some(found))),
            Some(_) | None => Err(NameError::Form { text: text.into(), form }),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.unwrap_or_default().as_millis())
    }
}

/// Reads a duration of Gateway API (GEP-2257): up to four numbers of up to five digits with units.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    let mut pieces = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let number: u64 = Some(number).filter(|digits| digits.len() <= 5)?.parse().ok()?;
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let piece = match unit {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        sum += piece;
        pieces += 1;
        rest = behind;
    }
    (1..=4).contains(&pieces).then_some(sum)
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A number of bytes: a whole number, or one with `Ki`, `Mi` or `Gi`. At most 1 TiB.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;

        impl de::Visitor<'_> for Read {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 1048576, 64Ki or 8Mi, at most 1024Gi")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bytes, E> {
                let taken = Some(number).filter(|number| *number <= BYTES_MAX);
                taken
                    .map(Bytes)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
                let with_unit = units
                    .iter()
                    .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
                let (digits, factor) = with_unit.unwrap_or((text, 1_u64));
                let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
                let found = number.and_then(|number| number.checked_mul(factor));
                let taken = found.filter(|number| *number <= BYTES_MAX);
                taken.map(Bytes).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        from.deserialize_any(Read)
    }
}

const BYTES_MAX: u64 = 1 << 40;

/// A share: `0%` to `100%`, with at most two decimals.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Percent {
    hundredths: u32,
}

impl Percent {
    /// Of 10,000.
    #[must_use]
    pub fn of_ten_thousand(self) -> u32 {
        self.hundredths
    }
}

impl FromStr for Percent {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form { text: text.into(), form: "0% to 100%, such as 12.5%" };
        let number = text.strip_suffix('%').ok_or_else(form)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |text: &str, longest: usize| {
            !text.is_empty() && text.len() <= longest && text.bytes().all(|b| b.is_ascii_digit())
        };
        if !is_number(whole, 3) || !is_number(part, 2) {
            return Err(form());
        }
        let decimals: u32 = format!("{part:0<2}").parse().map_err(|_| form())?;
        let hundredths = whole.parse::<u32>().map_err(|_| form())? * 100 + decimals;
        if hundredths > 10_000 { Err(form()) } else { Ok(Self { hundredths }) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.hundredths / 100, self.hundredths % 100)
    }
}

serde_as_text! { Span Deadline Percent }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gateway_api() {
        let millis = |text: &str| text.parse::<Span>().map(|span| span.get().as_millis()).ok();
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("30000ms", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("24h", Some(86_400_000)),
            ("0s", None),
            ("25h", None),
            ("30", None),
            ("1.5s", None),
            ("-1s", None),
            ("123456s", None),
            ("1s1s1s1s1s", None),
            ("", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
        assert_eq!("0s".parse::<Deadline>().unwrap().get(), None);
        assert_eq!("5s".parse::<Deadline>().unwrap().get(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn sizes_have_units_or_none() {
        let bytes = |text: &str| serde_json::from_str::<Bytes>(text).map(Bytes::get).ok();
        for (text, expected) in [
            ("20971520", Some(20_971_520)),
            ("\"20Mi\"", Some(20_971_520)),
            ("\"64Ki\"", Some(65_536)),
            ("\"7\"", Some(7)),
            ("0", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("\"8M\"", None),
            ("\"+8Mi\"", None),
            ("\"2048Gi\"", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn shares_are_of_ten_thousand() {
        let share = |text: &str| text.parse::<Percent>().map(Percent::of_ten_thousand).ok();
        for (text, expected) in [
            ("10%", Some(1000)),
            ("12.5%", Some(1250)),
            ("0.01%", Some(1)),
            ("100%", Some(10_000)),
            ("100.01%", None),
            ("10", None),
            ("1.234%", None),
            (".5%", None),
            ("-1%", None),
        ] {
            assert_eq!(share(text), expected, "{text}");
        }
    }
}
