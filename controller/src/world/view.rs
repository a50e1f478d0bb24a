//! The only window through which a query sees the world. Every question is noted.

use std::sync::Arc;

use kubeng_config::backend::tls::Roots;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, ObjectKey};

use super::memo::Memo;
use super::objects::{Group, Objects};
use super::query::{Answer, Claim, Oldest, Query, Read};
use crate::kind::Body;
use crate::kind::ingress::{Ingress, PortName};
use crate::kind::route_override::Target as OverrideTarget;
use crate::kind::service::Service;
use crate::object::Object;
use crate::settings::TranslateSettings;
use crate::translate::backend::Target;
use crate::translate::certificate::Chain;
use crate::translate::clients;
use crate::translate::credential::Credentials;
use crate::translate::host::HostSettings;
use crate::translate::refusal::Refused;

/// The contents of an answer, which is of the kind of its query: one `match` makes all of them.
macro_rules! answer {
    ($kind:ident, $answer:expr) => {{
        let Answer::$kind(contents) = $answer else {
            unreachable!("`translate::answer` pairs each query with its kind of answer")
        };
        contents
    }};
}

/// What one query sees. Also a question that found nothing is noted: the answer may change.
pub(crate) struct View<'a> {
    asker: &'a Query,
    settings: &'a TranslateSettings,
    objects: &'a Objects,
    memo: &'a mut Memo,
    marks: Vec<u64>,
    asked: Vec<Query>,
}

