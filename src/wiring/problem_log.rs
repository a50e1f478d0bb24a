//! What the log says of Problems: each once when it comes, and once when it is mended.

use std::collections::{BTreeMap, BTreeSet};

use kubeng_config::problem::{Code, Problem, Subject};
use tracing::{info, warn};

/// The Problems that were told. Where and in which version an Object was read does not count, so
/// a write that changes nothing tells nothing.
#[derive(Debug, Default)]
pub(super) struct ProblemLog {
    told: BTreeMap<Place, BTreeSet<String>>,
}

/// What one Problem replaces another of, and what is mended when it has none.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    subject: Subject,
    field: String,
    code: Code,
}

/// What is to be logged.
#[derive(Debug)]
struct News<'a> {
    come: Vec<&'a Problem>,
    /// Places without a Problem, with the messages of those that they had.
    mended: Vec<(Place, BTreeSet<String>)>,
}

impl ProblemLog {
    /// Logs how `problems`, which are all that there are, differ from those before.
    pub(super) fn take(&mut self, problems: &[Problem]) {
        let News { come, mended } = self.news(problems);
        for problem in come {
            warn!("{problem}");
        }
        for (Place { subject, field, code }, messages) in mended {
            let more = messages.len().saturating_sub(MESSAGES_MAX);
            let was: Vec<String> = messages.into_iter().take(MESSAGES_MAX).collect();
            info!(%code, %subject, field, was = was.join("; "), more, "mended");
        }
    }

    fn news<'a>(&mut self, problems: &'a [Problem]) -> News<'a> {
        let mut before = std::mem::take(&mut self.told);
        let mut come = Vec::new();
        for problem in problems {
            let Problem { subject, field, code, message, remedy: _, provenance: _ } = problem;
            let place = Place { subject: subject.clone(), field: field.clone(), code: *code };
            let was_told = before.get(&place).is_some_and(|told| told.contains(message));
            if self.told.entry(place).or_default().insert(message.clone()) && !was_told {
                come.push(problem);
            }
        }
        before.retain(|place, _| !self.told.contains_key(place));
        News { come, mended: before.into_iter().collect() }
    }
}

/// Of what was mended in one place, so many messages are repeated; of the others only the number is.
const MESSAGES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use kubeng_config::problem::{BACKEND_NOT_FOUND, SOURCE_UNREACHABLE};
    use kubeng_config::provenance::Provenance;

    use super::*;

    fn problem(code: Code, message: &str, version: &str) -> Problem {
        Problem {
            subject: Subject::Other("kubernetes".to_owned()),
            field: String::new(),
            code,
            message: message.to_owned(),
            remedy: "mend it".to_owned(),
            provenance: Some(Provenance::Cluster { version: version.into() }),
        }
    }

    #[track_caller]
    fn check(log: &mut ProblemLog, problems: &[Problem], come: &[&str], mended: &[&[&str]]) {
        let news = log.news(problems);
        let told: Vec<&str> = news.come.iter().map(|problem| &*problem.message).collect();
        assert_eq!(told, come);
        let told: Vec<Vec<&str>> =
            news.mended.iter().map(|(_, was)| was.iter().map(String::as_str).collect()).collect();
        assert_eq!(told, mended);
    }

    #[test]
    fn another_version_of_an_object_with_the_same_problem_is_no_news() {
        let mut log = ProblemLog::default();
        let of = |version| [problem(BACKEND_NOT_FOUND, "no Service", version)];
        check(&mut log, &of("7"), &["no Service"], &[]);
        check(&mut log, &of("8"), &[], &[]);
        check(&mut log, &[], &[], &[&["no Service"]]);
        check(&mut log, &of("9"), &["no Service"], &[]);
    }

    #[test]
    fn a_place_is_mended_once_and_when_nothing_is_left_of_it() {
        let mut log = ProblemLog::default();
        let away = |message| problem(SOURCE_UNREACHABLE, message, "");
        check(&mut log, &[away("a"), away("b")], &["a", "b"], &[]);
        check(&mut log, &[away("b"), away("c")], &["c"], &[]);
        check(&mut log, &[away("b"), away("c")], &[], &[]);
        check(&mut log, &[], &[], &[&["b", "c"]]);
        check(&mut log, &[], &[], &[]);
    }
}
