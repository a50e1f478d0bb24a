//! Sending a copy of requests to another Backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use kubeng_config::filter::mirror::Mirror;

use super::{Step, Target};
use crate::backend::CompiledBackend;
use crate::errand::Errand;
use crate::forward;
use crate::request::Extra;

/// Which requests are copied: evenly spread, and exactly as many as asked for.
#[derive(Debug, Default)]
pub(crate) struct Share(AtomicU64);

impl Share {
    /// Whether it is the turn of this request: `copied` of every `of` are.
    fn takes(&self, copied: u64, of: u64) -> bool {
        let turn = u128::from(self.0.fetch_add(1, Ordering::Relaxed));
        let (copied, of) = (u128::from(copied.min(of)), u128::from(of));
        (turn + 1) * copied / of > turn * copied / of
    }
}

/// A copy that is being made.
#[derive(Debug)]
pub(crate) struct Copy {
    backend: Arc<CompiledBackend>,
    timeout: Duration,
    body: BytesMut,
    body_bytes_max: usize,
    is_too_large: bool,
    /// What the Backend of the request gets, once that is known.
    head: Option<Head>,
}

#[derive(Debug)]
struct Head {
    method: Method,
    target: String,
    host: Option<HeaderValue>,
    headers: HeaderMap,
}

impl Copy {
    /// Notes the head as it goes to the Backend of the request.
    pub(crate) fn head(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap) {
        let mut copied = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            let is_framing = *name == header::CONTENT_LENGTH || *name == header::HOST;
            if !is_framing && !forward::is_of_connection(name) {
                copied.append(name.clone(), value.clone());
            }
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        // Towards a Backend of HTTP/2 it stands in the target.
        let of_target =
            || HeaderValue::from_str(uri.authority().map_or("", |authority| authority.as_str()));
        let host = headers.get(header::HOST).cloned().or_else(|| of_target().ok());
        self.head = Some(Head { method: method.clone(), target, host, headers: copied });
    }

    /// The request is sent again from its start.
    pub(crate) fn restart(&mut self) {
        self.body.clear();
        self.is_too_large = false;
    }

    /// Takes a part of the body.
    pub(crate) fn take(&mut self, part: &[u8]) {
        if self.is_too_large || self.body.len() + part.len() > self.body_bytes_max {
            self.is_too_large = true;
            self.body = BytesMut::new();
            return;
        }
        self.body.extend_from_slice(part);
    }

    /// The whole copy; None where it is too large. Half a request would be another request.
    pub(crate) fn finish(self) -> Option<Errand> {
        let Self { backend, timeout, body, body_bytes_max: _, is_too_large, head } = self;
        let Head { method, target, host, headers } = head.filter(|_| !is_too_large)?;
        let body: Bytes = body.freeze();
        Some(Errand {
            backend,
            method,
            target,
            host,
            headers,
            body,
            timeout,
            answer_bytes_max: ANSWER_BYTES_MAX,
        })
    }
}

/// Begins a copy where it is the turn of this request.
pub(crate) fn on_request(
    mirror: &Mirror,
    share: &Share,
    backend: Option<&Arc<CompiledBackend>>,
    target: &Target<'_>,
    extra: &mut Extra,
) -> Step {
    let is_turn = !target.is_upgrade && share.takes(mirror.copied.get(), mirror.of.get());
    if let (true, Some(backend)) = (is_turn, backend) {
        extra.mirrors.push(Copy {
            backend: backend.clone(),
            timeout: Duration::from_millis(mirror.timeout_millis.get()),
            body: BytesMut::new(),
            body_bytes_max: mirror.body_bytes_max.as_usize(),
            is_too_large: false,
            head: None,
        });
    }
    Step::Pass
}

/// Of an answer that nobody reads, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(copied: u64, of: u64, expected: &str) {
        let share = Share::default();
        let turns = (0..expected.len()).map(|_| share.takes(copied, of));
        let turns: String = turns.map(|takes| if takes { 'x' } else { '.' }).collect();
        assert_eq!(turns, expected, "{copied} of {of}");
    }

    #[test]
    fn exactly_the_share_is_copied() {
        check(1, 1, "xxxx");
        check(1, 4, "...x...x");
        check(3, 4, ".xxx.xxx");
        check(2, 5, "..x.x..x.x");
        check(9, 3, "xxx");
    }
}
