//! Making answers smaller on their way to the client.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version};
use kubeng_config::filter::compression::{Coding, Compression};

use super::vary;
use crate::request::Fields;

/// What of the request decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) method: &'a Method,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

/// Compresses one answer as it comes.
pub(crate) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Br(_) => "Br",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Encoder {
    fn new(coding: Coding, level: u32) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level))),
            Coding::Br => {
                let window = 19;
                let inner = brotli::CompressorWriter::new(Vec::new(), 4096, level, window);
                Self::Br(Box::new(inner))
            }
            Coding::Zstd => {
                let level = i32::try_from(level).unwrap_or(3);
                Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), level)?)
            }
        })
    }

    /// What goes out for what came in. Nothing is held back, so that a stream stays a stream.
    ///
    /// # Errors
    /// When the library fails; the answer cannot be saved then.
    pub(crate) fn encode(&mut self, part: &[u8]) -> io::Result<Bytes> {
        if part.is_empty() {
            return Ok(Bytes::new());
        }
        let out = match self {
            Self::Gzip(to) => {
                to.write_all(part)?;
                to.flush()?;
                to.get_mut()
            }
            Self::Br(to) => {
                to.write_all(part)?;
                to.flush()?;
                to.get_mut()
            }
            Self::Zstd(to) => {
                to.write_all(part)?;
                to.flush()?;
                to.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    /// What goes out at the end.
    ///
    /// # Errors
    /// When the library fails.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(to) => to.finish()?,
            Self::Br(to) => to.into_inner(),
            Self::Zstd(to) => to.finish()?,
        };
        Ok(out.into())
    }
}

/// Decides about an answer, and says so in its headers.
pub(crate) fn on_response(
    compression: &Compression,
    asking: Asking<'_>,
    status: StatusCode,
    to: &mut impl Fields,
) -> Option<Encoder> {
    if !is_compressible(compression, status, to.fields()) {
        return None;
    }
    // Another client would get another answer.
    vary(to, "Accept-Encoding");
    if *asking.method == Method::HEAD || asking.version == Version::HTTP_10 {
        return None;
    }
    let coding = accepted(&compression.codings, asking.headers)?;
    let level = u32::try_from(compression.level.get()).unwrap_or(4);
    let encoder = Encoder::new(coding, level).ok()?;
    to.remove(&header::CONTENT_LENGTH);
    to.remove(&header::ACCEPT_RANGES);
    to.set(&header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    weaken_etag(to);
    Some(encoder)
}

fn is_compressible(compression: &Compression, status: StatusCode, headers: &HeaderMap) -> bool {
    let has_body = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
        );
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<u64>().ok());
    let is_kept = headers.get_all(header::CACHE_CONTROL).iter().any(|field| {
        let directives = field.to_str().unwrap_or_default().split(',');
        directives.map(str::trim).any(|one| one.eq_ignore_ascii_case("no-transform"))
    });
    has_body
        && !is_kept
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && length.is_none_or(|length| length > 0 && length >= compression.bytes_min.get())
        && is_of_type(compression, headers)
}

fn is_of_type(compression: &Compression, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    !kind.is_empty()
        && compression.types.iter().any(|one| match one.as_str().strip_suffix("/*") {
            Some(group) => {
                kind.split_once('/').is_some_and(|(of_kind, _)| of_kind.eq_ignore_ascii_case(group))
            }
            None => one.as_str().eq_ignore_ascii_case(kind),
        })
}

/// The coding that a client likes best; of those it likes equally the first that is offered.
fn accepted(offered: &[Coding], headers: &HeaderMap) -> Option<Coding> {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let members: Vec<(&str, u32)> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(weighed)
        .take(MEMBERS_MAX)
        .collect();
    let weight = |coding: Coding| {
        let of = |name: &str| {
            members.iter().find(|(member, _)| member.eq_ignore_ascii_case(name)).map(|one| one.1)
        };
        of(coding.as_str()).or_else(|| of("*")).unwrap_or(0)
    };
    let best = offered.iter().map(|&coding| weight(coding)).max().filter(|&best| best > 0)?;
    offered.iter().copied().find(|&coding| weight(coding) == best)
}

/// A member of `Accept-Encoding` with its weight in thousandths (RFC 9110 section 12.4.2).
fn weighed(member: &str) -> (&str, u32) {
    let mut parts = member.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok());
    let weight = weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0);
    // From 0 to 1,000: nothing is lost that could be written.
    (name, (weight * 1000.0).round() as u32)
}

