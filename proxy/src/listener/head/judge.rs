//! One strict pass over the lines of a complete head (RFC 9112).

use std::ops::Range;

use bytes::BytesMut;
use kubeng_config::authority::Authority;

use super::nominations::{judge_connection, write_kept};
use crate::limits::Limits;
use crate::listener::body::Chunks;
use crate::listener::connection::Left;
use crate::listener::refusal::Rule;

/// What a head that broke no rule says.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The whole body, before what of it has arrived.
    pub(super) body: Left,
    /// The head in canonical form, where it did not come so.
    pub(super) rewritten: Option<BytesMut>,
}

/// What the lines said, until all have been read.
#[derive(Default)]
struct Seen {
    host: Option<Range<usize>>,
    length: Option<u64>,
    length_lines: usize,
    is_length_canonical: bool,
    is_chunked: bool,
    fields: usize,
    /// Members of `Connection`.
    nominations: usize,
    /// Whether one of them names a field that nobody may make vanish.
    is_protected_nominated: bool,
}

/// Judges `head`, which ends with an empty line and has CR before every LF.
pub(super) fn judge(head: &[u8], limits: &Limits) -> Result<Verdict, Rule> {
    let line_end = memchr::memchr(b'\n', head).ok_or(Rule::RequestLine)?;
    let line = RequestLine::read(head.get(..line_end - 1).unwrap_or_default(), limits)?;
    let mut seen = Seen { is_length_canonical: true, ..Seen::default() };
    let mut at = line_end + 1;
    loop {
        let rest = head.get(at..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest) else { break };
        // CR before LF was checked by the search.
        let field = rest.get(..end - 1).unwrap_or_default();
        if field.is_empty() {
            break;
        }
        read_field(field, at, &mut seen, limits)?;
        at += end + 1;
    }
    let host = seen.host.clone().map(|range| head.get(range).unwrap_or_default());
    if line.version == Version::Http11 && host.is_none() {
        return Err(Rule::Host);
    }
    if seen.is_chunked && (seen.length.is_some() || line.version == Version::Http10) {
        return Err(Rule::CodingAndLength);
    }
    if let Some(authority) = line.authority {
        check_same_host(authority, host)?;
    }
    let body = if seen.is_chunked {
        Left::Chunked(Chunks::new())
    } else {
        Left::Bytes(seen.length.unwrap_or_default())
    };
    let is_canonical = line.authority.is_none()
        && seen.length_lines <= 1
        && seen.is_length_canonical
        && !seen.is_protected_nominated;
    let rewritten = (!is_canonical).then(|| rewrite(head, line_end + 1, &line, &seen));
    Ok(Verdict { body, rewritten })
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    Http10,
    Http11,
}

struct RequestLine<'a> {
    method: &'a [u8],
    /// The target in origin form, or `*`; empty stands for `/`.
    path: &'a [u8],
    /// The authority of an absolute form.
    authority: Option<&'a [u8]>,
    version: Version,
}

impl<'a> RequestLine<'a> {
    fn read(line: &'a [u8], limits: &Limits) -> Result<Self, Rule> {
        let first = memchr::memchr(b' ', line).ok_or(Rule::RequestLine)?;
        let last = memchr::memrchr(b' ', line).ok_or(Rule::RequestLine)?;
        let (Some(method), Some(target), Some(version)) =
            (line.get(..first), line.get(first + 1..last), line.get(last + 1..))
        else {
            return Err(Rule::RequestLine);
        };
        if method.is_empty() || method.len() > METHOD_BYTES_MAX {
            return Err(Rule::Method);
        }
        if !method.iter().all(|&byte| is_token_byte(byte)) {
            return Err(Rule::Method);
        }
        if target.is_empty() || version.is_empty() {
            return Err(Rule::RequestLine);
        }
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] if method != b"PRI" => {
                return Err(Rule::Version);
            }
            _ => return Err(Rule::RequestLine),
        };
        if matches!(method, b"CONNECT" | b"TRACE" | b"TRACK") {
            return Err(Rule::MethodRefused);
        }
        if target.len() > limits.target_bytes_max {
            return Err(Rule::TargetLength);
        }
        if !target.iter().all(|&byte| is_target_byte(byte)) {
            return Err(Rule::TargetByte);
        }
        // Behind the gate a quote is understood in a path only.
        let query = memchr::memchr(b'?', target).and_then(|at| target.get(at..));
        if query.is_some_and(|query| query.contains(&b'"')) {
            return Err(Rule::TargetByte);
        }
        let (authority, path) = split_target(method, target)?;
        Ok(Self { method, path, authority, version })
    }
}

