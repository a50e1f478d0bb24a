//! The annotations of ingress-nginx that are known: what each asks for, and what does it here.

/// An annotation, or a family of them.
pub(super) struct Known {
    /// The name behind the prefix; one asterisk at its begin or end stands for anything.
    pub(super) name: &'static str,
    /// What a value asks for.
    pub(super) asks: fn(&str) -> Asks,
    /// What does the same here: a member of a RouteOverride, or a few words; empty for nothing.
    pub(super) instead: &'static str,
}

/// What an annotation asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asks {
    /// For what is done anyway.
    Nothing,
    /// For something without which it is served otherwise, but to nobody else.
    Tunes,
    /// For something without which it must not be served.
    Closes,
}

/// The first entry that `name`, written without the prefix, fits; None for one that nobody knows.
pub(super) fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| match (known.name.strip_prefix('*'), known.name.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(begin)) => name.starts_with(begin),
        (None, None) => name == known.name,
    })
}

fn closes(_: &str) -> Asks {
    Asks::Closes
}

fn tunes(_: &str) -> Asks {
    Asks::Tunes
}

fn closes_unless_off(value: &str) -> Asks {
    if is_off(value) { Asks::Nothing } else { Asks::Closes }
}

fn tunes_unless_off(value: &str) -> Asks {
    if is_off(value) { Asks::Nothing } else { Asks::Tunes }
}

fn closes_unless_empty(value: &str) -> Asks {
    if value.trim().is_empty() { Asks::Nothing } else { Asks::Closes }
}

/// No limit is none; what is no number may have been meant for one.
fn closes_above_zero(value: &str) -> Asks {
    match value.trim().parse::<i64>() {
        Ok(..=0) => Asks::Nothing,
        Ok(_) | Err(_) => Asks::Closes,
    }
}

/// A list with both of these lets everybody pass; cert-manager writes it for its challenges.
fn closes_unless_everybody(value: &str) -> Asks {
    let has = |network: &str| value.split(',').any(|written| written.trim() == network);
    if has("0.0.0.0/0") && has("::/0") { Asks::Nothing } else { Asks::Closes }
}

/// What is meant to be encrypted must not go in clear, and a misspelt value may have meant that.
fn closes_unless_in_clear(value: &str) -> Asks {
    match value.trim().to_ascii_uppercase().as_str() {
        "" | "HTTP" => Asks::Nothing,
        "GRPC" | "AUTO_HTTP" => Asks::Tunes,
        _ => Asks::Closes,
    }
}

/// The texts that ingress-nginx reads as false.
fn is_off(value: &str) -> bool {
    ["0", "f", "false"].iter().any(|off| value.trim().eq_ignore_ascii_case(off))
}

const fn row(name: &'static str, asks: fn(&str) -> Asks, instead: &'static str) -> Known {
    Known { name, asks, instead }
}

/// The first that fits counts.
pub(super) const KNOWN: &[Known] = &[
    // Who may come.
    row("auth-realm", tunes, "auth.basic.realm"),
    row("auth-type", closes, "auth.basic"),
    row("auth-secret", closes, "auth.basic.secretRef"),
    row("auth-secret-type", closes, "auth.basic.secretRef"),
    row("auth-url", closes, "auth.external"),
    row(AUTH_TLS, closes, "the annotation kubeng.io/client-certificates"),
    row("allowlist-source-range", closes_unless_everybody, "access.allow"),
    row("whitelist-source-range", closes_unless_everybody, "access.allow"),
    row("denylist-source-range", closes_unless_empty, "access.deny"),
    row("satisfy", closes, "access and auth, which must both be passed"),
    // How much.
    row("limit-rps", closes_above_zero, "limits.rate"),
    row("limit-rpm", closes_above_zero, "limits.rate"),
    row("limit-connections", closes_above_zero, "limits.concurrency"),
    row("limit-allowlist", closes, "limits.rate.exempt"),
    row("limit-whitelist", closes, "limits.rate.exempt"),
    row("limit-burst-multiplier", tunes, "limits.rate.burst"),
    row("limit-rate", tunes, ""),
    row("limit-rate-after", tunes, ""),
    row("global-rate-limit", closes_above_zero, "limits.rate with scope: fleet"),
    row("global-rate-limit*", closes, "limits.rate with scope: fleet"),
    // Text of nginx, and what looks into requests.
    row("enable-modsecurity", closes_unless_off, ""),
    row("enable-owasp-core-rules", closes_unless_off, ""),
    row("lua-resty-waf*", closes, ""),
    row("modsecurity*", closes, ""),
    row("*-snippet", closes, "the member that does what the lines did"),
    row("auth-*", tunes, "auth.external"),
    // Where requests go.
    row("permanent-redirect", closes_unless_empty, "redirect"),
    row("temporal-redirect", closes_unless_empty, "redirect"),
    row("permanent-redirect-code", tunes, "redirect.status"),
    row("temporal-redirect-code", tunes, "redirect.status"),
    row("ssl-passthrough", closes_unless_off, "a listener that passes TLS through"),
    row(
        "backend-protocol",
        closes_unless_in_clear,
        "an Upstream with tls; appProtocol of the Service",
    ),
    row(CANARY, closes_unless_off, "canary, or backends"),
    row("canary-*", tunes, "canary"),
    row(USE_REGEX, tunes_unless_off, "rewrite.path.regex; paths without regular expressions"),
    row(REWRITE_TARGET, tunes, "rewrite.path"),
    row("app-root", tunes, "redirect"),
    row("ssl-redirect", tunes_unless_off, "redirect: {scheme: https, status: 308}"),
    row("force-ssl-redirect", tunes_unless_off, "redirect: {scheme: https, status: 308}"),
    row("from-to-www-redirect", tunes_unless_off, "a rule for the other host, and redirect"),
    row("server-alias", tunes, "a rule for each host"),
    row("upstream-vhost", tunes, "rewrite.host"),
    row("x-forwarded-prefix", tunes, "headers.request"),
    row("mirror-*", tunes, "mirror"),
    // How backends are spoken to.
    row("proxy-connect-timeout", tunes, "timeouts.connect"),
    row("proxy-read-timeout", tunes, "timeouts.idle"),
    row("proxy-send-timeout", tunes, "timeouts.idle"),
    row("proxy-next-upstream*", tunes, "retry"),
    row("proxy-ssl-*", tunes, "tls of an Upstream"),
    row("load-balance", tunes, "balance"),
    row("upstream-hash-by*", tunes, "balance"),
    row("affinity*", tunes, "affinity"),
    row("session-cookie-*", tunes, "affinity"),
    row("service-upstream", tunes_unless_off, ""),
    // Bodies, headers, pages.
    row("proxy-body-size", tunes, "limits.requestBody"),
    row("proxy-request-buffering", tunes, "buffering.requests"),
    row("proxy-buffering", tunes, "buffering.answers"),
    row("enable-cors", tunes_unless_off, "cors"),
    row("cors-*", tunes, "cors"),
    row("custom-headers", tunes, "headers.response"),
    row("custom-http-errors", tunes, "errorPages"),
    row("default-backend", tunes, "errorPages"),
];

/// Asks clients for certificates; that counts for the whole host.
pub(super) const AUTH_TLS: &str = "auth-tls-*";
/// Makes an Ingress a second backend of another one.
pub(super) const CANARY: &str = "canary";
/// Makes paths regular expressions.
pub(super) const USE_REGEX: &str = "use-regex";
/// Makes them so, too.
pub(super) const REWRITE_TARGET: &str = "rewrite-target";
