//! The only window through which a query sees the world. Every question is noted.

use std::sync::Arc;

use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, ObjectKey};

use super::memo::Memo;
use super::objects::{Group, Objects};
use super::query::{Answer, Claim, Oldest, Query, Read};
use crate::kind::ingress::{Ingress, PortName};
use crate::kind::service::Service;
use crate::kind::Body;
use crate::object::Object;
use crate::settings::TranslateSettings;
use crate::translate::backend::Target;
use crate::translate::certificate::Chain;
use crate::translate::host::HostSettings;
use crate::translate::refusal::Refused;

/// What one query sees. Also a question that found nothing is noted: the answer may change.
pub(crate) struct View<'a> {
    asker: &'a Query,
    settings: &'a TranslateSettings,
    objects: &'a Objects,
    memo: &'a mut Memo,
    noted: Noted,
}

/// What a query has read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    /// The marks of all reads.
    pub(crate) marks: Vec<u64>,
    /// The queries among them, so that those that nobody reads any more can go.
    pub(crate) asked: Vec<Query>,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        asker: &'a Query,
        settings: &'a TranslateSettings,
        objects: &'a Objects,
        memo: &'a mut Memo,
    ) -> Self {
        Self { asker, settings, objects, memo, noted: Noted::default() }
    }

    /// What was read, each once.
    pub(crate) fn into_noted(mut self) -> Noted {
        self.noted.marks.sort_unstable();
        self.noted.marks.dedup();
        self.noted.asked.sort_unstable();
        self.noted.asked.dedup();
        self.noted
    }

    /// The settings never change, so reading them is not noted.
    pub(crate) fn settings(&self) -> &'a TranslateSettings {
        self.settings
    }

    /// The Object of `key`.
    pub(crate) fn object(&mut self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.note(&Read::Object(key.clone()));
        self.objects.get(key).cloned()
    }

    /// The Service of `key`, with its Object.
    pub(crate) fn service(&mut self, key: &ObjectKey) -> Option<(Arc<Object>, Service)> {
        let object = self.object(key)?;
        match &object.body {
            Body::Service(service) => {
                let service = service.clone();
                Some((object, service))
            }
            Body::Ingress(_)
            | Body::IngressClass(_)
            | Body::EndpointSlice(_)
            | Body::Secret(_)
            | Body::Upstream(_) => None,
        }
    }

    /// The members of `group`, the oldest first.
    pub(crate) fn members(&mut self, group: Group) -> impl Iterator<Item = ObjectKey> + use<> {
        let members: Vec<ObjectKey> = self.objects.members(&group).cloned().collect();
        self.note(&Read::Group(group));
        members.into_iter()
    }

    /// The oldest Ingress of `group` for which `wanted` gives something.
    ///
    /// Only those that are looked at are noted.
    pub(crate) fn first_in<T>(
        &mut self,
        group: Group,
        mut wanted: impl FnMut(&mut Self, &Arc<Object>, &Ingress) -> Option<T>,
    ) -> Option<T> {
        let objects = self.objects;
        self.note(&Read::Group(group.clone()));
        for key in objects.members(&group) {
            let Some(object) = self.object(key) else { continue };
            if let Body::Ingress(ingress) = &object.body
                && let Some(found) = wanted(self, &object, ingress)
            {
                return Some(found);
            }
        }
        None
    }

    /// Whether `group` has more than one member.
    pub(crate) fn is_crowd(&mut self, group: Group) -> bool {
        let is_crowd = self.objects.is_crowd(&group);
        self.note(&Read::Crowd(group));
        is_crowd
    }

    /// Whether Ingresses without a class are ours.
    pub(crate) fn classless(&mut self) -> Claim {
        match self.ask(Query::Classless) {
            Answer::Classless(claim) => claim,
            other => wrong(&other),
        }
    }

    /// Chain and key of the Secret of `key`.
    pub(crate) fn certificate(&mut self, key: &ObjectKey) -> Arc<Chain> {
        match self.ask(Query::Certificate(key.clone())) {
            Answer::Certificate(chain) => chain,
            other => wrong(&other),
        }
    }

    /// The Backend of a Service port, or why there is none.
    pub(crate) fn service_port(
        &mut self,
        service: &ObjectKey,
        port: &PortName,
    ) -> Result<BackendId, Arc<Refused>> {
        let number = match port {
            PortName::Number(number) => *number,
            PortName::Name(name) => {
                match self.ask(Query::PortNumber(service.clone(), name.as_str().into())) {
                    Answer::PortNumber(number) => number?,
                    other => wrong(&other),
                }
            }
        };
        self.backend(BackendId { object: service.clone(), port: Some(number) })
    }

    /// The Backend itself if it can be used, or why it cannot.
    pub(crate) fn backend(&mut self, id: BackendId) -> Result<BackendId, Arc<Refused>> {
        match self.ask(Query::Backend(id.clone())) {
            Answer::Backend(target) => match &*target {
                Target::Usable { .. } => Ok(id),
                Target::Refused { because, .. } => Err(Arc::clone(because)),
            },
            other => wrong(&other),
        }
    }

    /// The oldest Ingress of ours that makes `claim`.
    pub(crate) fn winner(&mut self, claim: Arc<str>) -> Option<ObjectKey> {
        match self.ask(Query::Winner(claim)) {
            Answer::Winner(winner) => winner,
            other => wrong(&other),
        }
    }

    /// The oldest Ingress of ours that names `host` in a rule.
    pub(crate) fn oldest(&mut self, host: &HostMatch) -> Option<Oldest> {
        match self.ask(Query::Oldest(host.clone())) {
            Answer::Oldest(oldest) => oldest,
            other => wrong(&other),
        }
    }

    /// What all Ingresses of `host` decide together.
    pub(crate) fn host(&mut self, host: &HostMatch) -> Arc<HostSettings> {
        match self.ask(Query::Host(host.clone())) {
            Answer::Host(settings) => settings,
            other => wrong(&other),
        }
    }

    fn ask(&mut self, query: Query) -> Answer {
        debug_assert!(query < *self.asker, "{:?} asks {query:?}, which is not above it", self.asker);
        self.note(&Read::Query(query.clone()));
        self.noted.asked.push(query.clone());
        self.memo.answer(&query, self.settings, self.objects)
    }

    fn note(&mut self, read: &Read) {
        self.noted.marks.push(read.mark());
    }
}

/// Answers are made by one `match` over the queries, which pairs each with its kind.
fn wrong(answer: &Answer) -> ! {
    unreachable!("a query was given the answer of another: {answer:?}")
}