/// The authority of an absolute form, and the target in origin form.
fn split_target<'a>(method: &[u8], target: &'a [u8]) -> Result<(Option<&'a [u8]>, &'a [u8]), Rule> {
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok((None, target));
    }
    let scheme_end = memchr::memmem::find(target, b"://").ok_or(Rule::TargetForm)?;
    let (scheme, rest) = target.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Rule::TargetForm);
    }
    let rest = rest.get(3..).unwrap_or_default();
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || authority.contains(&b'@') {
        return Err(Rule::TargetForm);
    }
    Ok((Some(authority), path))
}

fn check_same_host(authority: &[u8], host: Option<&[u8]>) -> Result<(), Rule> {
    // HTTP/1.0 may have no Host; then the authority stands for it.
    let authority = parse_authority(authority)?;
    match host {
        Some(host) if parse_authority(host)? != authority => Err(Rule::Host),
        Some(_) | None => Ok(()),
    }
}

fn parse_authority(bytes: &[u8]) -> Result<Authority, Rule> {
    let text = std::str::from_utf8(bytes).map_err(|_| Rule::Authority)?;
    Authority::parse(text).map_err(|_| Rule::Authority)
}

/// Whether `host` is so ordinary that nothing behind the gate reads it differently.
///
/// The pipeline parses it all the same; what is odd is parsed here as well, so
/// that the engine never sees what we would refuse.
fn is_plain_host(host: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    host.first().is_some_and(u8::is_ascii_alphanumeric) && host.iter().all(is_plain)
}

fn read_field(field: &[u8], at: usize, seen: &mut Seen, limits: &Limits) -> Result<(), Rule> {
    seen.fields += 1;
    if seen.fields > limits.fields_max {
        return Err(Rule::FieldCount);
    }
    if field.len() > limits.field_bytes_max {
        return Err(Rule::FieldLength);
    }
    if matches!(field.first(), Some(b' ' | b'\t')) {
        return Err(Rule::FoldedLine);
    }
    let colon = field.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(field.len());
    if colon == 0 || field.get(colon) != Some(&b':') {
        return Err(Rule::FieldName);
    }
    let (name, value) = field.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if !value.iter().all(|&byte| is_value_byte(byte)) {
        return Err(Rule::FieldValue);
    }
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => {
            let start = value.iter().take_while(|&&byte| is_space(byte)).count();
            let trimmed = value.trim_ascii();
            if !is_plain_host(trimmed) {
                parse_authority(trimmed)?;
            }
            let from = at + colon + 1 + start;
            if seen.host.replace(from..from + trimmed.len()).is_some() {
                return Err(Rule::Host);
            }
        }
        6 if name.eq_ignore_ascii_case(b"expect")
            && !value.trim_ascii().eq_ignore_ascii_case(b"100-continue") =>
        {
            return Err(Rule::Expect);
        }
        10 if name.eq_ignore_ascii_case(b"connection") => {
            let (count, is_protected) = judge_connection(value, seen.nominations)?;
            seen.nominations = count;
            seen.is_protected_nominated |= is_protected;
        }
        14 if is_read_as(name, b"content-length") => {
            if !name.eq_ignore_ascii_case(b"content-length") {
                return Err(Rule::LookAlike);
            }
            read_length(value.trim_ascii(), seen)?;
        }
        17 if is_read_as(name, b"transfer-encoding") => {
            if !name.eq_ignore_ascii_case(b"transfer-encoding") {
                return Err(Rule::LookAlike);
            }
            read_coding(value.trim_ascii(), seen)?;
        }
        _ => {}
    }
    Ok(())
}

