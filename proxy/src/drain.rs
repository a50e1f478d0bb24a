//! What a drain tells at its end.

/// How a drain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Drained {
    /// Connections that were open when it began, or came late, and ended by themselves.
    pub finished: usize,
    /// Connections that were cut when the time was over.
    pub cut: usize,
}
