//! Remembered answers, and who has read what.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::objects::Objects;
use super::query::{Answer, Query, Read};
use super::view::{Noted, View};
use crate::settings::TranslateSettings;
use crate::translate;

/// Remembered answers with their reads. A clone is a few pointers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo {
    answers: imbl::OrdMap<Query, Remembered>,
    /// Who has read what, by the mark of the read.
    readers: imbl::OrdSet<(u64, Query)>,
    /// Every query whose answer is not the one before the round, or that lost a reader.
    touched: BTreeSet<Query>,
}

#[derive(Clone, Debug)]
struct Remembered {
    answer: Answer,
    marks: Arc<[u64]>,
    /// Most queries that ask others ask few; most ask none.
    asked: Option<Arc<[Query]>>,
}

impl Memo {
    /// The remembered answer.
    pub(crate) fn get(&self, query: &Query) -> Option<&Answer> {
        self.answers.get(query).map(|remembered| &remembered.answer)
    }

    /// All remembered answers from `first` on, by query.
    pub(crate) fn from(&self, first: Query) -> impl Iterator<Item = (&Query, &Answer)> {
        self.answers.range(first..).map(|(query, remembered)| (query, &remembered.answer))
    }

    /// Everything that is remembered: the queries, and who has read what.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> (Vec<Query>, Vec<(u64, Query)>) {
        (self.answers.keys().cloned().collect(), self.readers.iter().cloned().collect())
    }

    /// The answer to `query`: the remembered one, or one made at once.
    pub(crate) fn answer(
        &mut self,
        query: &Query,
        settings: &TranslateSettings,
        objects: &Objects,
    ) -> Answer {
        if let Some(answer) = self.get(query) {
            return answer.clone();
        }
        self.ask_again(query, settings, objects);
        self.get(query).expect("it was remembered on the line above").clone()
    }

    /// Everyone who has read `read`.
    pub(crate) fn readers_of(&self, read: &Read) -> Vec<Query> {
        let mark = read.mark();
        self.readers
            .range((mark, Query::Classless)..)
            .take_while(|(other, _)| *other == mark)
            .map(|(_, query)| query.clone())
            .collect()
    }

    /// Asks again whatever may have changed, lowest level first, so that nothing is asked twice.
    ///
    /// An answer that looks like the old one asks nobody else again. Returns
    /// all queries whose answers may differ from those before.
    pub(crate) fn settle(
        &mut self,
        mut dirty: BTreeSet<Query>,
        settings: &TranslateSettings,
        objects: &Objects,
    ) -> BTreeSet<Query> {
        while let Some(query) = dirty.pop_first() {
            let before = self.get(&query).cloned();
            self.ask_again(&query, settings, objects);
            let looks_the_same = match (&before, self.get(&query)) {
                (Some(before), Some(after)) => before.looks_like(after),
                (None, _) | (Some(_), None) => false,
            };
            if !looks_the_same {
                dirty.extend(self.readers_of(&Read::Query(query)));
            }
        }
        self.forget_unread(objects);
        std::mem::take(&mut self.touched)
    }

    fn ask_again(&mut self, query: &Query, settings: &TranslateSettings, objects: &Objects) {
        let mut view = View::new(query, settings, objects, self);
        let answer = translate::answer(query, &mut view);
        let noted = view.into_noted();
        self.remember(query, answer, noted);
    }

    fn remember(&mut self, query: &Query, answer: Answer, noted: Noted) {
        self.touched.insert(query.clone());
        let before = self.answers.get(query).cloned();
        let old_marks: &[u64] = before.as_ref().map_or(&[], |before| &before.marks);
        for mark in old_marks.iter().filter(|mark| !noted.marks.contains(mark)) {
            self.readers.remove(&(*mark, query.clone()));
        }
        for mark in noted.marks.iter().filter(|mark| !old_marks.contains(mark)) {
            self.readers.insert((*mark, query.clone()));
        }
        if let Some(asked) = before.as_ref().and_then(|before| before.asked.as_ref()) {
            self.touched.extend(asked.iter().filter(|asked| !noted.asked.contains(asked)).cloned());
        }
        let marks = match &before {
            Some(before) if *before.marks == *noted.marks => Arc::clone(&before.marks),
            Some(_) | None => noted.marks.into(),
        };
        let asked = (!noted.asked.is_empty()).then(|| noted.asked.into());
        self.answers.insert(query.clone(), Remembered { answer, marks, asked });
    }

    /// Forgets what nobody needs: highest level first, so that one pass is enough.
    fn forget_unread(&mut self, objects: &Objects) {
        let mut candidates = self.touched.clone();
        while let Some(query) = candidates.pop_last() {
            if is_root(&query, objects) || self.is_read(&query) {
                continue;
            }
            let Some(gone) = self.answers.remove(&query) else { continue };
            for mark in gone.marks.iter() {
                self.readers.remove(&(*mark, query.clone()));
            }
            if let Some(asked) = gone.asked {
                candidates.extend(asked.iter().cloned());
                self.touched.extend(asked.iter().cloned());
            }
        }
    }

    fn is_read(&self, query: &Query) -> bool {
        let mark = Read::Query(query.clone()).mark();
        self.readers.range((mark, Query::Classless)..).next().is_some_and(|(m, _)| *m == mark)
    }
}

/// Whether a query is asked for its own sake.
fn is_root(query: &Query, objects: &Objects) -> bool {
    match query {
        Query::Fleet => true,
        Query::Fragment(key) => objects.get(key).is_some(),
        // Upstreams are looked at even if nothing leads there, so that their mistakes are told.
        Query::Backend(id) => id.port.is_none() && objects.get(&id.object).is_some(),
        Query::Classless
        | Query::Certificate(_)
        | Query::PortNumber(..)
        | Query::Winner(_)
        | Query::Oldest(_)
        | Query::Host(_) => false,
    }
}
