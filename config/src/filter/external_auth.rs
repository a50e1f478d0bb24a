//! Asking somebody else whether a request may pass (ingress-nginx `auth-url`; Gateway API
//! `HTTPExternalAuthFilter` over HTTP).

use serde::{Deserialize, Serialize};

use crate::bounded::{AtMost, Between};
use crate::editable::EditableName;
use crate::matching::FieldName;
use crate::name::{BackendId, Hostname};
use crate::path::CanonicalPath;

/// Asks a Backend about each request, without its body.
///
/// 2xx lets the request pass. 3xx, 401 and 403 are the answer to the client, with the headers of
/// `answerHeaders`. All else, and silence, is answered with 503 unless `ifUnanswered` says otherwise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExternalAuth {
    /// Whom to ask.
    pub backend: BackendId,
    /// The method.
    #[serde(default)]
    pub method: AskMethod,
    /// What to ask for.
    pub path: CanonicalPath,
    /// Whether the path of the request is put behind `path`.
    #[serde(default)]
    pub append_path: bool,
    /// The host that is asked; absent: that of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Hostname>,
    /// Headers of the request that are passed on beside `Authorization` and `Cookie`; at most 64.
    #[serde(default)]
    pub request_headers: AtMost<EditableName, 64>,
    /// Headers of a positive answer that the request gets; those a client sent are taken out.
    #[serde(default)]
    pub copy_headers: AtMost<EditableName, 64>,
    /// Headers of a negative answer that the client gets beside `Location`, `WWW-Authenticate`,
    /// `Set-Cookie` and `Content-Type`.
    #[serde(default)]
    pub answer_headers: AtMost<FieldName, 64>,
    /// How long the answer may take, in milliseconds. Default: 2,000.
    #[serde(default = "default_timeout")]
    pub timeout_millis: Between<10, 60_000>,
    /// Questions at a time in each replica; what comes above is unanswered. Default: 256.
    #[serde(default = "default_concurrency")]
    pub questions_max: Between<1, 65_536>,
    /// What happens to a request about which there is no answer.
    #[serde(default)]
    pub if_unanswered: IfUnanswered,
}

fn default_timeout() -> Between<10, 60_000> {
    Between::clamped(2_000)
}

fn default_concurrency() -> Between<1, 65_536> {
    Between::clamped(256)
}

/// How it is asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AskMethod {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
}

/// What happens to a request about which there is no answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum IfUnanswered {
    /// It is refused with 503.
    #[default]
    Refuse,
    /// It passes: whoever writes this wants to be reached rather than protected.
    Pass,
}
