//! The World: what is known and what was computed from it, stepped and rebuilt.
//!
//! Pure: what goes in is Objects, what comes out is a Snapshot with Problems.
//! [`World::step`] asks again only those queries that read what changed;
//! [`World::rebuild`] asks all of them from nothing and is what it must equal.

mod memo;
pub(crate) mod objects;
pub(crate) mod query;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubeng_config::certificate::Secret;
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::filter::Filter;
use kubeng_config::name::{BackendId, CertificateId, FleetName, ObjectKey, ObjectKind, SecretId};
use kubeng_config::problem::{Problem, REJECTED, Subject};
use kubeng_config::snapshot::Snapshot;

use crate::assemble::{self, Assembled, Changes};
use crate::kind::Body;
use crate::kind::route_override::Target;
use crate::object::{Change, Object};
use crate::settings::TranslateSettings;
use crate::translate::certificate::Chain;
use crate::translate::verdict::Verdict;
use crate::translate::{credential, overrides};
use memo::Memo;
use objects::{Group, Objects};
use query::{Answer, Claim, Query};

/// What is known, what was computed from it, and the Snapshot. A clone is a few pointers.
#[derive(Clone, Debug)]
pub struct World {
    settings: Arc<TranslateSettings>,
    objects: Objects,
    memo: Memo,
    /// The Problems of each answer that has any.
    problems: imbl::OrdMap<Query, Arc<[Problem]>>,
    /// Objects with Problems of their own that no answer tells.
    faulty: imbl::OrdMap<ObjectKey, Arc<Object>>,
    /// What could not be put together, which is a fault of ours.
    left_out: imbl::OrdMap<PartKey, Problem>,
    snapshot: Snapshot,
}

/// A World one round later, and what is different in it.
#[derive(Debug)]
pub struct Step {
    /// The World with the changes taken over.
    pub world: World,
    /// Exactly the Parts of the Snapshot that are different; empty: the Snapshot is the same.
    pub changed: BTreeSet<PartKey>,
    /// Objects whose Problems or Verdict may be different.
    pub judged: BTreeSet<ObjectKey>,
    /// Whether [`World::problems`] gives something different.
    pub problems_differ: bool,
}

impl World {
    /// A World without Objects.
    #[must_use]
    pub fn new(settings: TranslateSettings) -> Self {
        Self::rebuild(settings, [])
    }

    /// The World of these Objects, computed from nothing: slow, obvious, the oracle of [`step`](Self::step).
    #[must_use]
    pub fn rebuild(
        settings: TranslateSettings,
        objects: impl IntoIterator<Item = Arc<Object>>,
    ) -> Self {
        let mut world = Self {
            settings: Arc::new(settings),
            objects: Objects::default(),
            memo: Memo::default(),
            problems: imbl::OrdMap::new(),
            faulty: imbl::OrdMap::new(),
            left_out: imbl::OrdMap::new(),
            snapshot: Snapshot::default(),
        };
        for object in objects {
            world.take(&Change::Upsert(object));
        }
        let mut roots = BTreeSet::from([Query::Fleet]);
        roots.extend(world.objects.iter().flat_map(|object| roots_of(&object.key)));
        for root in &roots {
            world.memo.answer(root, &world.settings, &world.objects);
        }
        let empty = Memo::default();
        let asked = world.memo.settle(BTreeSet::new(), &world.settings, &world.objects);
        world.finish(&empty, &asked).world
    }

    /// The World after `changes`, which are taken over together.
    ///
    /// EndpointSlices are passed over: see [`crate::endpoints`].
    #[must_use]
    pub fn step(&self, changes: &[Change]) -> Step {
        let mut world = self.clone();
        let mut dirty = BTreeSet::new();
        for change in changes {
            let reads = world.take(change);
            dirty.extend(reads.iter().flat_map(|read| world.memo.readers_of(read, &world.objects)));
            // Where it was read may be different all the same, and Problems name that.
            let roots = roots_of(change.key()).into_iter();
            dirty.extend(
                roots.filter(|root| !reads.is_empty() || world.problems.contains_key(root)),
            );
        }
        let asked = world.memo.settle(dirty, &world.settings, &world.objects);
        let mut step = world.finish(&self.memo, &asked);
        let own = |change: &Change| {
            let problems = |world: &Self| {
                let object = world.faulty.get(change.key());
                object.map(|object| object.problems.clone()).unwrap_or_default()
            };
            problems(self) != problems(&step.world)
        };
        let with_own: Vec<ObjectKey> =
            changes.iter().filter(|change| own(change)).map(|c| c.key().clone()).collect();
        step.problems_differ |= !with_own.is_empty();
        step.judged.extend(with_own);
        step
    }

