//! Numbers and lists that carry their limits in their type.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Between<const MIN: u64, const MAX: u64>(u64);

/// Why a number was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{number} is not between {min} and {max}")]
pub struct BetweenError {
    number: u64,
    min: u64,
    max: u64,
}

impl<const MIN: u64, const MAX: u64> Between<MIN, MAX> {
    /// The smallest one.
    pub const SMALLEST: Self = Self(MIN);

    /// Takes `number`.
    ///
    /// # Errors
    /// When it is out of range.
    pub const fn new(number: u64) -> Result<Self, BetweenError> {
        if number < MIN || number > MAX {
            return Err(BetweenError { number, min: MIN, max: MAX });
        }
        Ok(Self(number))
    }

    /// `number`, moved into the range where it is out of it.
    #[must_use]
    pub const fn clamped(number: u64) -> Self {
        if number < MIN {
            Self(MIN)
        } else if number > MAX {
            Self(MAX)
        } else {
            Self(number)
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a length.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Debug for Between<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Between<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Between<MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Between<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// A list of at most `MAX` entries.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct AtMost<T, const MAX: usize>(Vec<T>);

/// Why a list was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{count} entries are more than {max}")]
pub struct AtMostError {
    count: usize,
    max: usize,
}

impl<T, const MAX: usize> AtMost<T, MAX> {
    /// Takes `entries`.
    ///
    /// # Errors
    /// When there are more than `MAX`.
    pub fn new(entries: Vec<T>) -> Result<Self, AtMostError> {
        if entries.len() > MAX {
            return Err(AtMostError { count: entries.len(), max: MAX });
        }
        Ok(Self(entries))
    }
}

impl<T, const MAX: usize> Default for AtMost<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for AtMost<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// A text of at most `MAX` bytes.
#[derive(Clone, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct TextAtMost<const MAX: usize>(String);

impl<const MAX: usize> TextAtMost<MAX> {
    /// Takes `text`.
    ///
    /// # Errors
    /// When it is longer than `MAX` bytes.
    pub fn new(text: String) -> Result<Self, AtMostError> {
        if text.len() > MAX {
            return Err(AtMostError { count: text.len(), max: MAX });
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for TextAtMost<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for TextAtMost<MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(from)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused() {
        let read = |text: &str| serde_json::from_str::<Between<2, 4>>(text);
        assert_eq!(read("2").unwrap().get(), 2);
        assert_eq!(read("4").unwrap().get(), 4);
        for text in ["1", "5", "-1", "2.5", "\"2\""] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(Between::<2, 4>::clamped(9).get(), 4);
        assert_eq!(Between::<2, 4>::clamped(0).get(), 2);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(serde_json::from_str::<AtMost<u8, 2>>("[1,2]").is_ok());
        assert!(serde_json::from_str::<AtMost<u8, 2>>("[1,2,3]").is_err());
        assert!(serde_json::from_str::<TextAtMost<2>>("\"ab\"").is_ok());
        assert!(serde_json::from_str::<TextAtMost<2>>("\"abc\"").is_err());
    }
}
