//! What is told about one request when it is over: one typed record for whoever wants it.
//!
//! The access log, the ring of recent requests, the keys for planning and the spans all read the
//! same record. It is built at most once, and only if one of them is on. Building it allocates
//! twice: the record, and one text that holds everything that came from the client.

pub(crate) mod json;
pub(crate) mod query;
pub(crate) mod ring;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use kubeng_config::name::{BackendId, Hostname, ListenerId, RouteId};
use kubeng_config::request::Scheme;

use crate::listener::facts::TlsSession;
use crate::metrics::RouteUse;
use crate::reason::Reason;
use crate::sketch::Selected;
use crate::trace::Trace;

/// One request that is over.
#[derive(Debug)]
pub(crate) struct Record {
    /// When its head had been read.
    pub(crate) began: SystemTime,
    /// From then to the last byte of the answer, or the end of the tunnel.
    pub(crate) took: Duration,
    /// From `began` to the head of the Backend's answer.
    pub(crate) first_byte: Option<Duration>,
    /// How long the connection to the Backend took to open; absent over a pooled one.
    pub(crate) connect: Option<Duration>,
    pub(crate) client: SocketAddr,
    pub(crate) version: Version,
    /// How the client itself asked, also behind a proxy that is trusted.
    pub(crate) scheme: Scheme,
    /// Of the connection to us, whoever opened it.
    pub(crate) tls: Option<TlsSession>,
    /// Absent when the head could not be read.
    pub(crate) method: Option<Method>,
    pub(crate) host: Option<Hostname>,
    /// What the client got; None when it was gone before.
    pub(crate) status: Option<StatusCode>,
    /// Why, when the answer is an error of ours or there is none.
    pub(crate) reason: Option<Reason>,
    /// Bytes of the body of the request, and of the answer.
    pub(crate) body_bytes: (u64, u64),
    pub(crate) listener: Option<ListenerId>,
    /// Shared with the Table: the line in the cache that a request touches anyhow.
    pub(crate) route_use: Option<Arc<RouteUse>>,
    pub(crate) backend: Option<BackendId>,
    /// The last Endpoint that was tried.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) tries: u8,
    pub(crate) trace: Option<Trace>,
    pub(crate) texts: Texts,
    /// What Routes of this host match on beside host, path and method.
    pub(crate) selected: Box<[Selected]>,
}

impl Record {
    /// The tenant: the namespace of the Object that holds the Route.
    pub(crate) fn namespace(&self) -> Option<&Arc<str>> {
        self.route().map(|route| &route.object.namespace)
    }

    /// The Route that took it.
    pub(crate) fn route(&self) -> Option<&RouteId> {
        self.route_use.as_ref().map(|route| &route.id)
    }

    /// Whether something went wrong on our side: such records are always logged.
    pub(crate) fn is_failure(&self) -> bool {
        is_failure(self.status, self.reason)
    }

    /// When it was over.
    pub(crate) fn ended(&self) -> SystemTime {
        self.began + self.took
    }

    /// About how many bytes of memory it takes, the allocator's own included.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + ALLOCATION_BYTES + self.texts.all.len() + size_of_val(&*self.selected)
    }
}

/// Whether an answer is worth a line whatever the sampling says.
pub(crate) fn is_failure(status: Option<StatusCode>, reason: Option<Reason>) -> bool {
    status.is_none_or(|status| status.is_server_error()) || reason.is_some_and(Reason::is_ours)
}

/// Texts that the client chose, each cut to its bound, in one allocation.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    all: Box<str>,
    ends: [u16; 5],
}

/// What of the fields of a request is recorded, as it came.
#[derive(Debug, Default)]
pub(crate) struct Quoted {
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    /// Replaced where a Filter gives ids.
    pub(crate) request_id: Option<HeaderValue>,
}

impl Quoted {
    /// Shares the values.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self {
            user_agent: headers.get(&header::USER_AGENT).cloned(),
            referer: headers.get(&header::REFERER).cloned(),
            request_id: headers.get(&X_REQUEST_ID).cloned(),
        }
    }
}

/// Whether query strings are kept: they hold tokens and personal data.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Queries {
    /// Nothing behind `?` is kept, not in the referer either.
    #[default]
    Drop,
    /// As they came, cut to 1 KiB.
    Keep,
}

impl Texts {
    /// The texts of a request.
    pub(crate) fn of(path: &str, query: Option<&str>, quoted: &Quoted, keep: Queries) -> Self {
        let Quoted { user_agent, referer, request_id } = quoted;
        let query = match keep {
            Queries::Drop => None,
            Queries::Keep => query,
        };
        let referer = referer.as_ref().map(HeaderValue::as_bytes).map(|referer| match keep {
            Queries::Drop => referer.split(|byte| b"?#".contains(byte)).next().unwrap_or_default(),
            Queries::Keep => referer,
        });
        Self::join([
            (path.as_bytes(), PATH_BYTES_MAX),
            (query.unwrap_or_default().as_bytes(), PATH_BYTES_MAX),
            (user_agent.as_ref().map(HeaderValue::as_bytes).unwrap_or_default(), 256),
            (referer.unwrap_or_default(), 512),
            (request_id.as_ref().map(HeaderValue::as_bytes).unwrap_or_default(), 128),
        ])
    }

