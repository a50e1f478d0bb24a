//! Problems that replicas tell.

use kubeng_config::problem::{self, Problem, Subject};
use kubeng_config::provenance::Provenance;

use super::PROBLEMS_MAX;
use super::proto::{self, problem::Subject as Written, provenance::Source};

/// The first of them; how many there are beside stays untold.
pub(super) fn write(problems: &[Problem]) -> Vec<proto::Problem> {
    problems.iter().take(PROBLEMS_MAX).map(write_one).collect()
}

fn write_one(problem: &Problem) -> proto::Problem {
    proto::Problem {
        subject: Some(match &problem.subject {
            Subject::Object(key) => Written::Object(key.to_string()),
            Subject::Other(text) => Written::Other(text.clone()),
        }),
        field: problem.field.clone(),
        code: problem.code.to_string(),
        message: problem.message.clone(),
        remedy: problem.remedy.clone(),
        provenance: problem.provenance.as_ref().map(|provenance| proto::Provenance {
            source: Some(match provenance {
                Provenance::File { path, line } => {
                    Source::File(proto::FileProvenance { path: path.to_string(), line: *line })
                }
                Provenance::Cluster { version } => Source::Cluster(version.to_string()),
                Provenance::Product => Source::Product(proto::ProductProvenance {}),
            }),
        }),
    }
}

/// Never fails: a Problem of another version is told as well as it can be.
pub(super) fn read(problems: Vec<proto::Problem>) -> Vec<Problem> {
    problems.into_iter().take(PROBLEMS_MAX).map(read_one).collect()
}

fn read_one(written: proto::Problem) -> Problem {
    let subject = match written.subject {
        Some(Written::Object(text)) => {
            text.parse().map_or_else(|_| Subject::Other(text), Subject::Object)
        }
        Some(Written::Other(text)) => Subject::Other(text),
        None => Subject::Other("replica".into()),
    };
    let (code, message) = match written.code.parse() {
        Ok(code) => (code, written.message),
        Err(_) => (problem::REJECTED, format!("{}: {}", written.code, written.message)),
    };
    let source = written.provenance.and_then(|provenance| provenance.source);
    let provenance = source.map(|source| match source {
        Source::File(file) => Provenance::File { path: file.path.into(), line: file.line },
        Source::Cluster(version) => Provenance::Cluster { version: version.into() },
        Source::Product(_) => Provenance::Product,
    });
    let (field, remedy) = (written.field, written.remedy);
    Problem { subject, field, code, message, remedy, provenance }
}
