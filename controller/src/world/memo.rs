//! Remembered answers, and who has read what.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, ObjectKey, ObjectKind};

use super::objects::{Group, Objects};
use super::query::{Answer, Query, Read};
use super::view::{Noted, View};
use crate::kind::route_override::Target;
use crate::settings::TranslateSettings;
use crate::translate;
use crate::translate::clients::wildcard_of;

/// Remembered answers with their reads. A clone is a few pointers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo {
    answers: imbl::OrdMap<Arc<Query>, Remembered>,
    /// Who has read what, by the mark of the read. Shares its queries with the answers, for there
    /// are several entries for every Object.
    readers: imbl::OrdSet<(u64, Arc<Query>)>,
    /// Every query whose answer is not the one before the round, or that lost a reader.
    touched: BTreeSet<Query>,
}

#[derive(Clone, Debug)]
struct Remembered {
    answer: Answer,
    noted: Arc<Noted>,
}

impl Memo {
    /// The remembered answer.
    pub(crate) fn get(&self, query: &Query) -> Option<&Answer> {
        self.answers.get(query).map(|remembered| &remembered.answer)
    }

    /// All remembered answers from `first` on, by query.
    pub(crate) fn from(&self, first: Query) -> impl Iterator<Item = (&Query, &Answer)> {
        self.answers.range(first..).map(|(query, remembered)| (&**query, &remembered.answer))
    }

    /// Everything that is remembered: the queries, and who has read what.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> (Vec<Query>, Vec<(u64, Query)>) {
        let readers = self.readers.iter().map(|(mark, query)| (*mark, (**query).clone()));
        (self.answers.keys().map(|query| (**query).clone()).collect(), readers.collect())
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
    ///
    /// Four kinds of readers are not remembered, because they follow from the
    /// read itself and would be half of all: what is about an Object reads it,
    /// an Ingress asks whether it is alone with each of its claims, everything
    /// asks for the overrides of its Object and its namespace, and what serves a
    /// host asks whether its clients are asked for certificates.
    pub(crate) fn readers_of(&self, read: &Read, objects: &Objects) -> Vec<Query> {
        let mark = read.mark();
        let mut readers: Vec<Query> =
            self.readers_by(mark).map(|query| (**query).clone()).collect();
        match read {
            Read::Object(key) => readers.extend(self.about(key)),
            Read::Contest(claim) => {
                let group = Group::Claim(Arc::clone(claim));
                readers.extend(objects.members(&group).cloned().map(Query::Fragment));
            }
            Read::Group(Group::Overrides(target)) => readers.extend(self.below(target)),
            Read::Group(Group::Clients(host)) => readers.extend(self.serving(host, objects)),
            Read::Group(_) | Read::Query(_) => {}
        }
        readers
    }

    /// The remembered queries that are about the Object of `key`: see [`Query::is_about`].
    fn about(&self, key: &ObjectKey) -> Vec<Query> {
        let backend = |port| Query::Backend(BackendId { object: key.clone(), port });
        let firsts = match key.kind {
            ObjectKind::Ingress => vec![Query::Fragment(key.clone())],
            ObjectKind::Service => vec![Query::PortNumber(key.clone(), "".into()), backend(None)],
            ObjectKind::Secret => vec![
                Query::Certificate(key.clone()),
                Query::Authorities(key.clone()),
                Query::Credentials(key.clone()),
            ],
            ObjectKind::RouteOverride => vec![Query::Override(key.clone())],
            ObjectKind::Upstream => vec![backend(None), Query::Fragment(key.clone())],
            ObjectKind::ConfigMap => {
                vec![Query::Authorities(key.clone()), Query::Credentials(key.clone())]
            }
            ObjectKind::IngressClass | ObjectKind::EndpointSlice | ObjectKind::Fleet => Vec::new(),
        };
        let from = |first: Query| {
            let queries = self.answers.range(first..).map(|(query, _)| query);
            queries.take_while(|query| query.is_about(key)).map(|query| (**query).clone())
        };
        firsts.into_iter().flat_map(from).collect()
    }

    /// The queries of everything that serves `host`, or a name for which it stands.
    fn serving(&self, host: &HostMatch, objects: &Objects) -> BTreeSet<Query> {
        let named = || std::iter::once(host).chain(objects.hosts_below(host));
        let ingresses = named().flat_map(|host| objects.members(&Group::Host(host.clone())));
        let mut queries: BTreeSet<Query> = ingresses.cloned().map(Query::Fragment).collect();
        let hosts = self.answers.range(Query::Host(HostMatch::Any)..).map_while(|(query, _)| {
            if let Query::Host(known) = &**query { Some(known) } else { None }
        });
        let is_meant =
            |known: &HostMatch| known == host || wildcard_of(known).as_ref() == Some(host);
        queries.extend(hosts.filter(|known| is_meant(known)).cloned().map(Query::Host));
        queries
    }

