//! Making answers smaller on their way to the client.

use serde::{Deserialize, Serialize};

use crate::bounded::{AtMost, Between, TextAtMost};

/// Compresses answers for clients that take it (RFC 9110 section 12.5.3).
///
/// Left alone are answers that are compressed already, are a part of something, say `no-transform`,
/// are shorter than `bytesMin`, or have another type.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Compression {
    /// What is offered; of those that a client likes equally the first. Default: zstd, br, gzip.
    #[serde(default = "default_codings")]
    pub codings: AtMost<Coding, 3>,
    /// Media types that are compressed, as `text/html` or `text/*`. Default: text and its kind.
    #[serde(default = "default_types")]
    pub types: AtMost<TextAtMost<128>, 64>,
    /// The smallest body, in bytes, that is compressed; of unknown length is large. Default: 1,024.
    #[serde(default = "default_bytes_min")]
    pub bytes_min: Between<0, 1_048_576>,
    /// How hard it tries, from 1 to 9; each coding has its own scale. Default: 4.
    #[serde(default = "default_level")]
    pub level: Between<1, 9>,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            codings: default_codings(),
            types: default_types(),
            bytes_min: default_bytes_min(),
            level: default_level(),
        }
    }
}

/// A content coding.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Coding {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `br` (RFC 7932).
    Br,
    /// `zstd` (RFC 8878).
    Zstd,
}

impl Coding {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }
}

fn default_codings() -> AtMost<Coding, 3> {
    AtMost::new(vec![Coding::Zstd, Coding::Br, Coding::Gzip]).unwrap_or_default()
}

fn default_types() -> AtMost<TextAtMost<128>, 64> {
    let types = TYPES.iter().filter_map(|name| TextAtMost::new((*name).to_owned()).ok());
    AtMost::new(types.collect()).unwrap_or_default()
}

fn default_bytes_min() -> Between<0, 1_048_576> {
    Between::clamped(1024)
}

fn default_level() -> Between<1, 9> {
    Between::clamped(4)
}

const TYPES: [&str; 14] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/xml",
    "text/javascript",
    "text/csv",
    "application/javascript",
    "application/json",
    "application/problem+json",
    "application/ld+json",
    "application/xml",
    "application/xhtml+xml",
    "application/wasm",
    "image/svg+xml",
];
