//! Verdicts: what became of each Ingress, for Events and statuses.

use kubeng_config::problem::{
    BACKEND_NOT_FOUND, BAD_AUTHORITIES, BAD_CERTIFICATE, CONFIG_MAP_NOT_FOUND, Code, DUPLICATE,
    NGINX_IGNORED, NGINX_WAIVED, NO_ENDPOINTS, NO_LISTENER, NOT_COVERED, PORT_NOT_FOUND, Problem,
    SECRET_NOT_FOUND, SHADOWED,
};

/// What became of one Ingress.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// It is not ours: its status is never touched.
    Foreign,
    /// It is ours.
    Ours {
        /// What is not served as it was written; empty: it is accepted as it is.
        problems: &'a [Problem],
    },
}

/// What a Problem means for the Rule that it is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// The Rule is refused, or not served at all, until its Object is mended.
    Rejected,
    /// Another Rule takes its requests.
    Shadowed,
    /// Something that it leads to is missing or cannot be used, which heals by itself; or something
    /// of it has no effect.
    Degraded,
    /// It is as somebody has asked for.
    Noted,
}

/// What a Problem of an Ingress means for the Rule that it is about.
#[must_use]
pub fn outcome(code: Code) -> Outcome {
    match code {
        SHADOWED | DUPLICATE => Outcome::Shadowed,
        BACKEND_NOT_FOUND | PORT_NOT_FOUND | CONFIG_MAP_NOT_FOUND | BAD_AUTHORITIES
        | SECRET_NOT_FOUND | BAD_CERTIFICATE | NOT_COVERED | NO_ENDPOINTS | NO_LISTENER
        | NGINX_IGNORED => Outcome::Degraded,
        NGINX_WAIVED => Outcome::Noted,
        _ => Outcome::Rejected,
    }
}
