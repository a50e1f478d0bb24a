//! What of a request decides where it goes.

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use percent_encoding::percent_decode_str;

use crate::authority::{Authority, AuthorityError};
use crate::matching::{CookieMatch, HeaderMatch, Match, QueryMatch};
use crate::path::{CanonicalPath, PathError, PathRules};

/// A request as routing sees it, borrowed from whatever holds it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The DNS name in lower case without port; `None` for an address.
    pub host: Option<&'a str>,
    /// The path in canonical form.
    pub path: &'a str,
    /// The query without `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

impl RequestHead<'_> {
    /// Whether all that `wanted` asks of method, headers, cookies and query holds.
    ///
    /// The path is left out: who calls has looked it up already.
    #[must_use]
    pub fn fits(&self, wanted: &Match) -> bool {
        wanted.method.as_ref().is_none_or(|method| method.0 == self.method)
            && wanted.headers.iter().all(|header| self.has_header(header))
            && wanted.cookies.iter().all(|cookie| self.has_cookie(cookie))
            && wanted.query.iter().all(|query| self.has_query(query))
    }

    fn has_cookie(&self, wanted: &CookieMatch) -> bool {
        cookie(self.headers, &wanted.name).is_some_and(|value| wanted.value.accepts(value))
    }

    fn has_header(&self, wanted: &HeaderMatch) -> bool {
        let mut values = self.headers.get_all(&wanted.name.0).iter();
        let Some(Ok(first)) = values.next().map(|value| value.to_str()) else { return false };
        // Several lines of one field are one list (RFC 9110 section 5.2).
        let mut joined = None::<String>;
        for value in values {
            let Ok(value) = value.to_str() else { return false };
            let text = joined.get_or_insert_with(|| first.to_owned());
            text.push(',');
            text.push_str(value);
        }
        wanted.value.accepts(joined.as_deref().unwrap_or(first))
    }

    fn has_query(&self, wanted: &QueryMatch) -> bool {
        let pairs = self.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if query_text(name) == *wanted.name {
                return wanted.value.accepts(&query_text(value));
            }
        }
        false
    }
}

/// The value of a cookie; of several of one name the first (RFC 6265 section 4.2).
///
/// Any bytes may stand beside it; None where the value itself is no UTF-8.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    cookie_bytes(headers, name).and_then(|value| str::from_utf8(value).ok())
}

/// The same as bytes, whatever they are.
#[must_use]
pub fn cookie_bytes<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let mut pairs = lines.flat_map(|line| line.split(|&byte| byte == b';'));
    pairs.find_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (one, value) = pair.split_at(at);
        let is_it = one.trim_ascii() == name.as_bytes();
        is_it.then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

fn query_text(encoded: &str) -> String {
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// A request that somebody asks about: owned, and complete with scheme and port.
#[derive(Clone, Debug)]
pub struct RequestKey {
    /// Whether it comes over TLS, and the port that it is sent to.
    pub scheme: Scheme,
    /// The port; the default one of the scheme if none was written.
    pub port: u16,
    /// The method.
    pub method: Method,
    /// The DNS name in lower case; `None` for an address.
    pub host: Option<String>,
    /// The path in canonical form.
    pub path: CanonicalPath,
    /// The query without `?`.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
}

/// Plain or over TLS.
#[derive(Clone, Copy, Debug, serde::Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// As addresses begin.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where an address names none.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Why a text does not describe a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not `METHOD URL` or `URL`.
    #[error("{text:?} is not METHOD URL, for instance GET https://shop.example.com/cart")]
    Form {
        /// What was given.
        text: String,
    },
    /// The scheme is neither http nor https.
    #[error("{text:?} begins with neither http:// nor https://")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// The host is wrong.
    #[error("the host of {text:?} cannot be read")]
    Host {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: AuthorityError,
    },
    /// The path is wrong; the proxy would answer 400.
    #[error("the path of {text:?} would be refused with 400")]
    Path {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: PathError,
    },
}

impl RequestKey {
    /// Reads `GET https://host/path?query`; the method may be left out.
    ///
    /// # Errors
    /// When there is no such request, or the proxy would refuse it unseen.
    pub fn parse(text: &str, headers: HeaderMap) -> Result<Self, RequestError> {
        let form = || RequestError::Form { text: text.into() };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (method, url) = match words.as_slice() {
            [url] => (Method::GET, *url),
            [method, url] => (method.parse().map_err(|_| form())?, *url),
            _ => return Err(form()),
        };
        let (scheme, default_port) = if url.starts_with("https://") {
            (Scheme::Https, 443)
        } else if url.starts_with("http://") {
            (Scheme::Http, 80)
        } else {
            return Err(RequestError::Scheme { text: text.into() });
        };
        let uri: Uri = url.parse().map_err(|_| form())?;
        let written = match headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
            Some(host) => host,
            None => uri.authority().ok_or_else(form)?.as_str(),
        };
        let authority = Authority::parse(written)
            .map_err(|source| RequestError::Host { text: text.into(), source })?;
        let path = CanonicalPath::parse(uri.path(), PathRules::INGRESS)
            .map_err(|source| RequestError::Path { text: text.into(), source })?;
        Ok(Self {
            scheme,
            port: uri.port_u16().unwrap_or(default_port),
            method,
            host: authority.host.name().map(ToString::to_string),
            path,
            query: uri.query().map(Into::into),
            headers,
        })
    }

    /// The request as routing sees it.
    #[must_use]
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            host: self.host.as_deref(),
            path: self.path.as_str(),
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; ab=2", "b=3=4; a=5;c"] {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        assert_eq!(cookie(&headers, "a"), Some("1"));
        assert_eq!(cookie(&headers, "b"), Some("3=4"));
        assert_eq!(cookie(&headers, "c"), None);
        assert_eq!(cookie(&headers, "A"), None);
        // What stands beside it is somebody else's business.
        headers.append(header::COOKIE, HeaderValue::from_bytes(b"d=\xE4; e = 6 ;f=\xFF").unwrap());
        assert_eq!(cookie(&headers, "e"), Some("6"));
        assert_eq!(
            (cookie(&headers, "d"), cookie_bytes(&headers, "d")),
            (None, Some(&b"\xE4"[..]))
        );
    }
}
