//! Own pages in the place of errors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use kubeng_config::filter::error_pages::{ErrorPages, PageSource};

use crate::backend::CompiledBackend;
use crate::errand::{Errand, Fetched};
use crate::reply::Page;
use crate::request::Fields;

/// The page that is written for `status`, or who makes it.
pub(crate) fn source(errors: &ErrorPages, status: StatusCode) -> Option<&PageSource> {
    errors.of(status.as_u16()).map(|page| &page.from)
}

/// A page that is written.
pub(crate) fn inline(content_type: &HeaderValue, body: &str) -> Page {
    Page { kind: content_type.clone(), bytes: Bytes::copy_from_slice(body.as_bytes()) }
}

/// What is told to a Backend that makes pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) status: StatusCode,
    /// What the client asked for, path and query.
    pub(crate) uri: &'a str,
    pub(crate) host: Option<&'a HeaderValue>,
    pub(crate) accept: Option<&'a HeaderValue>,
    pub(crate) request_id: Option<&'a HeaderValue>,
}

/// The question to a Backend that makes pages.
pub(crate) fn errand(backend: Arc<CompiledBackend>, told: Told<'_>) -> Errand {
    let Told { status, uri, host, accept, request_id } = told;
    let mut headers = HeaderMap::new();
    headers.insert(CODE, status.as_u16().into());
    let format = accept.cloned().unwrap_or_else(|| HeaderValue::from_static("*/*"));
    headers.insert(header::ACCEPT, format.clone());
    headers.insert(FORMAT, format);
    if let Ok(uri) = HeaderValue::from_str(uri) {
        headers.insert(ORIGINAL_URI, uri);
    }
    if let Some(id) = request_id {
        headers.insert(REQUEST_ID, id.clone());
    }
    Errand {
        backend,
        method: Method::GET,
        target: "/".to_owned(),
        host: host.cloned(),
        headers,
        body: Bytes::new(),
        timeout: PAGE_WITHIN,
        answer_bytes_max: PAGE_BYTES_MAX,
    }
}

/// The page that came, whatever status it came with: such Backends repeat the one they were told.
pub(crate) fn page(fetched: Fetched) -> Option<Page> {
    let Fetched { status: _, headers, body } = fetched;
    if body.is_empty() || headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    let kind = headers.get(header::CONTENT_TYPE).cloned();
    Some(Page { kind: kind.unwrap_or_else(|| HeaderValue::from_static("text/html")), bytes: body })
}

/// Puts `page` in the place of the body that `headers` belong to; gives its bytes.
pub(crate) fn put_in(page: Page, headers: &mut impl Fields) -> Bytes {
    let Page { kind, bytes } = page;
    for name in &OF_BODY {
        headers.remove(name);
    }
    headers.set(&header::CONTENT_TYPE, kind);
    headers.set(&header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    bytes
}

/// What a head says of its body.
const OF_BODY: [HeaderName; 7] = [
    header::TRANSFER_ENCODING,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::LAST_MODIFIED,
    header::CONTENT_LANGUAGE,
];
const CODE: HeaderName = HeaderName::from_static("x-code");
const FORMAT: HeaderName = HeaderName::from_static("x-format");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PAGE_WITHIN: Duration = Duration::from_secs(2);
const PAGE_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_that_names_a_status_counts() {
        let errors: ErrorPages = serde_json::from_str(
            r#"{"pages":[
                {"statuses":[404],"from":{"inline":{"contentType":"text/plain","body":"a"}}},
                {"statuses":[404,503],"from":{"backend":"Service/a/b:80"}}]}"#,
        )
        .unwrap();
        let found = |status| source(&errors, StatusCode::from_u16(status).unwrap());
        assert!(matches!(found(404), Some(PageSource::Inline { .. })));
        assert!(matches!(found(503), Some(PageSource::Backend(_))));
        assert!(found(500).is_none());
        assert!(found(200).is_none());
    }
}
