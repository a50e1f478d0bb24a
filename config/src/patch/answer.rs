//! `cors`, `errorPages`, `requestId` and `maintenance`: what clients are told.

use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use super::reference::BackendRef;
use super::scalar::Span;
use crate::bounded::{AtMost, Between, TextAtMost};
use crate::editable::EditableName;
use crate::filter::cors::{Names, OriginMatch};
use crate::filter::headers::FieldValue;
use crate::matching::{FieldName, MethodName};

/// What pages of other origins may do; see [`Cors`](crate::filter::cors::Cors).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CorsPatch {
    /// Origins whose pages may read; needed.
    pub origins: Option<AtMost<OriginMatch, 64>>,
    /// Methods beside GET, HEAD and POST, or `*`.
    pub methods: Option<NameList<MethodName, 32>>,
    /// Request headers, or `*`.
    pub headers: Option<NameList<FieldName, 64>>,
    /// Headers of the answer that a page may read, or `*`.
    pub expose_headers: Option<NameList<FieldName, 64>>,
    /// Whether requests may carry cookies and logins.
    pub credentials: Option<bool>,
    /// How long a browser may remember the answer.
    pub max_age: Option<Span>,
}

/// Some names, or `["*"]` for all.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Vec<String>", bound(deserialize = "T: FromStr"))]
pub struct NameList<T, const MAX: usize>(pub Names<T, MAX>);

impl<T: FromStr, const MAX: usize> TryFrom<Vec<String>> for NameList<T, MAX> {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        if texts == ["*"] {
            return Ok(Self(Names::All));
        }
        let name = |text: String| {
            let wrong = format!("{text:?} is not a name; * stands alone");
            Some(text).filter(|text| text != "*").and_then(|t| t.parse().ok()).ok_or(wrong)
        };
        let names = texts.into_iter().map(name).collect::<Result<Vec<T>, _>>()?;
        AtMost::new(names).map(Names::These).map(Self).map_err(|error| error.to_string())
    }
}

/// A page in the place of errors.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "ErrorPageOnWire")]
pub struct ErrorPagePatch {
    /// The statuses.
    pub statuses: AtMost<Between<400, 599>, 64>,
    /// Where the page comes from.
    pub from: PageFrom,
}

/// Where a page comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PageFrom {
    /// It is written here.
    Inline {
        /// Its media type.
        content_type: FieldValue,
        /// It.
        body: Arc<TextAtMost<65_536>>,
    },
    /// A Backend makes it.
    Backend(BackendRef),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorPageOnWire {
    statuses: AtMost<Between<400, 599>, 64>,
    content_type: Option<FieldValue>,
    body: Option<Arc<TextAtMost<65_536>>>,
    backend: Option<BackendRef>,
}

impl TryFrom<ErrorPageOnWire> for ErrorPagePatch {
    type Error = &'static str;

    fn try_from(written: ErrorPageOnWire) -> Result<Self, Self::Error> {
        let ErrorPageOnWire { statuses, content_type, body, backend } = written;
        let from = match (body, backend, content_type) {
            (Some(body), None, content_type) => {
                PageFrom::Inline { content_type: content_type.unwrap_or_else(html), body }
            }
            (None, Some(backend), None) => PageFrom::Backend(backend),
            _ => return Err("a page has either a body, with a contentType, or a backend"),
        };
        Ok(Self { statuses, from })
    }
}

/// An id for each request.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RequestIdPatch {
    /// The header; absent: `x-request-id`.
    pub header: Option<EditableName>,
}

/// An answer to everybody, instead of forwarding.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MaintenancePatch {
    /// The status; absent: 503.
    pub status: Option<Between<400, 599>>,
    /// The page; absent: a plain one.
    pub body: Option<Arc<TextAtMost<16_384>>>,
    /// The media type of the page; absent: HTML.
    pub content_type: Option<FieldValue>,
    /// When clients may come again, in whole seconds.
    pub retry_after: Option<Span>,
}

/// The media type of pages whose type is not written.
pub(crate) fn html() -> FieldValue {
    FieldValue(http::HeaderValue::from_static("text/html; charset=utf-8"))
}