    /// Takes one change over; returns what reads differently.
    fn take(&mut self, change: &Change) -> Vec<query::Read> {
        match change.key().kind {
            ObjectKind::EndpointSlice => return Vec::new(),
            ObjectKind::Ingress
            | ObjectKind::IngressClass
            | ObjectKind::Service
            | ObjectKind::Secret
            | ObjectKind::Upstream
            | ObjectKind::ConfigMap
            | ObjectKind::RouteOverride
            | ObjectKind::Fleet => {}
        }
        match change {
            Change::Upsert(object) if tells_itself(&self.settings, object) => {
                self.faulty.insert(object.key.clone(), Arc::clone(object));
            }
            Change::Upsert(_) | Change::Remove(_) => {
                self.faulty.remove(change.key());
            }
        }
        self.objects.apply(change)
    }

    /// Puts what `asked` gave into Snapshot and Problems.
    fn finish(mut self, before: &Memo, asked: &BTreeSet<Query>) -> Step {
        let mut changes = Changes::default();
        let mut judged = BTreeSet::new();
        let mut problems_differ = false;
        for query in asked {
            let (old, new) = (before.get(query), self.memo.get(query));
            if old == new {
                continue;
            }
            collect(&mut changes, old, new);
            let problems = new.map_or(&[][..], Answer::problems);
            if old.map_or(&[][..], Answer::problems) != problems {
                problems_differ = true;
                judged.extend(object_of(query));
            }
            if standing(old) != standing(new) {
                judged.extend(object_of(query));
            }
            if problems.is_empty() {
                self.problems.remove(query);
            } else {
                self.problems.insert(query.clone(), problems.into());
            }
        }
        // A root may move from one answer to another: what one has given up, another may give.
        let Changes { roots, gone, .. } = &mut changes;
        gone.retain(|key| !roots.contains_key(key));
        let memo = &self.memo;
        let Assembled { snapshot, changed, left_out } =
            assemble::assemble(&self.snapshot, &changes, &|key| supply(memo, &self.settings, key));
        self.snapshot = snapshot;
        for key in changes.roots.keys().chain(&changes.gone) {
            self.left_out.remove(key);
        }
        for (key, error) in left_out {
            problems_differ = true;
            self.left_out.insert(key.clone(), misfit(&key, &error.to_string()));
        }
        Step { world: self, changed, judged, problems_differ }
    }
}

/// What is known, for those who publish, report and answer questions.
impl World {
    /// The Snapshot of `fleet`; none for a fleet that is not this World's.
    #[must_use]
    pub fn snapshot(&self, fleet: &FleetName) -> Option<&Snapshot> {
        (*fleet == self.settings.fleet).then_some(&self.snapshot)
    }

    /// The Snapshot of the fleet that this World is of.
    #[must_use]
    pub fn own_snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The settings that everything is translated by.
    #[must_use]
    pub fn settings(&self) -> &TranslateSettings {
        &self.settings
    }

    /// The Object of `key`.
    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// The RouteOverrides that are for `target`, the oldest first.
    pub(crate) fn overrides(&self, target: &Target) -> Vec<Arc<Object>> {
        let members = self.objects.members(&Group::Overrides(target.clone()));
        members.filter_map(|key| self.objects.get(key)).cloned().collect()
    }

