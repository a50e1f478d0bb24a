//! Answering browsers that ask whether a page of another origin may read (Fetch standard).

use std::fmt::Display;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use kubeng_config::filter::cors::{Cors, Names, OriginMatch};

use super::{Step, Target};
use crate::reply::Reply;
use crate::request::{Extra, Fields};

/// What the answer says about the origin that asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// Whether another origin would get another answer.
    varies: bool,
    /// The value of `Access-Control-Allow-Origin`; None where the origin is not meant.
    origin: Option<HeaderValue>,
    has_credentials: bool,
    expose: Option<HeaderValue>,
}

/// Answers a preflight request; notes what other answers have to say.
pub(crate) fn on_request(cors: &Cors, target: &Target<'_>, extra: &mut Extra) -> Step {
    let origin = target.headers.get(header::ORIGIN);
    let is_any = cors.allow_origins.contains(&OriginMatch::Any);
    let allowed = origin.filter(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        !origin.is_empty() && cors.allow_origins.iter().any(|one| one.accepts(origin))
    });
    let is_same_for_all = is_any && !cors.allow_credentials;
    let echoed = allowed
        .map(|origin| if is_same_for_all { HeaderValue::from_static("*") } else { origin.clone() });
    let asked = target.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let is_preflight = *target.method == Method::OPTIONS && origin.is_some();
    let answer = Answer {
        varies: !is_same_for_all,
        has_credentials: cors.allow_credentials && echoed.is_some(),
        expose: names(&cors.expose_headers).filter(|_| echoed.is_some()),
        origin: echoed,
    };
    let reply = asked.filter(|_| is_preflight).map(|asked| {
        let mut reply = Reply::of(StatusCode::NO_CONTENT);
        if answer.origin.is_some() {
            preflight(cors, asked, target, &mut reply);
        }
        reply
    });
    extra.cors = Some(answer);
    reply.map_or(Step::Pass, Step::Reply)
}

fn preflight(cors: &Cors, asked: &HeaderValue, target: &Target<'_>, reply: &mut Reply) {
    // With credentials `*` is no wildcard but a name, so what was asked for is said instead.
    let or_asked = |all: Option<HeaderValue>, asked: Option<&HeaderValue>| match all {
        Some(all) if all == "*" && cors.allow_credentials => asked.cloned(),
        all => all,
    };
    let asked_headers = target.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let fields = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, or_asked(names(&cors.allow_methods), Some(asked))),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, or_asked(names(&cors.allow_headers), asked_headers)),
        (header::ACCESS_CONTROL_MAX_AGE, Some(HeaderValue::from(cors.max_age_seconds.get()))),
    ];
    for (name, value) in fields {
        reply.fields.extend(value.map(|value| (name, value)));
    }
}

/// A list of names as one value; None for an empty one.
fn names<T: Display, const MAX: usize>(names: &Names<T, MAX>) -> Option<HeaderValue> {
    match names {
        Names::All => Some(HeaderValue::from_static("*")),
        Names::These(names) if names.is_empty() => None,
        Names::These(names) => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            HeaderValue::from_str(&names.join(", ")).ok()
        }
    }
}

/// Says on an answer what `answer` is; what a Backend said is taken out.
pub(crate) fn on_response(answer: &Answer, to: &mut impl Fields) {
    let Answer { varies, origin, has_credentials, expose } = answer;
    for name in &SAID {
        to.remove(name);
    }
    if let Some(origin) = origin {
        to.set(&header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    if *has_credentials {
        to.set(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(expose) = expose {
        to.set(&header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
    }
    if *varies {
        super::vary(to, "Origin");
    }
}

/// What a Backend says about origins.
const SAID: [HeaderName; 3] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::filter::tests::{AskedFor, fields};

    /// What comes back to a request with `headers`: the fields of the answer.
    #[track_caller]
    fn check(cors: &str, method: Method, headers: &[(&'static str, &str)], expected: &[&str]) {
        let cors: Cors = serde_json::from_str(cors).unwrap();
        let asked = AskedFor { method, ..AskedFor::new(headers) };
        let mut extra = Extra::default();
        let step = asked.with(|target| on_request(&cors, target, &mut extra));
        let mut answer = HeaderMap::new();
        let is_answered = match step {
            Step::Reply(reply) => {
                answer.extend(reply.fields);
                true
            }
            Step::Pass => {
                answer.insert("access-control-allow-origin", "backend".parse().unwrap());
                false
            }
            Step::Ask(_) => panic!("nothing is asked"),
        };
        on_response(&extra.cors.unwrap(), &mut answer);
        let mut got = fields(&answer);
        got.insert(0, if is_answered { "answered" } else { "forwarded" }.to_owned());
        assert_eq!(got, expected, "{cors:?} {headers:?}");
    }

    #[test]
    fn who_is_meant_is_told_what_it_may() {
        let one = r#"{"allowOrigins":["https://a.example"],"allowMethods":{"these":["PUT"]},
            "allowHeaders":{"these":["x-a"]},"exposeHeaders":{"these":["x-b"]},"maxAgeSeconds":9}"#;
        let origin = ("origin", "https://a.example");
        let asks = ("access-control-request-method", "PUT");
        let exposed = "access-control-expose-headers: x-b";
        let allowed = "access-control-allow-origin: https://a.example";
        check(one, Method::GET, &[origin], &["forwarded", allowed, exposed, "vary: Origin"]);
        check(
            one,
            Method::OPTIONS,
            &[origin, asks],
            &[
                "answered",
                "access-control-allow-headers: x-a",
                "access-control-allow-methods: PUT",
                allowed,
                exposed,
                "access-control-max-age: 9",
                "vary: Origin",
            ],
        );
        let other = ("origin", "https://b.example");
        check(one, Method::OPTIONS, &[other, asks], &["answered", "vary: Origin"]);
        check(one, Method::GET, &[other], &["forwarded", "vary: Origin"]);
        check(one, Method::GET, &[], &["forwarded", "vary: Origin"]);
        // Without a method to ask for it is an ordinary request.
        check(one, Method::OPTIONS, &[origin], &["forwarded", allowed, exposed, "vary: Origin"]);
    }

    #[test]
    fn a_wildcard_is_spelled_out_where_credentials_travel() {
        let any = r#"{"allowOrigins":["*"],"allowMethods":"all","allowHeaders":"all"}"#;
        let with = r#"{"allowOrigins":["*"],"allowMethods":"all","allowHeaders":"all",
            "allowCredentials":true}"#;
        let asked = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-a, x-b"),
        ];
        check(
            any,
            Method::OPTIONS,
            &asked,
            &[
                "answered",
                "access-control-allow-headers: *",
                "access-control-allow-methods: *",
                "access-control-allow-origin: *",
                "access-control-max-age: 5",
            ],
        );
        check(
            with,
            Method::OPTIONS,
            &asked,
            &[
                "answered",
                "access-control-allow-credentials: true",
                "access-control-allow-headers: x-a, x-b",
                "access-control-allow-methods: PUT",
                "access-control-allow-origin: https://a.example",
                "access-control-max-age: 5",
                "vary: Origin",
            ],
        );
    }
}
