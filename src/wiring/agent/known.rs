//! What is wrong at a replica, each until it is mended.

use kubeng_config::problem::{self, Code, Problem, Subject};
use kubeng_config::statement::Statement;
use kubeng_controller::distribution::NackReason;
use kubeng_proxy::{Unbound, Unresolved};

/// What is wrong at the replica, each until it is mended.
#[derive(Default)]
pub(super) struct Known {
    pub(super) unbound: Vec<Problem>,
    pub(super) rejected: Option<Problem>,
    pub(super) unresolved: Vec<Problem>,
    /// Files that were not loaded at the start.
    pub(super) damaged: Vec<Problem>,
    /// The disk takes nothing.
    pub(super) unwritable: Option<Problem>,
}

impl Known {
    pub(super) fn all(&self) -> Vec<Problem> {
        let Self { unbound, rejected, unresolved, damaged, unwritable } = self;
        let all = unbound.iter().chain(rejected).chain(unresolved).chain(damaged);
        all.chain(unwritable).cloned().collect()
    }
}

pub(super) fn rejected(rejection: &anyhow::Error) -> Problem {
    of_replica(
        problem::REJECTED,
        format!("{rejection:#}"),
        "mend what it names; until then the former configuration is served",
    )
}

/// Why an Offer was not even tried.
pub(super) fn refused(reason: NackReason, said: &Statement) -> Problem {
    let Statement { fleet, epoch, position, target, model_version: _ } = said;
    let target = target.short();
    let (why, remedy) = match reason {
        NackReason::Rejected => ("a part of it cannot be served".to_owned(), "mend it"),
        NackReason::Base => (
            "it starts from another one than is served".to_owned(),
            "nothing: the controller asks what is served and sends the difference to that",
        ),
        NackReason::Epoch => (
            format!("epoch {epoch} is over: a later one was heard of"),
            "end the controller that takes itself for the leader, or let it join the others",
        ),
        NackReason::Behind => (
            format!("its sources had been read less far ({position}) than for what is served"),
            "nothing: the controller sends again when it has caught up",
        ),
        NackReason::Unbelieved => (
            format!(
                "what is said about it, for fleet {fleet}, is not signed by a key that is believed, \
                 or is about something else"
            ),
            "give the replica the signing key of its controllers, by joining again or by \
             --signing-keys",
        ),
    };
    of_replica(problem::REJECTED, format!("{target} is not taken: {why}"), remedy)
}

/// Something about the replica as a whole.
pub(super) fn of_replica(code: Code, message: String, remedy: &str) -> Problem {
    Problem {
        subject: Subject::Other("replica".into()),
        field: String::new(),
        code,
        message,
        remedy: remedy.into(),
        provenance: None,
    }
}

pub(super) fn unbound(port: &Unbound) -> Problem {
    Problem {
        subject: Subject::Other(format!("listener on {}", port.address)),
        field: String::new(),
        code: problem::PORT_NOT_BOUND,
        message: format!("{} cannot be opened: {}", port.address, port.error),
        remedy: "end the program that holds it, give the machine the address, or choose another \
                 port; it is tried again"
            .into(),
        provenance: None,
    }
}

pub(super) fn unresolved(name: &Unresolved) -> Problem {
    Problem {
        subject: Subject::Object(name.backend.object.clone()),
        field: String::new(),
        code: problem::NAME_NOT_RESOLVED,
        message: format!("{:?} gives no address: {}", name.name, name.reason),
        remedy: "mend the name, or name an address; it is asked for again".into(),
        provenance: None,
    }
}
