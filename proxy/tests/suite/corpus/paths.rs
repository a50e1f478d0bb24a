//! Spellings of one guarded path. What was matched is what is sent, in one canonical form.

use super::case::*;

pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("path spellings", cases);
    let mut targets: Vec<String> = SPELLINGS.iter().map(|text| (*text).to_owned()).collect();
    for before in ["/x/", "/x/y/", "//", "/%78/", "/x//", "/./", "/x;p/", "/x%3bp/"] {
        for dots in [
            "..",
            ".",
            "%2e%2e",
            "%2E.",
            ".%2e",
            "%252e%252e",
            "..;",
            "..;x",
            "%2e%2e;",
            "..%2f",
            "..%5c",
            "..\\",
            "%c0%ae%c0%ae",
            "..%00",
            "...",
            "%2e",
            ".;",
            "..%09",
            "%u002e%u002e",
            "..%3b",
        ] {
            targets.push(format!("{before}{dots}/admin"));
            targets.push(format!("{before}{dots}/%61dmin/x?q"));
        }
    }
    for byte in 0..=255_u8 {
        targets.push(format!("/a%{byte:02x}b"));
        targets.push(format!("/%{byte:02X}admin"));
        targets.push(format!("/admin%{byte:02x}x"));
    }
    for target in targets {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let verdict = match canonical(&target) {
            Some(canonical) => serves(arrived(&format!("GET {canonical}"), &[], "")),
            None => refused(400),
        };
        class.add(text, verdict);
    }
}

/// The canonical form by the rules, in the slowest way: None is refused.
fn canonical(target: &str) -> Option<String> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (target, String::new()),
    };
    let is_bad = |byte: u8| !byte.is_ascii_graphic() || b"#\\<>`".contains(&byte);
    if path.bytes().any(is_bad) || !path.starts_with('/') {
        return None;
    }
    // Overlong forms of one ASCII character (RFC 3629 section 3).
    let lower = path.to_ascii_lowercase();
    let escaped = |at: usize| lower.get(at..at + 3).filter(|three| three.starts_with('%'));
    for (at, _) in lower.match_indices('%') {
        let is_overlong = match (escaped(at), escaped(at + 3)) {
            (Some("%e0"), Some(next)) => next.starts_with("%8") || next.starts_with("%9"),
            (Some("%f0"), Some(next)) => next.starts_with("%8"),
            _ => false,
        };
        if is_overlong {
            return None;
        }
    }
    let mut text = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        if first != '%' {
            text.push(first);
            rest = &rest[1..];
            continue;
        }
        let digits =
            rest.get(1..3).filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        rest = &rest[3..];
        match byte {
            0 | b'/' | b'\\' | 0xC0 | 0xC1 => return None,
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    let is_dots = |segment: &str| segment == "." || segment == "..";
    let mut segments: Vec<String> = Vec::new();
    let all: Vec<&str> = text[1..].split('/').collect();
    for (number, segment) in all.iter().enumerate() {
        let is_last = number + 1 == all.len();
        if is_dots(segment) && segments.last().is_some_and(|before| before.contains(';')) {
            return None;
        }
        // A parameter of a dot segment hides it from those who do not cut parameters.
        let cut = segment.replace("%3B", ";");
        if cut.split_once(';').is_some_and(|(name, _)| is_dots(name)) {
            return None;
        }
        match *segment {
            ".." => drop(segments.pop()?),
            "." => {}
            "" if !is_last => {}
            other => segments.push(other.to_owned()),
        }
        if is_last && is_dots(segment) {
            segments.push(String::new());
        }
    }
    Some(format!("/{}{query}", segments.join("/")))
}

/// Whether a common Backend takes `target` for something below `/admin`: it decodes once, takes a
/// backslash for a slash, merges slashes and resolves dots.
pub(super) fn reads_as_admin(target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut decoded = Vec::new();
    let bytes = path.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        if let Some(byte) = escaped.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    segments.first() == Some(&"admin")
}

const SPELLINGS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?q",
    "/admin/?q",
    "/Admin",
    "/ADMIN",
    "/adminx",
    "/admin.x",
    "//admin",
    "///admin",
    "/./admin",
    "/.//admin",
    "//./admin",
    "/admin/.",
    "/admin/..",
    "/admin/../x",
    "/admin/./x",
    "/x/../admin",
    "/x/../../admin",
    "/..",
    "/../admin",
    "/../../admin",
    "/%2e%2e/admin",
    "/%61dmin",
    "/a%64min",
    "/%61%64%6d%69%6e",
    "/%2561dmin",
    "/%25%36%31dmin",
    "/admin%2f",
    "/admin%2Fx",
    "/%2fadmin",
    "/%2Fadmin",
    "/x%2f..%2fadmin",
    "/admin%5cx",
    "/%5cadmin",
    "/admin%00",
    "/%00/admin",
    "/admin%0a",
    "/admin%0d%0aX:y",
    "/admin%20",
    "/%20admin",
    "/admin%09",
    "/admin;",
    "/admin;x",
    "/admin;/x",
    "/;/admin",
    "/;x/admin",
    "/x;/../admin",
    "/x;y/../admin",
    "/x/..;/admin",
    "/.;/admin",
    "/%3b/admin",
    "/admin%3b",
    "/admin%3fx",
    "/admin%23x",
    "/admin%",
    "/admin%6",
    "/admin%zz",
    "/admin%u0061",
    "/%c1%a1dmin",
    "/%e0%81%a1dmin",
    "/%c0%af",
    "/%c0%afadmin",
    "/%e0%80%afadmin",
    "/%f0%80%80%afadmin",
    "/%ef%bc%8fadmin",
    "/\u{ff0f}admin",
    "/a",
    "/a/b/c",
    "/a//b",
    "/a/b/",
    "/a/b//",
    "/",
    "//",
    "/.",
    "/./",
    "/x/.",
    "/x/..",
    "/x/../",
    "/...",
    "/....",
    "/x/.../admin",
    "/.admin",
    "/..admin",
    "/admin..",
    "/admin../x",
    "/~admin",
    "/%7eadmin",
    "/%7Eadmin",
    "/admin%7e",
    "/a%2db",
    "/a%5fb",
    "/a%2Eb",
    "/a+b",
    "/a%2bb",
    "/a%2Bb",
    "/a=b",
    "/a%3db",
    "/a&b",
    "/a'b",
    "/a(b)",
    "/a,b",
    "/a!b",
    "/a$b",
    "/a:b",
    "/a@b",
    "/a*b",
    "/a|b",
    "/a^b",
    "/a\"b",
    "/a{b}",
    "/a[b]",
    "/%E4%BD%A0",
    "/%e4%bd%a0",
    "/%ff",
    "/%80",
    "/%fe%ff",
    "/?x=%00",
    "/?/../admin",
    "/?%2fadmin",
    "/x?/admin",
    "/x?../admin",
    "/admin?../x",
    "/x/%2e",
    "/x/%2e%2e",
    "/x/%2e%2e/",
    "/x/.%2e/admin",
];