/// Other bytes are not what a strong tag stands for (RFC 9110 section 8.8.1).
fn weaken_etag(to: &mut impl Fields) {
    let weak = to.fields().get(header::ETAG).and_then(|tag| {
        let tag = tag.as_bytes();
        if tag.starts_with(b"W/") {
            return None;
        }
        HeaderValue::from_bytes(&[b"W/", tag].concat()).ok()
    });
    if let Some(weak) = weak {
        to.set(&header::ETAG, weak);
    }
}

/// More members are not looked at.
const MEMBERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::filter::tests::fields;

    #[track_caller]
    fn check(accept: &str, expected: Option<Coding>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, accept.parse().unwrap());
        let offered = [Coding::Zstd, Coding::Br, Coding::Gzip];
        assert_eq!(accepted(&offered, &headers), expected, "{accept}");
    }

    #[test]
    fn the_client_chooses_and_then_the_order() {
        check("gzip", Some(Coding::Gzip));
        check("gzip, deflate, br, zstd", Some(Coding::Zstd));
        check("gzip;q=1.0, br;q=0.5", Some(Coding::Gzip));
        check("GZIP;Q=0.5, br;q=0", Some(Coding::Gzip));
        check("*", Some(Coding::Zstd));
        check("*;q=0.1, zstd;q=0", Some(Coding::Br));
        check("identity", None);
        check("", None);
        check("gzip;q=0", None);
        check("gzip;q=x", None);
        check("gzip;q=nan", None);
    }

    #[track_caller]
    fn check_answer(status: u16, answer: &[(&'static str, &str)], expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for (name, value) in answer {
            headers.append(*name, value.parse().unwrap());
        }
        let mut request = HeaderMap::new();
        request.insert(header::ACCEPT_ENCODING, "br".parse().unwrap());
        let asking = Asking { method: &Method::GET, version: Version::HTTP_11, headers: &request };
        let status = StatusCode::from_u16(status).unwrap();
        let encoder = on_response(&Compression::default(), asking, status, &mut headers);
        assert_eq!(
            encoder.is_some(),
            headers.contains_key("content-encoding")
                && expected.iter().any(|line| line.contains("br"))
        );
        assert_eq!(fields(&headers), expected);
    }

    #[test]
    fn only_what_gains_by_it_is_compressed() {
        let html = ("content-type", "text/html; charset=utf-8");
        let kind = "content-type: text/html; charset=utf-8";
        check_answer(
            200,
            &[html, ("content-length", "5000"), ("etag", "\"a\""), ("vary", "Origin")],
            &[
                "content-encoding: br",
                kind,
                "etag: W/\"a\"",
                "vary: Origin",
                "vary: Accept-Encoding",
            ],
        );
        check_answer(404, &[html], &["content-encoding: br", kind, "vary: Accept-Encoding"]);
        check_answer(200, &[html, ("content-length", "9")], &["content-length: 9", kind]);
        check_answer(206, &[html], &[kind]);
        check_answer(304, &[html], &[kind]);
        check_answer(200, &[html, ("content-encoding", "gzip")], &["content-encoding: gzip", kind]);
        check_answer(
            200,
            &[html, ("cache-control", "max-age=1, No-Transform")],
            &["cache-control: max-age=1, No-Transform", kind],
        );
        check_answer(200, &[("content-type", "image/png")], &["content-type: image/png"]);
        check_answer(200, &[], &[]);
    }

    #[test]
    fn every_part_can_be_read_as_soon_as_it_is_out() {
        let text = b"It was the best of times, it was the worst of times. ".repeat(50);
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            let mut encoder = Encoder::new(coding, 4).unwrap();
            let mut out = encoder.encode(&text).unwrap().to_vec();
            assert!(!out.is_empty() && out.len() < text.len() / 4, "{coding:?} {}", out.len());
            out.extend_from_slice(&encoder.encode(b"more").unwrap());
            out.extend_from_slice(&encoder.finish().unwrap());
            let mut read = Vec::new();
            match coding {
                Coding::Gzip => {
                    flate2::read::GzDecoder::new(&*out).read_to_end(&mut read).unwrap();
                }
                Coding::Br => {
                    brotli::Decompressor::new(&*out, 4096).read_to_end(&mut read).unwrap();
                }
                Coding::Zstd => read = zstd::decode_all(&*out).unwrap(),
            }
            assert_eq!(read, [&text[..], b"more"].concat(), "{coding:?}");
        }
    }
}
