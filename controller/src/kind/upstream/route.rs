//! Routes of an Upstream: in the shape of a rule of a Gateway API HTTPRoute, whose backend it is.

use serde::Deserialize;

/// One entry of `spec.routes` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamRoute {
    /// Its name among the routes of the Upstream.
    pub name: String,
    /// The hosts it is served under.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// The ways in which a request can fit; none means all requests.
    #[serde(default)]
    pub matches: Vec<RouteMatch>,
    /// What edits or answers the request, in order.
    #[serde(default)]
    pub filters: Vec<RouteFilter>,
    /// How long it may take.
    pub timeouts: Option<RouteTimeouts>,
    /// What is tried again.
    pub retry: Option<RouteRetry>,
}

/// `HTTPRouteMatch`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path; absent: every path.
    pub path: Option<RoutePath>,
    /// The headers.
    #[serde(default)]
    pub headers: Vec<RouteText>,
    /// The query parameters.
    #[serde(default)]
    pub query_params: Vec<RouteText>,
    /// The method.
    pub method: Option<String>,
}

/// `HTTPPathMatch`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RoutePath {
    /// `Exact`, `PathPrefix` or `RegularExpression`; absent: `PathPrefix`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The path; absent: `/`.
    pub value: Option<String>,
}

/// `HTTPHeaderMatch` and `HTTPQueryParamMatch`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RouteText {
    /// `Exact` or `RegularExpression`; absent: `Exact`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What is looked at.
    pub name: String,
    /// What it must be.
    pub value: String,
}

/// `HTTPRouteFilter`: the member that its type names.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteFilter {
    /// Which member it has.
    #[serde(rename = "type")]
    pub kind: String,
    /// `RequestHeaderModifier`.
    pub request_header_modifier: Option<RouteHeaders>,
    /// `ResponseHeaderModifier`.
    pub response_header_modifier: Option<RouteHeaders>,
    /// `RequestRedirect`.
    pub request_redirect: Option<RouteRedirect>,
    /// `URLRewrite`.
    pub url_rewrite: Option<RouteRewrite>,
    /// `RequestMirror`.
    pub request_mirror: Option<RouteMirror>,
    /// `CORS`.
    pub cors: Option<Box<RouteCors>>,
}

/// `HTTPHeaderFilter`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RouteHeaders {
    /// Put in the place of what is there.
    #[serde(default)]
    pub set: Vec<RouteField>,
    /// Put beside what is there.
    #[serde(default)]
    pub add: Vec<RouteField>,
    /// Taken away.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// `HTTPHeader`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RouteField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// `HTTPRequestRedirectFilter`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteRedirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<RoutePathEdit>,
    /// The port.
    pub port: Option<i64>,
    /// 301, 302, 303, 307 or 308; absent: 302.
    pub status_code: Option<i64>,
}

/// `HTTPURLRewriteFilter`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteRewrite {
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<RoutePathEdit>,
}

/// `HTTPPathModifier`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RoutePathEdit {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The whole path.
    pub replace_full_path: Option<String>,
    /// What stands in the place of the prefix.
    pub replace_prefix_match: Option<String>,
}

/// `HTTPRequestMirrorFilter`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteMirror {
    /// Where copies go.
    pub backend_ref: RouteBackend,
    /// Of a hundred requests, how many.
    pub percent: Option<i64>,
    /// The same as a fraction.
    pub fraction: Option<RouteFraction>,
}

/// `BackendObjectReference`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RouteBackend {
    /// Empty for a Service, `kubeng.io` for an Upstream.
    pub group: Option<String>,
    /// `Service` or `Upstream`; absent: `Service`.
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Its namespace, which must be that of the Upstream.
    pub namespace: Option<String>,
    /// The port of a Service.
    pub port: Option<i64>,
}

/// `Fraction`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RouteFraction {
    /// How many.
    pub numerator: i64,
    /// Of how many; absent: 100.
    pub denominator: Option<i64>,
}

/// `HTTPCORSFilter`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteCors {
    /// Origins that may read.
    #[serde(default)]
    pub allow_origins: Vec<String>,
    /// Whether with credentials; absent: without.
    pub allow_credentials: Option<bool>,
    /// Methods.
    #[serde(default)]
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    #[serde(default)]
    pub allow_headers: Vec<String>,
    /// Headers of answers.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// How long browsers remember, in seconds; absent: 5.
    pub max_age: Option<i64>,
}

/// `HTTPRouteTimeouts`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteTimeouts {
    /// The whole request with all tries: a duration; 0 for no limit.
    pub request: Option<String>,
    /// One try: a duration; 0 for no limit.
    pub backend_request: Option<String>,
}

/// `HTTPRouteRetry`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RouteRetry {
    /// Statuses that are tried again.
    #[serde(default)]
    pub codes: Vec<i64>,
    /// Tries after the first.
    pub attempts: Option<i64>,
    /// The pause before a retry: a duration.
    pub backoff: Option<String>,
}
