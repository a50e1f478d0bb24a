//! What an error of the API server means, in words, and what happens next.

use std::error::Error;
use std::time::Duration;

use kubeng_config::problem::{Problem, SOURCE_UNREACHABLE, Subject};

use super::connection::ConnectError;
use super::scope::Scope;

/// Why a watch could not go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The version that was watched from is gone: the kind is listed again.
    Expired,
    /// The server does not have the kind; what to say if it had it before.
    Absent(Problem),
    /// The credentials were refused: they are read again.
    Unknown(Problem),
    /// A right is missing.
    Forbidden(Problem),
    /// Anything else, and how long the server asks to wait.
    Other(Problem, Option<Duration>),
}

/// What was being done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    List,
    Watch,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

impl Failure {
    pub(crate) fn of_client(error: &ConnectError) -> Self {
        let remedy = "name a kubeconfig that can be read; it is tried again by itself";
        Self::Other(problem(chain(error), remedy), None)
    }

    /// An answer, or a watch, that was silent for too long.
    pub(crate) fn silent(scope: &Scope, after: Duration) -> Self {
        let text =
            format!("no answer about {} within {} s", scope.role_resource(), after.as_secs());
        Self::Other(problem(text, "look at the API server and the way to it"), None)
    }

    pub(crate) fn of_request(error: &kube::Error, verb: Verb, scope: &Scope) -> Self {
        if let kube::Error::Api(status) = error {
            Self::of_status(status, verb, scope)
        } else {
            Self::Other(problem(chain(error), REACH_IT), None)
        }
    }

    pub(crate) fn of_status(status: &kube::core::Status, verb: Verb, scope: &Scope) -> Self {
        match status.code {
            410 => Self::Expired,
            // The server was restored from a backup, or is another one.
            504 if status.message.contains("Too large resource version") => Self::Expired,
            404 if scope.may_be_absent() => Self::Absent(problem(
                format!(
                    "the API server does not know {} any more (404): what was last read is served",
                    scope.role_resource()
                ),
                "install its definition again (deploy/crds); if it was removed on purpose, only \
                 wait: its objects go with it after a minute",
            )),
            401 => Self::Unknown(problem(
                "the API server refuses our credentials (401)".to_owned(),
                "renew the token or certificate; it is read again by itself",
            )),
            403 => Self::Forbidden(problem(
                format!("the right to {} {scope} is missing (403)", verb.as_str()),
                &format!(
                    "grant the verb {:?} on {:?} {} (see deploy/rbac.yaml)",
                    verb.as_str(),
                    scope.role_resource(),
                    scope.role_place()
                ),
            )),
            code => {
                let seconds =
                    status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                let wait = (seconds > 0).then(|| Duration::from_secs(u64::from(seconds.min(120))));
                let text = format!(
                    "the API server answers {code} to {} {}: {}",
                    verb.as_str(),
                    scope.role_resource(),
                    status.message
                );
                Self::Other(problem(text, REACH_IT), wait)
            }
        }
    }
}

const REACH_IT: &str = "look at the API server and the way to it; it is tried again by itself";

fn problem(message: String, remedy: &str) -> Problem {
    Problem {
        subject: Subject::Other("kubernetes".to_owned()),
        field: String::new(),
        code: SOURCE_UNREACHABLE,
        message,
        remedy: remedy.to_owned(),
        provenance: None,
    }
}

/// An error and its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
