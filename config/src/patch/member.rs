//! The members of a Patch: what each is for, and what becomes of one that cannot be understood.

/// What becomes of a Route where a member cannot be honoured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// It keeps somebody out or limits somebody: the Route is closed.
    Protects,
    /// It does neither: what lower layers say stays.
    Tunes,
}

/// One member of a Patch.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What becomes of the Route where it cannot be honoured.
    pub class: Class,
    /// What may stand there, in a few words.
    pub allowed: &'static str,
}

/// The member called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Member> {
    MEMBERS.iter().find(|member| member.name == name)
}

const fn protects(name: &'static str, allowed: &'static str) -> Member {
    Member { name, class: Class::Protects, allowed }
}

const fn tunes(name: &'static str, allowed: &'static str) -> Member {
    Member { name, class: Class::Tunes, allowed }
}

/// Every member, in the order in which the reference lists them.
pub const MEMBERS: &[Member] = &[
    tunes("timeouts", "request, backendRequest, connect, firstByte, idle, tunnel: durations"),
    tunes("retry", "attempts 0 to 5, on, methods, backoff, backoffMax"),
    protects("limits", "requestBody, responseBody: bytes; rate, concurrency"),
    protects("access", "allow, deny: CIDRs such as 10.0.0.0/8"),
    protects("auth", "basic, jwt, external"),
    tunes("headers", "request, response: set, add (name: value), remove (names)"),
    tunes("rewrite", "host; path: full, prefix, or regex with substitution"),
    tunes("redirect", "scheme, host, port, path, status 301, 302, 303, 307 or 308"),
    protects("cors", "origins, methods, headers, exposeHeaders, credentials, maxAge"),
    tunes("affinity", "cookie, maxAge"),
    tunes("balance", "policy: round-robin, least-requests, peak-ewma or hash; hashOn"),
    tunes("backends", "a list of name, port, weight, disabled"),
    tunes("canary", "backend with name and port, weight in percent, header, cookie"),
    tunes("buffering", "requests, answers: bytes, at most 16Mi"),
    tunes("mirror", "backend with name and port, percent, bodyMax, timeout"),
    tunes("compression", "codings: zstd, br, gzip; types, minSize, level 1 to 9"),
    tunes("errorPages", "a list of statuses with body and contentType, or with a backend"),
    tunes("requestId", "header"),
    tunes("maintenance", "status 400 to 599, body of at most 16 KiB, contentType, retryAfter"),
];

/// Members that the design names and no proxy can carry out, and what does the same. All tune.
pub const ELSEWHERE: &[(&str, &str)] =
    &[("protocol", "write appProtocol at the port of the Service, or protocol in the Upstream")];
