//! Reads single fields of an Upstream; what cannot be used is a Problem at its place.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use kubeng_config::problem::{BAD_VALUE, Problem};

use crate::object::Object;
use crate::translate::quantity;
use crate::translate::refusal::Refused;

/// Notes that the value of `field` cannot be used.
pub(super) fn bad(
    object: &Object,
    field: &str,
    message: String,
    remedy: &str,
    problems: &mut Vec<Problem>,
) {
    let refused = Refused::new(BAD_VALUE, message, remedy);
    problems.push(refused.problem(object, field.to_owned()));
}

/// A whole number of `range`; what is not keeps its default, for it only tunes.
pub(super) fn number<T: TryFrom<i64> + PartialOrd + Display>(
    object: &Object,
    field: &str,
    written: Option<i64>,
    range: RangeInclusive<T>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let written = written?;
    let usable = T::try_from(written).ok().filter(|number| range.contains(number));
    if usable.is_none() {
        let message = format!("{written} is out of range; the default is used");
        let remedy = format!("write {} to {}", range.start(), range.end());
        bad(object, field, message, &remedy, problems);
    }
    usable
}

/// A duration of `range`; what is none keeps its default, for it only tunes.
pub(super) fn duration(
    object: &Object,
    field: &str,
    written: Option<&str>,
    range: RangeInclusive<Duration>,
    problems: &mut Vec<Problem>,
) -> Option<Duration> {
    let written = written?;
    let read = quantity::duration(written);
    let usable = read.filter(|duration| range.contains(duration));
    if usable.is_none() {
        let what = if read.is_some() { "is out of range" } else { "is no duration" };
        let message = format!("{written:?} {what}; the default is used");
        let (from, to) = (quantity::shown(*range.start()), quantity::shown(*range.end()));
        let remedy = format!("write {from} to {to}, such as 30s, 500ms or 1m30s");
        bad(object, field, message, &remedy, problems);
    }
    usable
}

/// A percentage of `range`; what is none keeps its default, for it only tunes.
pub(super) fn percent(
    object: &Object,
    field: &str,
    written: Option<&str>,
    range: RangeInclusive<u8>,
    problems: &mut Vec<Problem>,
) -> Option<u8> {
    let written = written?;
    let usable = quantity::percent(written).filter(|percent| range.contains(percent));
    if usable.is_none() {
        let message = format!("{written:?} is no percentage in range; the default is used");
        let remedy = format!("write a whole one, \"{}%\" to \"{}%\"", range.start(), range.end());
        bad(object, field, message, &remedy, problems);
    }
    usable
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
