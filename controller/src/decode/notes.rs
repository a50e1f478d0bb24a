//! The Problems that are found while one document is decoded.

use kubeng_config::name::ObjectKey;
use kubeng_config::problem::{BAD_VALUE, Code, Problem, Subject, UNKNOWN_FIELD};
use kubeng_config::provenance::Provenance;

/// Collects the Problems of one Object.
#[derive(Debug)]
pub(crate) struct Notes {
    key: ObjectKey,
    provenance: Provenance,
    problems: Vec<Problem>,
}

impl Notes {
    pub(crate) fn new(key: ObjectKey, provenance: Provenance) -> Self {
        Self { key, provenance, problems: Vec::new() }
    }

    /// The Object.
    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Whether unknown fields of foreign kinds can be seen and are Problems.
    pub(crate) fn is_manifest(&self) -> bool {
        matches!(self.provenance, Provenance::File { .. })
    }

    /// A Problem of this Object.
    pub(crate) fn problem(
        &self,
        field: &str,
        code: Code,
        message: String,
        remedy: &str,
    ) -> Problem {
        Problem {
            subject: Subject::Object(self.key.clone()),
            field: field.to_owned(),
            code,
            message,
            remedy: remedy.to_owned(),
            provenance: Some(self.provenance.clone()),
        }
    }

    /// Notes a value that cannot be used although the Object can.
    pub(crate) fn bad_value(&mut self, field: &str, message: String, remedy: &str) {
        let problem = self.problem(field, BAD_VALUE, message, remedy);
        self.problems.push(problem);
    }

    /// Notes something else that is wrong with a field.
    pub(crate) fn note(&mut self, field: &str, code: Code, message: String, remedy: &str) {
        let problem = self.problem(field, code, message, remedy);
        self.problems.push(problem);
    }

    /// Notes what was found elsewhere.
    pub(crate) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many were noted.
    pub(crate) fn len(&self) -> usize {
        self.problems.len()
    }

    /// The unknown fields that were noted.
    pub(crate) fn unknown_fields(&self) -> impl Iterator<Item = &str> {
        let unknown = self.problems.iter().filter(|problem| problem.code == UNKNOWN_FIELD);
        unknown.map(|problem| problem.field.as_str())
    }

    /// Notes an unknown field; `nearest` is a known one with a similar name.
    pub(crate) fn unknown_field(&mut self, field: &str, nearest: Option<&str>) {
        let name = super::field::last(field);
        let (message, remedy) = match nearest {
            Some(nearest) => (
                format!("there is no field {name:?} here; did you mean {nearest:?}?"),
                format!("write {nearest:?}, or remove it"),
            ),
            None => (
                format!("there is no field {name:?} here"),
                "mend the name of the field, or remove it".to_owned(),
            ),
        };
        let problem = self.problem(field, UNKNOWN_FIELD, message, &remedy);
        self.problems.push(problem);
    }

    /// Fails with the first unknown field at or below `part`: what a kind of
    /// ours does not know may have been meant to protect something.
    pub(crate) fn refuse_unknown_fields(&mut self, part: &str) -> Result<(), Box<Problem>> {
        let found = self.problems.iter().position(|problem| {
            problem.code == UNKNOWN_FIELD
                && (self.is_manifest() || super::field::is_within(&problem.field, part))
        });
        match found {
            Some(index) => Err(Box::new(self.problems.swap_remove(index))),
            None => Ok(()),
        }
    }

    /// Fails with the first thing that is wrong at or below `part`.
    pub(crate) fn refuse_within(&mut self, part: &str) -> Result<(), Box<Problem>> {
        let is_within = |problem: &Problem| super::field::is_within(&problem.field, part);
        match self.problems.iter().position(is_within) {
            Some(index) => Err(Box::new(self.problems.swap_remove(index))),
            None => Ok(()),
        }
    }

    /// What was found, in order of fields.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems
    }
}
