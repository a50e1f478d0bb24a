//! The variables of a text format: a closed set, with the names that nginx gave them.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::FormatError;
use crate::record::Record;

/// Declares the variables with their name and what they say.
macro_rules! variables {
    ($($variant:ident, $name:literal, $help:literal;)*) => {
        /// What of a record stands in a line.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(super) enum Variable {
            $(#[doc = $help] $variant,)*
        }

        impl Variable {
            /// All of them, in the order of the documentation.
            pub(super) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub(super) fn help(self) -> &'static str {
                match self {
                    $(Self::$variant => $help,)*
                }
            }
        }
    };
}

variables! {
    RemoteAddr, "remote_addr", "address of the client";
    RemotePort, "remote_port", "port of the client";
    TimeLocal, "time_local", "begin of the request as in `05/Mar/2026:17:03:09 +0000`, in UTC";
    TimeIso, "time_iso8601", "begin of the request in RFC 3339, in UTC";
    Msec, "msec", "end of the request in seconds since 1970, with milliseconds";
    Request, "request", "method, target and protocol";
    RequestMethod, "request_method", "method";
    RequestUri, "request_uri", "path, with the query where it is kept";
    Uri, "uri", "path";
    Args, "args", "query, where it is kept";
    Protocol, "server_protocol", "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`";
    Scheme, "scheme", "`http` or `https`, as the client asked a trusted proxy in front";
    Host, "host", "host that was asked for, in lower case";
    Status, "status", "status of the answer; 499 when the client was gone before";
    BodyBytesSent, "body_bytes_sent", "bytes of the body of the answer";
    RequestBytes, "request_body_bytes", "bytes of the body of the request";
    Referer, "http_referer", "`Referer`, cut to 512 bytes, without query unless queries are kept";
    UserAgent, "http_user_agent", "`User-Agent`, cut to 256 bytes";
    RequestTime, "request_time", "seconds from the head to the end, with milliseconds";
    FirstByteTime, "first_byte_time", "seconds until the backend began to answer";
    ConnectTime, "upstream_connect_time", "seconds to open a connection to the backend";
    UpstreamAddr, "upstream_addr", "the last endpoint that was tried";
    SslProtocol, "ssl_protocol", "version of TLS";
    SslCipher, "ssl_cipher", "cipher suite of TLS";
    SslServerName, "ssl_server_name", "name of the TLS handshake";
    RequestId, "request_id", "`X-Request-Id` of the request, cut to 128 bytes";
    TraceId, "trace_id", "trace, where tracing is on";
    SpanId, "span_id", "our span in it";
    Listener, "listener", "listener";
    Namespace, "namespace", "tenant: namespace of the route's object";
    Route, "route", "route";
    Backend, "backend", "backend";
    Tries, "tries", "how many endpoints were tried";
    Reason, "reason", "why we failed the request";
}

impl Variable {
    /// The variable of this name.
    pub(super) fn of(name: &str) -> Result<Self, FormatError> {
        if let Some(found) = Self::ALL.iter().find(|variable| variable.name() == name) {
            return Ok(*found);
        }
        let near = Self::ALL.iter().map(|variable| variable.name());
        let near = near.map(|other| (strsim::damerau_levenshtein(name, other), other));
        // Further away it is a guess that helps nobody.
        let nearest = near.min().filter(|(far, other)| *far <= other.len() / 2);
        Err(FormatError::Unknown { name: name.to_owned(), nearest: nearest.map(|(_, name)| name) })
    }

