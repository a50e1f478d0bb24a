//! Asking somebody else whether a request may pass.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use kubeng_config::editable::EditableName;
use kubeng_config::filter::external_auth::{AskMethod, ExternalAuth, IfUnanswered};
use tokio::sync::Semaphore;

use super::{Question, Step, Target, Told};
use crate::backend::CompiledBackend;
use crate::errand::{Errand, Fetched};
use crate::forward;
use crate::reply::{Page, Reply};
use crate::request::{Extra, RequestEdit};

/// A question, and the turnstile that it has to pass.
#[derive(Debug)]
pub(crate) struct Inquiry {
    pub(crate) errand: Errand,
    /// How many may be on their way; no room is no answer.
    pub(crate) gate: Arc<Semaphore>,
}

/// Asks about every request.
pub(crate) fn on_request(
    auth: &ExternalAuth,
    gate: &Arc<Semaphore>,
    backend: Option<&Arc<CompiledBackend>>,
    target: &Target<'_>,
) -> Step {
    // A Snapshot has no dangling references, so it is there.
    let Some(backend) = backend else { return Step::status(StatusCode::SERVICE_UNAVAILABLE) };
    let mut path = auth.path.as_str().to_owned();
    if auth.append_path {
        path.truncate(path.trim_end_matches('/').len());
        path.push_str(target.path);
    }
    let own_host = auth.host.as_ref().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    let errand = Errand {
        backend: backend.clone(),
        method: match auth.method {
            AskMethod::Get => Method::GET,
            AskMethod::Head => Method::HEAD,
        },
        target: path,
        host: own_host.or_else(|| target.host.cloned()),
        headers: about(auth, target),
        body: Bytes::new(),
        timeout: Duration::from_millis(auth.timeout_millis.get()),
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    Step::Ask(Question::Permission(Box::new(Inquiry { errand, gate: gate.clone() })))
}

/// What is told about the request: credentials, what is configured, and what it asks for.
fn about(auth: &ExternalAuth, target: &Target<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let passed_on = auth.request_headers.iter().map(EditableName::name);
    for name in [header::AUTHORIZATION, header::COOKIE].iter().chain(passed_on) {
        if !headers.contains_key(name) && !forward::is_of_connection(name) {
            for value in target.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    let scheme = target.scheme.name();
    let host = target.host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let query = target.query.map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("{}{query}", target.path);
    let client = forward::client_address(target.facts, target.headers)
        .and_then(|client| HeaderValue::from_str(&client.to_string()).ok())
        .unwrap_or_else(|| target.facts.client_text.clone());
    let texts = [
        (ORIGINAL_URL, format!("{scheme}://{host}{uri}")),
        (ORIGINAL_URI, uri.clone()),
        (AUTH_REQUEST_REDIRECT, uri.clone()),
        (FORWARDED_URI, uri),
        (ORIGINAL_METHOD, target.method.to_string()),
        (FORWARDED_METHOD, target.method.to_string()),
        (FORWARDED_PROTO, scheme.to_owned()),
        (FORWARDED_HOST, host.to_owned()),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    headers.insert(FORWARDED_FOR, client.clone());
    headers.insert(REAL_IP, client);
    headers
}

/// Goes on with the answer.
pub(crate) fn resume(auth: &ExternalAuth, told: Told, extra: &mut Extra) -> Step {
    let Told::Permission(fetched) = told else {
        return Step::status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    // Whatever the answer is, only it may set these.
    let copied = auth.copy_headers.iter().map(EditableName::name);
    extra.edits.extend(copied.clone().cloned().map(RequestEdit::Remove));
    let Some(fetched) = fetched else { return unanswered(auth) };
    if fetched.status.is_success() {
        for name in copied {
            let values = fetched.headers.get_all(name).iter().cloned();
            extra.edits.extend(values.map(|value| RequestEdit::Add(name.clone(), value)));
        }
        return Step::Pass;
    }
    let is_answer = fetched.status.is_redirection()
        || matches!(fetched.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if is_answer { Step::Reply(refusal(auth, fetched)) } else { unanswered(auth) }
}

fn unanswered(auth: &ExternalAuth) -> Step {
    match auth.if_unanswered {
        IfUnanswered::Refuse => Step::status(StatusCode::SERVICE_UNAVAILABLE),
        IfUnanswered::Pass => Step::Pass,
    }
}

fn refusal(auth: &ExternalAuth, fetched: Fetched) -> Reply {
    let Fetched { status, headers, body } = fetched;
    let mut reply = Reply::of(status);
    let configured = auth.answer_headers.iter().map(|name| &name.0);
    let mut told: Vec<&HeaderName> = Vec::new();
    for name in ALWAYS_TOLD.iter().chain(configured) {
        if told.contains(&name) || forward::is_of_connection(name) || *name == header::CONTENT_TYPE
        {
            continue;
        }
        told.push(name);
        let values = headers.get_all(name).iter().cloned();
        reply.fields.extend(values.map(|value| (name.clone(), value)));
    }
    if !body.is_empty() {
        let kind = headers.get(header::CONTENT_TYPE).cloned();
        let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
        reply.page = Some(Page { kind, bytes: body });
    }
    reply
}

const ALWAYS_TOLD: [HeaderName; 3] =
    [header::LOCATION, header::WWW_AUTHENTICATE, header::SET_COOKIE];
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// The body of a refusal.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(more: &str) -> ExternalAuth {
        let text = format!(
            r#"{{"backend":"Service/a/b:80","path":"/check","copyHeaders":["x-user"]{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> Option<Fetched> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Some(Fetched { status, headers, body: Bytes::from_static(b"body") })
    }

    /// The status of the answer, None for a request that passes, and the edits.
    fn go(more: &str, fetched: Option<Fetched>) -> (Option<u16>, Vec<RequestEdit>) {
        let mut extra = Extra::default();
        let step = resume(&auth(more), Told::Permission(fetched), &mut extra);
        let status = match step {
            Step::Pass => None,
            Step::Reply(reply) => Some(reply.status.as_u16()),
            Step::Ask(_) => panic!("nothing is asked"),
        };
        (status, extra.edits)
    }

    #[test]
    fn only_a_yes_lets_a_request_pass() {
        let removed = || vec![RequestEdit::Remove("x-user".parse().unwrap())];
        let user = RequestEdit::Add("x-user".parse().unwrap(), "ann".parse().unwrap());
        let with_user = [("x-user", "ann"), ("x-other", "1")];
        assert_eq!(go("", answer(200, &with_user)), (None, [removed(), vec![user]].concat()));
        assert_eq!(go("", answer(204, &[])), (None, removed()));
        for status in [301, 302, 401, 403] {
            assert_eq!(go("", answer(status, &with_user)), (Some(status), removed()));
        }
        for status in [400, 404, 429, 500, 503] {
            assert_eq!(go("", answer(status, &[])), (Some(503), removed()), "{status}");
        }
        assert_eq!(go("", None), (Some(503), removed()));
        assert_eq!(go(r#","ifUnanswered":"pass""#, None), (None, removed()));
        assert_eq!(go(r#","ifUnanswered":"pass""#, answer(500, &[])).0, None);
        assert_eq!(go(r#","ifUnanswered":"pass""#, answer(403, &[])).0, Some(403));
    }

    #[test]
    fn a_refusal_tells_what_it_may() {
        let fields = [
            ("location", "/login"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-why", "because"),
            ("x-inner", "secret"),
            ("connection", "close"),
            ("content-type", "text/x"),
        ];
        let auth = auth(r#","answerHeaders":["x-why","connection","location"]"#);
        let reply = refusal(&auth, answer(302, &fields).unwrap());
        let names: Vec<&str> = reply.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["location", "set-cookie", "set-cookie", "x-why"]);
        assert_eq!(reply.page.unwrap().kind, "text/x");
    }
}
