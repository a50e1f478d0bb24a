//! What an Event says, by what became of an Ingress.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use kubeng_config::problem::Problem;

use crate::translate::verdict::{Outcome, Verdict, outcome};

/// What an Event says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Note {
    /// `Normal` or `Warning`.
    pub(crate) severity: &'static str,
    pub(crate) reason: &'static str,
    /// At most [`TEXT_BYTES_MAX`].
    pub(crate) text: String,
}

/// What was told of an Ingress, so that only changes are told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Told {
    /// Which Ingress of this name it was; one that is made anew is told anew.
    pub(crate) uid: Option<Arc<str>>,
    /// Whether nothing of it is rejected.
    is_accepted: bool,
    /// A mark for each Problem.
    problems: BTreeSet<u64>,
}

/// What is to be told of an Ingress of which `known` was told; none if it is not ours.
pub(crate) fn changes(verdict: &Verdict<'_>, known: Option<&Told>) -> Option<(Told, Vec<Note>)> {
    let problems = match verdict {
        Verdict::Foreign => return None,
        Verdict::Ours { problems } => *problems,
    };
    let is_rejected = |problem: &Problem| outcome(problem.code) == Outcome::Rejected;
    let told = Told {
        uid: None,
        is_accepted: !problems.iter().any(is_rejected),
        problems: problems.iter().map(mark_of).collect(),
    };
    let was_accepted = known.is_some_and(|known| known.is_accepted);
    let was_faulty = known.is_some_and(|known| !known.problems.is_empty());
    let is_mended = was_faulty && told.problems.is_empty();
    let is_new =
        |problem: &&Problem| known.is_none_or(|known| !known.problems.contains(&mark_of(problem)));
    let mut notes = Vec::new();
    if told.is_accepted && (!was_accepted || is_mended) {
        let is_asked_for = |problem: &&Problem| outcome(problem.code) == Outcome::Noted;
        let text = match problems.len() - problems.iter().filter(is_asked_for).count() {
            0 if !problems.is_empty() => "served, with a note".to_owned(),
            0 => "served as it is written".to_owned(),
            1 => "served, with a problem".to_owned(),
            count => format!("served, with {count} problems"),
        };
        notes.push(Note { severity: "Normal", reason: ACCEPTED, text });
    }
    let news: Vec<&Problem> = problems.iter().filter(is_new).collect();
    notes.extend(news.iter().take(PROBLEMS_MAX).map(|problem| note_of(problem)));
    if let (Some(rest @ 1..), Some(last)) = (news.len().checked_sub(PROBLEMS_MAX), notes.last_mut())
    {
        last.text.insert_str(0, &format!("(and {rest} more) "));
        cut(&mut last.text);
    }
    Some((told, notes))
}

fn note_of(problem: &Problem) -> Note {
    let (severity, reason) = match outcome(problem.code) {
        Outcome::Rejected => ("Warning", "Rejected"),
        Outcome::Shadowed => ("Warning", "Shadowed"),
        Outcome::Degraded => ("Warning", "Degraded"),
        Outcome::Noted => ("Normal", "Noted"),
    };
    let Problem { field, code, message, remedy, subject: _, provenance: _ } = problem;
    let place = if field.is_empty() { String::new() } else { format!("{field}: ") };
    let meaning = code.page().meaning;
    let mut text = format!("{place}{message}; {remedy}. {code}: {meaning}");
    cut(&mut text);
    Note { severity, reason, text }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX - 3).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
}

fn mark_of(problem: &Problem) -> u64 {
    let Problem { field, code, message, remedy, subject: _, provenance: _ } = problem;
    mark(&(field, code, message, remedy))
}

/// A number that stands for `value`; the same in every process of one build.
pub(crate) fn mark(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The reason of Events that say that all is well.
pub(crate) const ACCEPTED: &str = "Accepted";

/// The longest text that an API server takes, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;

/// Problems of one Ingress that are told at once; of the others only the number is.
const PROBLEMS_MAX: usize = 8;