    /// Writes what `record` has of it, escaped; `-` when it has none.
    pub(super) fn write(self, record: &Record, out: &mut Vec<u8>) {
        let texts = &record.texts;
        let tls = record.tls.as_ref();
        match self {
            Self::RemoteAddr => show(out, record.client.ip()),
            Self::RemotePort => show(out, record.client.port()),
            Self::TimeLocal => time(out, record.began, "%d/%b/%Y:%H:%M:%S %z"),
            Self::TimeIso => time(out, record.began, "%Y-%m-%dT%H:%M:%SZ"),
            Self::Msec => seconds(out, since_epoch(record.ended())),
            Self::Request => request(out, record),
            Self::RequestMethod => shown(out, record.method.as_ref()),
            Self::RequestUri => {
                text(out, Some(texts.path()));
                query(out, record);
            }
            Self::Uri => text(out, Some(texts.path())),
            Self::Args => text(out, texts.query()),
            Self::Protocol => show(out, format_args!("{:?}", record.version)),
            Self::Scheme => text(out, Some(record.scheme.name())),
            Self::Host => shown(out, record.host.as_ref()),
            Self::Status => show(out, record.status.map_or(499, |status| status.as_u16())),
            Self::BodyBytesSent => show(out, record.body_bytes.1),
            Self::RequestBytes => show(out, record.body_bytes.0),
            Self::Referer => text(out, texts.referer()),
            Self::UserAgent => text(out, texts.user_agent()),
            Self::RequestTime => seconds(out, record.took),
            Self::FirstByteTime => maybe_seconds(out, record.first_byte),
            Self::ConnectTime => maybe_seconds(out, record.connect),
            Self::UpstreamAddr => shown(out, record.endpoint),
            Self::SslProtocol => text(out, tls.and_then(|tls| tls.version_name())),
            Self::SslCipher => text(out, tls.and_then(|tls| tls.cipher_name())),
            Self::SslServerName => text(out, tls.and_then(|tls| tls.server_name.as_deref())),
            Self::RequestId => text(out, texts.request_id()),
            Self::TraceId => shown(out, record.trace.map(|trace| trace.trace_id())),
            Self::SpanId => shown(out, record.trace.map(|trace| trace.span_id())),
            Self::Listener => shown(out, record.listener.as_ref()),
            Self::Namespace => text(out, record.namespace().map(|namespace| &**namespace)),
            Self::Route => text(out, record.route().map(ToString::to_string).as_deref()),
            Self::Backend => shown(out, record.backend.as_ref()),
            Self::Tries => show(out, record.tries),
            Self::Reason => shown(out, record.reason),
        }
    }
}

fn request(out: &mut Vec<u8>, record: &Record) {
    let Some(method) = &record.method else { return out.push(b'-') };
    show(out, format_args!("{method} "));
    text(out, Some(record.texts.path()));
    query(out, record);
    show(out, format_args!(" {:?}", record.version));
}

fn query(out: &mut Vec<u8>, record: &Record) {
    if let Some(query) = record.texts.query() {
        out.push(b'?');
        text(out, Some(query));
    }
}

/// What we wrote ourselves, and has no byte that must be escaped.
fn show(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing into memory cannot fail.
    let _ = write!(out, "{value}");
}

fn shown(out: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => show(out, value),
        None => out.push(b'-'),
    }
}

/// What somebody else wrote: quotes, backslashes, control bytes and all beyond ASCII as `\xHH`, so
/// that no line and no field can be forged.
fn text(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        None | Some("") => out.push(b'-'),
        Some(value) => {
            for &byte in value.as_bytes() {
                if matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f..) {
                    show(out, format_args!("\\x{byte:02X}"));
                } else {
                    out.push(byte);
                }
            }
        }
    }
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn seconds(out: &mut Vec<u8>, duration: Duration) {
    show(out, format_args!("{}.{:03}", duration.as_secs(), duration.subsec_millis()));
}

fn maybe_seconds(out: &mut Vec<u8>, duration: Option<Duration>) {
    match duration {
        Some(duration) => seconds(out, duration),
        None => out.push(b'-'),
    }
}

fn time(out: &mut Vec<u8>, at: SystemTime, format: &str) {
    match Timestamp::try_from(at) {
        Ok(at) => show(out, at.to_zoned(TimeZone::UTC).strftime(format)),
        Err(_) => out.push(b'-'),
    }
}