    /// All Objects by key, without EndpointSlices.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.iter()
    }

    /// Everything that is wrong with any Object.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let answers = self.problems.values().flat_map(|problems| problems.iter());
        let own = self.faulty.values().flat_map(|object| object.problems.iter());
        answers.chain(own).chain(self.left_out.values())
    }

    /// What became of the Ingress of `key`; none if there is no such Ingress.
    #[must_use]
    pub fn verdict(&self, key: &ObjectKey) -> Option<Verdict<'_>> {
        if key.kind != ObjectKind::Ingress {
            return None;
        }
        self.memo.get(&Query::Fragment(key.clone())).and_then(verdict_of)
    }

    /// What became of every Ingress, by key.
    pub fn verdicts(&self) -> impl Iterator<Item = (&ObjectKey, Verdict<'_>)> {
        let first = Query::Fragment(ObjectKey::new(ObjectKind::Ingress, "", ""));
        self.memo.from(first).filter_map(|(query, answer)| match query {
            Query::Fragment(key) if key.kind == ObjectKind::Ingress => {
                Some((key, verdict_of(answer)?))
            }
            Query::Fragment(_)
            | Query::Classless
            | Query::Certificate(_)
            | Query::Authorities(_)
            | Query::Credentials(_)
            | Query::PortNumber(..)
            | Query::Backend(_)
            | Query::Winner(_)
            | Query::Oldest(_)
            | Query::Host(_)
            | Query::Fleet
            | Query::Override(_) => None,
        })
    }

    /// Every Upstream, by key.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.of_kind(ObjectKind::Upstream)
    }

    /// What is wrong with the Upstream of `key`.
    pub(crate) fn problems_of_upstream(&self, key: &ObjectKey) -> impl Iterator<Item = &Problem> {
        let backend = Query::Backend(BackendId { object: key.clone(), port: None });
        let queries = [backend, Query::Fragment(key.clone())];
        let told = queries.into_iter().filter_map(|query| self.problems.get(&query));
        told.flat_map(|problems| problems.iter())
    }

    /// The Secrets and ConfigMaps that something of ours names, whether they exist or not.
    #[must_use]
    pub fn referenced(&self) -> BTreeSet<ObjectKey> {
        let first = Query::Certificate(ObjectKey::new(ObjectKind::Ingress, "", ""));
        let queries = self.memo.from(first).map(|(query, _)| query);
        queries
            .map_while(|query| match query {
                Query::Certificate(key) | Query::Authorities(key) | Query::Credentials(key) => {
                    Some(key.clone())
                }
                Query::Classless
                | Query::PortNumber(..)
                | Query::Backend(_)
                | Query::Winner(_)
                | Query::Oldest(_)
                | Query::Host(_)
                | Query::Fleet
                | Query::Override(_)
                | Query::Fragment(_) => None,
            })
            .collect()
    }

    /// The private key of a Certificate of the Snapshot.
    #[must_use]
    pub fn secret(&self, id: &CertificateId) -> Option<(SecretId, Secret)> {
        let key: ObjectKey = id.as_str().parse().ok()?;
        match self.memo.get(&Query::Certificate(key))? {
            Answer::Certificate(chain) => match &**chain {
                Chain::Usable { part: AnyPart::Certificate(_, part), secret } => {
                    Some((part.value().key.clone(), secret.clone()))
                }
                Chain::Usable { .. } | Chain::Unusable(_) => None,
            },
            Answer::Classless(_)
            | Answer::Authorities(_)
            | Answer::Credentials(_)
            | Answer::PortNumber(_)
            | Answer::Backend(_)
            | Answer::Winner(_)
            | Answer::Oldest(_)
            | Answer::Host(_)
            | Answer::Fleet(_)
            | Answer::Override(_)
            | Answer::Fragment(_) => None,
        }
    }

    /// The private keys of the Certificates in `delta`, and what the Filters of its Routes need.
    #[must_use]
    pub fn secrets_of(&self, delta: &Delta) -> Vec<(SecretId, Secret)> {
        let mut secrets: BTreeMap<SecretId, Secret> = BTreeMap::new();
        for part in &delta.upserts {
            match part {
                AnyPart::Certificate(id, _) => secrets.extend(self.secret(id)),
                AnyPart::Route(_, part) => {
                    for id in part.value().filters.iter().filter_map(Filter::secret) {
                        if !secrets.contains_key(id) {
                            secrets.extend(self.credential(id).map(|found| (id.clone(), found)));
                        }
                    }
                }
                AnyPart::Listener(..)
                | AnyPart::Policy(..)
                | AnyPart::Backend(..)
                | AnyPart::ServerName(..) => {}
            }
        }
        secrets.into_iter().collect()
    }

    /// What a Filter of the Snapshot means by `id`.
    fn credential(&self, id: &SecretId) -> Option<Secret> {
        match self.memo.get(&Query::Credentials(credential::key_of(id)?))? {
            Answer::Credentials(held) => held.of(id).cloned(),
            Answer::Classless(_)
            | Answer::Certificate(_)
            | Answer::Authorities(_)
            | Answer::PortNumber(_)
            | Answer::Backend(_)
            | Answer::Winner(_)
            | Answer::Oldest(_)
            | Answer::Host(_)
            | Answer::Fleet(_)
            | Answer::Override(_)
            | Answer::Fragment(_) => None,
        }
    }
}

fn verdict_of(answer: &Answer) -> Option<Verdict<'_>> {
    match answer {
        Answer::Fragment(fragment) => Some(match fragment.claim {
            Claim::Ours => Verdict::Ours { problems: &fragment.problems },
            Claim::Foreign => Verdict::Foreign,
        }),
        Answer::Classless(_)
        | Answer::Certificate(_)
        | Answer::Authorities(_)
        | Answer::Credentials(_)
        | Answer::PortNumber(_)
        | Answer::Backend(_)
        | Answer::Winner(_)
        | Answer::Oldest(_)
        | Answer::Host(_)
        | Answer::Fleet(_)
        | Answer::Override(_) => None,
    }
}

