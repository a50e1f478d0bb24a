//! `buffering`, `mirror` and `compression`: what is done with bodies.

use serde::Deserialize;

use super::reference::BackendRef;
use super::scalar::{Bytes, Percent, Span};
use crate::bounded::{AtMost, Between, TextAtMost};
use crate::filter::compression::Coding;

/// Bodies in memory; see [`Buffering`](crate::filter::buffering::Buffering).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BufferingPatch {
    /// The largest request that is read whole, at most 16 MiB; absent: none is.
    pub requests: Option<Bytes>,
    /// How much of an answer is read ahead, at most 16 MiB; absent or 0: nothing is.
    pub answers: Option<Bytes>,
}

/// A Backend that gets copies; see [`Mirror`](crate::filter::mirror::Mirror).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MirrorPatch {
    /// Who gets them; needed.
    pub backend: Option<BackendRef>,
    /// How many requests are copied; absent: all.
    pub percent: Option<Percent>,
    /// The largest body that is copied, at most 1 MiB.
    pub body_max: Option<Bytes>,
    /// How long a copy may take, at most a minute.
    pub timeout: Option<Span>,
}

/// Smaller answers; see [`Compression`](crate::filter::compression::Compression).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CompressionPatch {
    /// What is offered, the best first.
    pub codings: Option<AtMost<Coding, 3>>,
    /// Media types.
    pub types: Option<AtMost<TextAtMost<128>, 64>>,
    /// The smallest body, at most 1 MiB.
    pub min_size: Option<Bytes>,
    /// How hard it tries.
    pub level: Option<Between<1, 9>>,
}
