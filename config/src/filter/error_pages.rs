//! Own pages in the place of errors (ingress-nginx `custom-http-errors`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::headers::FieldValue;
use crate::bounded::{AtMost, Between, TextAtMost};
use crate::name::BackendId;

/// Answers errors, those of Backends and our own, with pages of the Route.
///
/// Where a Backend gives its error without a body, the connection of an HTTP/1 client ends behind
/// the page.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ErrorPages {
    /// At most 32; the first that names a status counts.
    pub pages: AtMost<ErrorPage, 32>,
}

impl ErrorPages {
    /// The page for `status`, if there is one.
    #[must_use]
    pub fn of(&self, status: u16) -> Option<&ErrorPage> {
        let status = u64::from(status);
        self.pages.iter().find(|page| page.statuses.iter().any(|one| one.get() == status))
    }
}

/// The page of some statuses. The status itself stays.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ErrorPage {
    /// The statuses; at most 64.
    pub statuses: AtMost<Between<400, 599>, 64>,
    /// Where the page comes from.
    pub from: PageSource,
}

/// Where a page comes from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum PageSource {
    /// It is written here; at most 64 KiB.
    Inline {
        /// Its media type.
        content_type: FieldValue,
        /// It.
        body: Arc<TextAtMost<65_536>>,
    },
    /// A Backend makes it. It is asked with `X-Code`, `X-Format`, `X-Original-URI` and
    /// `X-Request-ID`; its answer, at most 256 KiB within 2 s, is the page. Without one the answer
    /// is plain; there is no page for an error of a page.
    Backend(BackendId),
}