/// Whether somebody who takes `_` and `.` for `-` reads `name` as `as_name`.
fn is_read_as(name: &[u8], as_name: &[u8]) -> bool {
    name.iter().zip(as_name).all(|(&byte, &wanted)| {
        byte.eq_ignore_ascii_case(&wanted) || (wanted == b'-' && matches!(byte, b'_' | b'.'))
    })
}

fn read_length(value: &[u8], seen: &mut Seen) -> Result<(), Rule> {
    seen.length_lines += 1;
    for member in value.split(|&byte| byte == b',') {
        let digits = member.trim_ascii();
        if digits.is_empty() || digits.len() > 40 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Rule::ContentLength);
        }
        let mut length = 0_u64;
        for digit in digits {
            length = length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
                .filter(|&length| i64::try_from(length).is_ok())
                .ok_or(Rule::ContentLength)?;
        }
        if seen.length.replace(length).is_some_and(|before| before != length) {
            return Err(Rule::ContentLength);
        }
        let is_canonical = digits.len() == value.len() && (digits == b"0" || digits[0] != b'0');
        seen.is_length_canonical &= is_canonical;
    }
    Ok(())
}

fn read_coding(value: &[u8], seen: &mut Seen) -> Result<(), Rule> {
    if value.eq_ignore_ascii_case(b"chunked") && !seen.is_chunked {
        seen.is_chunked = true;
        return Ok(());
    }
    let is_one_other = !seen.is_chunked
        && !value.is_empty()
        && !value.eq_ignore_ascii_case(b"identity")
        && value.iter().all(|&byte| is_token_byte(byte));
    Err(if is_one_other { Rule::UnknownCoding } else { Rule::TransferEncoding })
}

/// The same request in origin form and with one canonical length.
fn rewrite(head: &[u8], fields: usize, line: &RequestLine<'_>, seen: &Seen) -> BytesMut {
    let mut out = BytesMut::with_capacity(head.len() + 64);
    out.extend_from_slice(line.method);
    out.extend_from_slice(b" ");
    if !line.path.starts_with(b"/") && line.path != b"*" {
        out.extend_from_slice(b"/");
    }
    out.extend_from_slice(line.path);
    out.extend_from_slice(match line.version {
        Version::Http11 => b" HTTP/1.1\r\n",
        Version::Http10 => b" HTTP/1.0\r\n",
    });
    if let (Some(authority), None) = (line.authority, &seen.host) {
        out.extend_from_slice(b"Host: ");
        out.extend_from_slice(authority);
        out.extend_from_slice(b"\r\n");
    }
    for field in head.get(fields..).unwrap_or_default().split_inclusive(|&byte| byte == b'\n') {
        let colon = memchr::memchr(b':', field).unwrap_or(field.len());
        let (name, value) = field.split_at(colon);
        if seen.is_protected_nominated && name.eq_ignore_ascii_case(b"connection") {
            write_kept(value.get(1..).unwrap_or_default(), &mut out);
        } else if field != b"\r\n" && !name.eq_ignore_ascii_case(b"content-length") {
            out.extend_from_slice(field);
        }
    }
    if let Some(length) = seen.length {
        out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A byte of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// A byte that may stand in a target; `"`, `{`, `}`, `|` and `^` are tolerated as browsers send them.
fn is_target_byte(byte: u8) -> bool {
    TARGET[usize::from(byte)]
}

/// A byte of a field value: tab, space, visible, or 8-bit.
fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let one = byte as u8;
        table[byte] = one.is_ascii_alphanumeric()
            || matches!(
                one,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

const TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7F {
        table[byte] = !matches!(byte, 0x23 | 0x3C | 0x3E | 0x5C | 0x60);
        byte += 1;
    }
    table
};

const METHOD_BYTES_MAX: usize = 32;