    /// The remembered queries that ask for the overrides of `target` by nature.
    fn below(&self, target: &Target) -> Vec<Query> {
        let (namespace, name) = match target {
            Target::Namespace(namespace) => (namespace, ""),
            Target::Object(key) => (&key.namespace, &*key.name),
        };
        let is_below = |key: &ObjectKey| match target {
            Target::Namespace(namespace) => key.namespace == *namespace,
            Target::Object(other) => key == other,
        };
        let first = |kind| ObjectKey::new(kind, namespace, name);
        let firsts = [
            Query::Backend(BackendId { object: first(ObjectKind::Service), port: None }),
            Query::Backend(BackendId { object: first(ObjectKind::Upstream), port: None }),
            Query::Fragment(first(ObjectKind::Ingress)),
            Query::Fragment(first(ObjectKind::Upstream)),
        ];
        let from = |first: Query| {
            let kind = first.asks_for_overrides_of().map(|key| key.kind);
            let queries = self.answers.range(first..).map(|(query, _)| query);
            let of_target = queries.take_while(move |query| {
                let key = query.asks_for_overrides_of();
                key.is_some_and(|key| Some(key.kind) == kind && is_below(key))
            });
            of_target.map(|query| (**query).clone()).collect::<Vec<_>>()
        };
        firsts.into_iter().flat_map(from).collect()
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
                dirty.extend(self.readers_of(&Read::Query(query), objects));
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
        let old =
            self.answers.get(query).map(|before| Arc::clone(&before.noted)).unwrap_or_default();
        let known = self.answers.get_key_value(query).map(|(known, _)| Arc::clone(known));
        let query = known.unwrap_or_else(|| Arc::new(query.clone()));
        for mark in old.marks.iter().filter(|mark| !noted.marks.contains(mark)) {
            self.readers.remove(&(*mark, Arc::clone(&query)));
        }
        for mark in noted.marks.iter().filter(|mark| !old.marks.contains(mark)) {
            self.readers.insert((*mark, Arc::clone(&query)));
        }
        self.touched.extend(old.asked.iter().filter(|asked| !noted.asked.contains(asked)).cloned());
        let noted = if *old == noted { old } else { Arc::new(noted) };
        self.answers.insert(query, Remembered { answer, noted });
    }

    /// Forgets what nobody needs: highest level first, so that one pass is enough.
    fn forget_unread(&mut self, objects: &Objects) {
        let mut candidates = self.touched.clone();
        while let Some(query) = candidates.pop_last() {
            if is_root(&query, objects) || self.is_read(&query) {
                continue;
            }
            let Some(gone) = self.answers.remove(&query) else { continue };
            let query = Arc::new(query);
            for mark in &gone.noted.marks {
                self.readers.remove(&(*mark, Arc::clone(&query)));
            }
            candidates.extend(gone.noted.asked.iter().cloned());
            self.touched.extend(gone.noted.asked.iter().cloned());
        }
    }

    fn is_read(&self, query: &Query) -> bool {
        self.readers_by(Read::Query(query.clone()).mark()).next().is_some()
    }

    fn readers_by(&self, mark: u64) -> impl Iterator<Item = &Arc<Query>> {
        // The smallest query.
        let first = (mark, Arc::new(Query::Classless));
        let from = self.readers.range(first..);
        from.take_while(move |(other, _)| *other == mark).map(|(_, query)| query)
    }
}

/// Whether a query is asked for its own sake.
fn is_root(query: &Query, objects: &Objects) -> bool {
    match query {
        Query::Fleet => true,
        Query::Fragment(key) | Query::Override(key) => objects.get(key).is_some(),
        // Upstreams are looked at even if nothing leads there, so that their mistakes are told.
        Query::Backend(id) => id.port.is_none() && objects.get(&id.object).is_some(),
        Query::Classless
        | Query::Certificate(_)
        | Query::Authorities(_)
        | Query::Credentials(_)
        | Query::PortNumber(..)
        | Query::Winner(_)
        | Query::Oldest(_)
        | Query::Host(_) => false,
    }
}
