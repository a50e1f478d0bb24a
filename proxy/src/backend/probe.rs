//! What an Endpoint was found to be when it was asked.

use std::sync::atomic::{AtomicBool, Ordering};

/// What the last questions said about one Endpoint. Until it was found unwell it counts as well.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    is_unwell: AtomicBool,
}

impl Verdict {
    /// Whether it was found unwell.
    pub(crate) fn is_unwell(&self) -> bool {
        self.is_unwell.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unwell(&self, is_unwell: bool) {
        self.is_unwell.store(is_unwell, Ordering::Relaxed);
    }
}
