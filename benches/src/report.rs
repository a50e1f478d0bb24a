//! What a benchmark prints: a table, notes, and whether its goals were met.

use std::fmt;

/// A table, notes and goals.
#[derive(Debug, Default)]
pub(crate) struct Report {
    title: String,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    goals: Vec<Goal>,
}

#[derive(Debug)]
struct Goal {
    text: String,
    is_met: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// It holds on every machine.
    Always,
    /// It depends on the machine and on how long was measured.
    Speed,
}

impl Report {
    pub(crate) fn new<const N: usize>(title: &str, head: [&str; N]) -> Self {
        let head = head.map(ToOwned::to_owned).to_vec();
        Self { title: title.to_owned(), rows: vec![head], ..Self::default() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A goal that every machine can meet in any time.
    pub(crate) fn goal(&mut self, text: impl Into<String>, is_met: bool) {
        self.goals.push(Goal { text: text.into(), is_met, kind: Kind::Always });
    }

    /// A goal that a quick run does not judge.
    pub(crate) fn speed_goal(&mut self, text: impl Into<String>, is_met: bool) {
        self.goals.push(Goal { text: text.into(), is_met, kind: Kind::Speed });
    }

    /// Whether all goals are met; a quick run does not judge speed.
    pub(crate) fn is_met(&self, is_quick: bool) -> bool {
        self.goals.iter().all(|goal| goal.is_met || (is_quick && goal.kind == Kind::Speed))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, rows, notes, goals } = self;
        writeln!(f, "## {title}\n")?;
        for (at, row) in rows.iter().enumerate() {
            writeln!(f, "| {} |", row.join(" | "))?;
            if at == 0 {
                writeln!(f, "|{}", "---|".repeat(row.len()))?;
            }
        }
        if !notes.is_empty() || !goals.is_empty() {
            writeln!(f)?;
        }
        for note in notes {
            writeln!(f, "- note: {note}")?;
        }
        for Goal { text, is_met, kind } in goals {
            let verdict = if *is_met { "met" } else { "MISSED" };
            let kind = if *kind == Kind::Speed { "; not judged with --quick" } else { "" };
            writeln!(f, "- goal {verdict}: {text}{kind}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_does_not_judge_speed() {
        let mut report = Report::new("x", ["a"]);
        report.speed_goal("fast", false);
        assert!(report.is_met(true) && !report.is_met(false));
        report.goal("right", false);
        assert!(!report.is_met(true));
    }
}