/// Whose an Ingress is; none if there is no such Ingress.
fn standing(answer: Option<&Answer>) -> Option<Claim> {
    answer.and_then(verdict_of).map(|verdict| match verdict {
        Verdict::Foreign => Claim::Foreign,
        Verdict::Ours { .. } => Claim::Ours,
    })
}

/// The queries that are asked for the sake of an Object alone.
fn roots_of(key: &ObjectKey) -> Vec<Query> {
    let fragment = || Query::Fragment(key.clone());
    match key.kind {
        ObjectKind::Ingress => vec![fragment()],
        ObjectKind::Upstream => {
            vec![Query::Backend(BackendId { object: key.clone(), port: None }), fragment()]
        }
        ObjectKind::RouteOverride => vec![Query::Override(key.clone())],
        ObjectKind::IngressClass
        | ObjectKind::Service
        | ObjectKind::EndpointSlice
        | ObjectKind::Secret
        | ObjectKind::ConfigMap
        | ObjectKind::Fleet => Vec::new(),
    }
}

/// The Object that the Problems of an answer are about.
fn object_of(query: &Query) -> Option<ObjectKey> {
    match query {
        Query::Fragment(key)
        | Query::Override(key)
        | Query::Certificate(key)
        | Query::Authorities(key)
        | Query::Credentials(key)
        | Query::PortNumber(key, _) => Some(key.clone()),
        Query::Backend(id) => Some(id.object.clone()),
        Query::Classless | Query::Winner(_) | Query::Oldest(_) | Query::Host(_) | Query::Fleet => {
            None
        }
    }
}

/// Whether the Problems that a source found in an Object are told although no answer tells them.
///
/// Those of an Ingress are told by its Fragment, and only if it is ours.
fn tells_itself(settings: &TranslateSettings, object: &Object) -> bool {
    let is_told = match &object.body {
        Body::Ingress(_) | Body::EndpointSlice(_) => false,
        Body::IngressClass(class) => class.controller == settings.controller,
        // Nobody has to answer for what else a ConfigMap holds.
        Body::ConfigMap(_) => false,
        Body::Service(_)
        | Body::Secret(_)
        | Body::Upstream(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => true,
    };
    is_told && !object.problems.is_empty()
}

fn collect(changes: &mut Changes, old: Option<&Answer>, new: Option<&Answer>) {
    let roots = |answer: Option<&Answer>| answer.map_or(&[][..], Answer::roots).to_vec();
    changes.gone.extend(roots(old).iter().map(AnyPart::key));
    changes.roots.extend(roots(new).into_iter().map(|part| (part.key(), part)));
    let supplies = |answer: Option<&Answer>| answer.map_or(&[][..], Answer::supplies).to_vec();
    let touched = supplies(old).into_iter().chain(supplies(new));
    changes.supplies.extend(touched.map(|part| part.key()));
}

/// The Part of `key` among those that roots may point at.
fn supply(memo: &Memo, settings: &TranslateSettings, key: &PartKey) -> Option<AnyPart> {
    let query = match key {
        PartKey::Backend(id) => Query::Backend(id.clone()),
        PartKey::Certificate(id) => Query::Certificate(id.as_str().parse().ok()?),
        PartKey::Policy(id) if id == settings.policy() => Query::Fleet,
        PartKey::Policy(id) => Query::Fragment(overrides::object_of_policy(id)?),
        PartKey::Listener(_) | PartKey::ServerName(_) | PartKey::Route(_) => {
            return None;
        }
    };
    let supplies = memo.get(&query)?.supplies();
    supplies.iter().find(|part| part.key() == *key).cloned()
}

fn misfit(key: &PartKey, error: &str) -> Problem {
    let subject = match key {
        PartKey::Route(id) => Subject::Object(id.object.clone()),
        PartKey::Backend(id) => Subject::Object(id.object.clone()),
        PartKey::Listener(_)
        | PartKey::Policy(_)
        | PartKey::Certificate(_)
        | PartKey::ServerName(_) => Subject::Other(key.to_string()),
    };
    Problem {
        subject,
        field: String::new(),
        code: REJECTED,
        message: format!("{key} cannot be put into a snapshot: {error}"),
        remedy: "report this: it is a fault of Kubeng".to_owned(),
        provenance: None,
    }
}

#[cfg(test)]
mod tests;
