//! Position: how far every source had been read when a Snapshot was made.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How far each source had been read, by its name. Numbers of one source can be compared with each
/// other only: the resource version of an API server, the newest time of change in a folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Position(BTreeMap<Box<str>, u64>);

impl Position {
    /// Notes that `source` has been read up to `at`. It never goes back.
    pub fn advance(&mut self, source: &str, at: u64) {
        let known = self.0.entry(source.into()).or_default();
        *known = at.max(*known);
    }

    /// Whether some source had been read less far than for `other`. A source that only one of the
    /// two knows was added or taken away, which is no way back.
    #[must_use]
    pub fn is_behind(&self, other: &Self) -> bool {
        self.0.iter().any(|(source, at)| other.0.get(source).is_some_and(|there| at < there))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (source, at)) in self.0.iter().enumerate() {
            let space = if nth == 0 { "" } else { " " };
            write!(f, "{space}{source}@{at}")?;
        }
        Ok(())
    }
}

// As text: JSON has no integers beyond 2^53.
impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(source, at)| (source, at.to_string())))
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<Box<str>, String>::deserialize(deserializer)?;
        let read = |(source, text): (Box<str>, String)| match text.parse() {
            Ok(at) => Ok((source, at)),
            Err(_) => Err(de::Error::custom(format!("{text:?} is not a number"))),
        };
        texts.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(of: &[(&str, u64)]) -> Position {
        let mut position = Position::default();
        of.iter().for_each(|(source, at)| position.advance(source, *at));
        position
    }

    #[test]
    fn one_source_that_was_read_less_far_is_behind() {
        let here = position(&[("a", 5), ("b", 5)]);
        assert!(!here.is_behind(&here));
        assert!(position(&[("a", 4), ("b", 9)]).is_behind(&here));
        assert!(!position(&[("a", 5), ("b", 6)]).is_behind(&here));
        assert!(!position(&[("a", 6)]).is_behind(&here), "b was taken away");
        assert!(!Position::default().is_behind(&here));
    }

    #[test]
    fn it_does_not_go_back_and_survives_being_written() {
        let at = position(&[("a", u64::MAX), ("a", 3)]);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(text, format!(r#"{{"a":"{}"}}"#, u64::MAX));
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), at);
        serde_json::from_str::<Position>(r#"{"a":"x"}"#).unwrap_err();
    }
}
