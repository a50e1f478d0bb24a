//! Answering everybody, instead of forwarding.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use kubeng_config::filter::maintenance::Maintenance;

use crate::reply::{Page, Reply};

/// The answer.
pub(crate) fn reply(maintenance: &Maintenance) -> Reply {
    let status = u16::try_from(maintenance.status.get()).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let retry_after = maintenance.retry_after_seconds.map(|seconds| {
        let seconds = u32::try_from(seconds.get()).unwrap_or(u32::MAX);
        (header::RETRY_AFTER, HeaderValue::from(seconds))
    });
    let page = maintenance.page.as_ref().map(|page| Page {
        kind: page.content_type.0.clone(),
        bytes: Bytes::copy_from_slice(page.body.as_str().as_bytes()),
    });
    Reply {
        fields: retry_after.into_iter().collect(),
        page,
        ..Reply::of(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_answered() {
        let read = |text: &str| reply(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"status":503}"#), Reply::of(StatusCode::SERVICE_UNAVAILABLE));
        let written = read(
            r#"{"status":599,"retryAfterSeconds":90,"page":{"contentType":"text/plain","body":"soon"}}"#,
        );
        assert_eq!(written.status.as_u16(), 599);
        assert_eq!(written.fields, [(header::RETRY_AFTER, HeaderValue::from(90))]);
        let page = written.page.unwrap();
        assert_eq!((page.kind.to_str().unwrap(), &page.bytes[..]), ("text/plain", &b"soon"[..]));
    }
}
