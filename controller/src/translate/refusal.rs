//! Why a Rule cannot be honoured, and Problems made from it.

use kubeng_config::problem::{Code, Problem, Subject};
use kubeng_config::route::{Action, Refusal};

use crate::object::Object;

/// Why something cannot be honoured: a Problem without its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    /// What is wrong, with the value.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) remedy: String,
}

impl Refused {
    pub(crate) fn new(code: Code, message: String, remedy: impl Into<String>) -> Self {
        Self { code, message, remedy: remedy.into() }
    }

    /// The Problem of `object` at `field`.
    pub(crate) fn problem(&self, object: &Object, field: String) -> Problem {
        Problem {
            subject: Subject::Object(object.key.clone()),
            field,
            code: self.code,
            message: self.message.clone(),
            remedy: self.remedy.clone(),
            provenance: Some(object.provenance.clone()),
        }
    }

    /// What a Route does in its place: without it a wider Route would catch its requests.
    ///
    /// The Ingress specification and its conformance tests want 503.
    pub(crate) fn action(&self) -> Action {
        Action::Refuse { status: Refusal::ServiceUnavailable, because: self.code }
    }
}