    fn join(parts: [(&[u8], usize); 5]) -> Self {
        let parts = parts.map(|(part, most)| part.get(..most).unwrap_or(part));
        let mut all = String::with_capacity(parts.iter().map(|part| part.len()).sum());
        let ends = parts.map(|part| {
            match std::str::from_utf8(part) {
                Ok(part) if part.is_ascii() => all.push_str(part),
                Ok(_) | Err(_) => all.extend(beyond_ascii(part)),
            }
            // At most three bytes for one: far below the limit of the type.
            u16::try_from(all.len()).unwrap_or(u16::MAX)
        });
        Self { all: all.into_boxed_str(), ends }
    }

    fn part(&self, number: usize) -> &str {
        let end = |number: usize| self.ends.get(number).map_or(0, |&end| usize::from(end));
        let start = number.checked_sub(1).map_or(0, end);
        self.all.get(start..end(number)).unwrap_or_default()
    }

    /// The path as it was sent, without query; empty when it could not be read.
    pub(crate) fn path(&self) -> &str {
        self.part(0)
    }

    /// Where it may be kept and there is one.
    pub(crate) fn query(&self) -> Option<&str> {
        Some(self.part(1)).filter(|text| !text.is_empty())
    }

    pub(crate) fn user_agent(&self) -> Option<&str> {
        Some(self.part(2)).filter(|text| !text.is_empty())
    }

    pub(crate) fn referer(&self) -> Option<&str> {
        Some(self.part(3)).filter(|text| !text.is_empty())
    }

    /// What a Filter gave it, or else what came in `X-Request-Id`.
    pub(crate) fn request_id(&self) -> Option<&str> {
        Some(self.part(4)).filter(|text| !text.is_empty())
    }
}

/// Text beyond ASCII, without the control characters there: some terminals obey them.
fn beyond_ascii(text: &[u8]) -> Vec<char> {
    let is_control = |character: char| matches!(character, '\u{80}'..='\u{9f}');
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if is_control(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A path that is longer is cut in records, and has no key for planning.
pub(crate) const PATH_BYTES_MAX: usize = 1024;
const X_REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");
/// Counters of the `Arc`, and what an allocator adds to three allocations.
const ALLOCATION_BYTES: usize = 64;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of `GET /path` for `host` that was answered with `status`.
    pub(crate) fn record(host: &str, path: &str, status: u16, began: SystemTime) -> Record {
        Record {
            began,
            took: Duration::from_millis(2),
            first_byte: Some(Duration::from_micros(1500)),
            connect: None,
            client: SocketAddr::from(([192, 0, 2, 7], 5000)),
            version: Version::HTTP_11,
            scheme: Scheme::Http,
            tls: None,
            method: Some(Method::GET),
            host: Some(host.parse().unwrap()),
            status: StatusCode::from_u16(status).ok(),
            reason: None,
            body_bytes: (0, 5),
            listener: Some("http".parse().unwrap()),
            route_use: Some(Arc::new(RouteUse::for_tests("Ingress/shop/web#a/"))),
            backend: Some("Service/shop/web:80".parse().unwrap()),
            endpoint: Some(SocketAddr::from(([10, 0, 0, 1], 80))),
            tries: 1,
            trace: None,
            texts: Texts::of(path, None, &Quoted::default(), Queries::Drop),
            selected: Box::default(),
        }
    }

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &[u8])| {
            (header::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn queries_are_kept_only_where_allowed() {
        let headers = headers(&[("referer", b"https://a/b?token=1#x"), ("user-agent", b"ua")]);
        let quoted = Quoted::of(&headers);
        let dropped = Texts::of("/p", Some("token=2"), &quoted, Queries::Drop);
        assert_eq!((dropped.query(), dropped.referer()), (None, Some("https://a/b")));
        let kept = Texts::of("/p", Some("token=2"), &quoted, Queries::Keep);
        assert_eq!(
            (kept.query(), kept.referer()),
            (Some("token=2"), Some("https://a/b?token=1#x"))
        );
        assert_eq!((kept.path(), kept.user_agent(), kept.request_id()), ("/p", Some("ua"), None));
    }

    #[test]
    fn a_record_is_small() {
        // Thousands are kept: whoever adds a field should know.
        let bytes = record("a.example", "/some/path", 200, SystemTime::now()).memory_bytes();
        assert!(bytes <= 640, "{bytes} bytes");
    }

    #[test]
    fn texts_are_cut_and_always_valid() {
        let long = vec![b'a'; 9000];
        let ids = b"\xff\xfe\xc2\x9b\xc3\xa4";
        let headers = headers(&[("user-agent", &long), ("x-request-id", ids)]);
        let path = format!("/{}", "b".repeat(5000));
        let texts = Texts::of(&path, None, &Quoted::of(&headers), Queries::Drop);
        assert_eq!(texts.path().len(), PATH_BYTES_MAX);
        assert_eq!(texts.user_agent().unwrap().len(), 256);
        assert_eq!(texts.request_id(), Some("\u{fffd}\u{fffd}\u{fffd}ä"));
    }
}
