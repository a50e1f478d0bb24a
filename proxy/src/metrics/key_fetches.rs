//! How fetches of published keys have ended.

use super::render::Page;
use super::{Counter, list};

/// How a fetch of keys ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyFetch {
    /// With keys.
    Done,
    /// No Endpoint took the question.
    Unreachable,
    /// It took too long.
    Late,
    /// With another status than 200.
    Status,
    /// With something that is no set of keys.
    Malformed,
}

impl KeyFetch {
    const ALL: [Self; 5] =
        [Self::Done, Self::Unreachable, Self::Late, Self::Status, Self::Malformed];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Unreachable => "unreachable",
            Self::Late => "timeout",
            Self::Status => "status",
            Self::Malformed => "malformed",
        }
    }
}

/// Fetches of all sources, by how they ended.
#[derive(Debug, Default)]
pub(crate) struct KeyFetches([Counter; KeyFetch::ALL.len()]);

impl KeyFetches {
    /// Counts a fetch.
    pub(crate) fn ended(&self, how: KeyFetch) {
        if let Some(counter) = self.0.get(how as usize) {
            counter.add(1);
        }
    }

    pub(super) fn render(&self, page: &mut Page) {
        page.family(&list::KEY_FETCHES);
        for (how, counter) in KeyFetch::ALL.iter().zip(&self.0) {
            page.line(&list::KEY_FETCHES, "", &[("outcome", how.name())], counter.read());
        }
    }
}
