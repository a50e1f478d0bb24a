//! Heads over HTTP/2: of requests as they go out, of answers as they are read (RFC 9113 section 8).

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, response};

use crate::engine::direct::answer::{self, Answer, Fault, Framing};
use crate::engine::direct::endpoint::Outgoing;
use crate::engine::direct::strip;
use crate::listener::head::is_token_byte;
use crate::pipeline::answer::is_well_formed;

/// What every try of a request sends first.
#[derive(Debug)]
pub(in crate::engine::direct) struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    pub(in crate::engine::direct) fn of(outgoing: Outgoing<'_>) -> Self {
        let Outgoing { method, target, headers, takes_trailers, is_tls, .. } = outgoing;
        let mut headers = std::mem::take(headers);
        let host = headers.remove(header::HOST);
        // Filters may have put in what there is none of here (section 8.2.2).
        strip(&mut headers);
        if takes_trailers {
            headers.insert(header::TE, const { HeaderValue::from_static("trailers") });
        }
        let scheme = if is_tls { Scheme::HTTPS } else { Scheme::HTTP };
        Self { method: method.clone(), uri: uri(scheme, host.as_ref(), target), headers }
    }

    /// The request for one try.
    pub(super) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Where a request goes. An old client may name no host, and the library wants one.
fn uri(scheme: Scheme, host: Option<&HeaderValue>, target: &str) -> Uri {
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority.unwrap_or(const { Authority::from_static("localhost") }));
    parts.path_and_query =
        PathAndQuery::try_from(target).ok().or(Some(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}

/// An interim answer.
pub(super) fn interim(response: Response<()>) -> Answer {
    let (parts, ()) = response.into_parts();
    let mut headers = parts.headers;
    strip(&mut headers);
    Answer { status: parts.status, headers, framing: Framing::Nothing, can_be_kept: true }
}

/// Reads the head of an answer to a request with `method`, whose stream has ended with it where it
/// `is_end`.
///
/// # Errors
/// See [`Fault`].
pub(super) fn read(
    parts: response::Parts,
    method: &Method,
    is_end: bool,
    takes_trailers: bool,
) -> Result<Answer, Fault> {
    let response::Parts { status, mut headers, .. } = parts;
    // The library takes a quote for a part of a name.
    let are_names = headers.keys().all(|name| name.as_str().bytes().all(is_token_byte));
    if !are_names || !is_well_formed(status, &headers) {
        return Err(Fault::Head);
    }
    let length = answer::length(&mut headers)?;
    strip(&mut headers);
    let has_none = status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || method == Method::HEAD;
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
    let framing = match length {
        _ if has_none => Framing::Nothing,
        // The library holds what comes to the length that was told.
        Some(1..) if is_end => return Err(Fault::Framing),
        _ if is_end => {
            if !takes_trailers {
                headers.insert(header::CONTENT_LENGTH, const { HeaderValue::from_static("0") });
            }
            Framing::Length(0)
        }
        // Trailers may follow, so that its last byte is not the end.
        Some(_) | None if takes_trailers => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    Ok(Answer { status, headers, framing, can_be_kept: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        method: Method,
        status: u16,
        length: Option<&'static str>,
        is_end: bool,
    ) -> (Framing, Framing) {
        let read = |takes_trailers| {
            let (mut parts, ()) = Response::new(()).into_parts();
            parts.status = StatusCode::from_u16(status).unwrap();
            if let Some(length) = length {
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            super::read(parts, &method, is_end, takes_trailers).unwrap().framing
        };
        (read(true), read(false))
    }

    #[test]
    fn the_end_of_an_answer_is_told_to_each_client_as_it_can_be() {
        let nothing = (Framing::Nothing, Framing::Nothing);
        assert_eq!(check(Method::HEAD, 200, Some("5"), true), nothing);
        assert_eq!(check(Method::GET, 304, None, true), nothing);
        assert_eq!(check(Method::GET, 204, None, true), nothing);
        let empty = (Framing::Length(0), Framing::Length(0));
        assert_eq!(check(Method::GET, 200, None, true), empty);
        assert_eq!(check(Method::GET, 200, Some("0"), true), empty);
        let told = (Framing::Chunked, Framing::Length(5));
        assert_eq!(check(Method::GET, 200, Some("5"), false), told);
        assert_eq!(check(Method::GET, 200, None, false), (Framing::Chunked, Framing::Chunked));
    }

    #[test]
    fn an_answer_that_could_be_read_in_two_ways_is_none() {
        let read = |fields: &[(&'static str, &'static str)], is_end| {
            let (mut parts, ()) = Response::new(()).into_parts();
            for (name, value) in fields {
                parts.headers.append(
                    header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_static(value),
                );
            }
            super::read(parts, &Method::GET, is_end, true).map(|answer| answer.framing)
        };
        assert_eq!(read(&[("content-length", "5")], true), Err(Fault::Framing));
        let twice = [("content-length", "5"), ("content-length", "6")];
        assert_eq!(read(&twice, false), Err(Fault::Framing));
        assert_eq!(read(&[("content_length", "5")], false), Err(Fault::Head));
    }

    #[test]
    fn a_request_goes_where_its_host_says() {
        let check = |host: Option<&'static str>, target, expected: &str| {
            let host = host.map(HeaderValue::from_static);
            assert_eq!(uri(Scheme::HTTP, host.as_ref(), target).to_string(), expected);
        };
        check(Some("a.example:81"), "/x?y=z", "http://a.example:81/x?y=z");
        check(Some(""), "/", "http://localhost/");
        check(None, "/", "http://localhost/");
        let all = uri(Scheme::HTTPS, Some(&HeaderValue::from_static("a")), "*");
        assert_eq!(all.path_and_query().unwrap(), "*");
    }
}