/// What a query has read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Noted {
    /// The marks of all reads.
    pub(crate) marks: Box<[u64]>,
    /// The queries among them, so that those that nobody reads any more can go.
    pub(crate) asked: Box<[Query]>,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        asker: &'a Query,
        settings: &'a TranslateSettings,
        objects: &'a Objects,
        memo: &'a mut Memo,
    ) -> Self {
        Self { asker, settings, objects, memo, marks: Vec::new(), asked: Vec::new() }
    }

    /// What was read, each once.
    pub(crate) fn into_noted(self) -> Noted {
        let Self { mut marks, mut asked, .. } = self;
        marks.sort_unstable();
        marks.dedup();
        asked.sort_unstable();
        asked.dedup();
        Noted { marks: marks.into(), asked: asked.into() }
    }

    /// The settings never change, so reading them is not noted.
    pub(crate) fn settings(&self) -> &'a TranslateSettings {
        self.settings
    }

    /// The Object of `key`. Whoever is about it reads it by nature, so that is not noted.
    pub(crate) fn object(&mut self, key: &ObjectKey) -> Option<Arc<Object>> {
        if !self.asker.is_about(key) {
            self.note(&Read::Object(key.clone()));
        }
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
            | Body::Upstream(_)
            | Body::ConfigMap(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_) => None,
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
        self.first_of(group, |view, object| match &object.body {
            Body::Ingress(ingress) => wanted(view, object, ingress),
            Body::IngressClass(_)
            | Body::Service(_)
            | Body::EndpointSlice(_)
            | Body::Secret(_)
            | Body::Upstream(_)
            | Body::ConfigMap(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_) => None,
        })
    }

    /// The same of Objects of any kind.
    pub(crate) fn first_of<T>(
        &mut self,
        group: Group,
        mut wanted: impl FnMut(&mut Self, &Arc<Object>) -> Option<T>,
    ) -> Option<T> {
        let objects = self.objects;
        self.note(&Read::Group(group.clone()));
        for key in objects.members(&group) {
            let Some(object) = self.object(key) else { continue };
            if let Some(found) = wanted(self, &object) {
                return Some(found);
            }
        }
        None
    }

    /// Whether others make `claim` too. An Ingress may ask only for claims of
    /// its own, and does so by nature, so that is not noted.
    pub(crate) fn is_contested(&self, claim: &Arc<str>) -> bool {
        self.objects.is_crowd(&Group::Claim(Arc::clone(claim)))
    }

    /// Whether some Ingress asks the clients of `host` for certificates, or those of a wildcard that
    /// stands for it. Who asks serves the host, and does so by nature, so that is not noted.
    pub(crate) fn asks_clients(&self, host: &HostMatch) -> bool {
        let asks = |host: HostMatch| self.objects.members(&Group::Clients(host)).next().is_some();
        asks(host.clone()) || clients::wildcard_of(host).is_some_and(asks)
    }

    /// The RouteOverrides that are for `target`, the oldest first.
    pub(crate) fn overrides(&mut self, target: &OverrideTarget) -> Vec<Arc<Object>> {
        let group = Group::Overrides(target.clone());
        let keys: Vec<ObjectKey> = self.objects.members(&group).cloned().collect();
        // Those that are below the target ask by nature, so that is not noted.
        if self.asker.asks_for_overrides_of().is_none() {
            self.note(&Read::Group(group));
        }
        keys.iter().filter_map(|key| self.object(key)).collect()
    }

    /// What the Secret or ConfigMap of `key` holds for filters.
    pub(crate) fn credentials(&mut self, key: &ObjectKey) -> Arc<Credentials> {
        answer!(Credentials, self.ask(Query::Credentials(key.clone())))
    }

    /// Whether Ingresses without a class are ours.
    pub(crate) fn classless(&mut self) -> Claim {
        answer!(Classless, self.ask(Query::Classless))
    }

    /// Chain and key of the Secret of `key`.
    pub(crate) fn certificate(&mut self, key: &ObjectKey) -> Arc<Chain> {
        answer!(Certificate, self.ask(Query::Certificate(key.clone())))
    }

    /// The authorities of the ConfigMap or Secret of `key`.
    pub(crate) fn authorities(&mut self, key: &ObjectKey) -> Arc<Result<Roots, Refused>> {
        answer!(Authorities, self.ask(Query::Authorities(key.clone())))
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
                let query = Query::PortNumber(service.clone(), name.as_str().into());
                answer!(PortNumber, self.ask(query))?
            }
        };
        self.backend(BackendId { object: service.clone(), port: Some(number) })
    }

    /// The Backend itself if it can be used, or why it cannot.
    pub(crate) fn backend(&mut self, id: BackendId) -> Result<BackendId, Arc<Refused>> {
        let target = answer!(Backend, self.ask(Query::Backend(id)));
        match &*target {
            // Its own name, so that all who lead there share one.
            Target::Usable { id, .. } => Ok(id.clone()),
            Target::Refused { because, .. } => Err(Arc::clone(because)),
        }
    }

    /// As [`backend`](Self::backend), and whether its Endpoints are spoken to over TLS.
    pub(crate) fn backend_and_tls(
        &mut self,
        id: BackendId,
    ) -> Result<(BackendId, bool), Arc<Refused>> {
        let target = answer!(Backend, self.ask(Query::Backend(id.clone())));
        match &*target {
            Target::Usable { .. } => Ok((id, target.wants_tls())),
            Target::Refused { because, .. } => Err(Arc::clone(because)),
        }
    }

    /// The oldest Ingress of ours that makes `claim`.
    pub(crate) fn winner(&mut self, claim: Arc<str>) -> Option<Arc<ObjectKey>> {
        answer!(Winner, self.ask(Query::Winner(claim)))
    }

    /// The oldest Ingress of ours that names `host` in a rule.
    pub(crate) fn oldest(&mut self, host: &HostMatch) -> Option<Arc<Oldest>> {
        answer!(Oldest, self.ask(Query::Oldest(host.clone())))
    }

    /// What all Ingresses of `host` decide together.
    pub(crate) fn host(&mut self, host: &HostMatch) -> Arc<HostSettings> {
        answer!(Host, self.ask(Query::Host(host.clone())))
    }

    fn ask(&mut self, query: Query) -> Answer {
        debug_assert!(
            query < *self.asker,
            "{:?} asks {query:?}, which is not above it",
            self.asker
        );
        self.note(&Read::Query(query.clone()));
        self.asked.push(query.clone());
        self.memo.answer(&query, self.settings, self.objects)
    }

    fn note(&mut self, read: &Read) {
        self.marks.push(read.mark());
    }
}
