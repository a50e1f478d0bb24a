//! Answering everybody, instead of forwarding.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::headers::FieldValue;
use crate::bounded::{Between, TextAtMost};

/// Answers every request that comes this far; nothing behind it runs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Maintenance {
    /// The status.
    pub status: Between<400, 599>,
    /// The page; absent: a plain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<MaintenancePage>,
    /// When clients may come again, in seconds: `Retry-After`. Absent: nothing is said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<Between<1, 86_400>>,
}

/// A page that is written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MaintenancePage {
    /// Its media type.
    pub content_type: FieldValue,
    /// It; at most 16 KiB.
    pub body: Arc<TextAtMost<16_384>>,
}
