//! Questions about what runs.

use std::ops::ControlFlow;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kubeng_config::canonical::Digest;
use kubeng_config::delta::PartKey;
use kubeng_config::heartbeat::{FileState, LastKnownGood};
use kubeng_config::snapshot::Snapshot;
use kubeng_controller::distribution::{FromReplica, ProbeRequest, Question, Reply};
use kubeng_proxy::{Lookup, ProxyFacts};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::Agent;

/// How many questions are answered at a time; more get no answer.
const QUESTIONS_MAX: usize = 4;

impl Agent {
    /// Answers at once, or begins to find out.
    pub(super) fn ask(&mut self, id: u64, question: Question) -> Option<FromReplica> {
        if self.asked.len() >= QUESTIONS_MAX {
            let reply = Err("the replica is busy with other questions; ask again".to_owned());
            return Some(FromReplica::Reply { id, reply });
        }
        let facts = self.facts.clone();
        match question {
            Question::Parts => {
                self.asked.spawn_blocking(move || {
                    let (parts, endpoints) = facts.parts();
                    (id, Ok(Reply::Parts { parts, endpoints }))
                });
                None
            }
            Question::Probe(requests) => {
                let reply: Result<Vec<Lookup>, String> = requests.iter().map(lookup).collect();
                let found =
                    |asked: Vec<Lookup>| asked.iter().map(|one| facts.route_of(one)).collect();
                let reply = reply.map(|asked| Reply::Probe(found(asked)));
                Some(FromReplica::Reply { id, reply })
            }
            Question::Heal => match self.heal() {
                Ok(()) => {
                    let file = self.keeping.as_ref().map(|keeping| keeping.state.clone());
                    self.asked.spawn(async move { (id, healed(facts, file).await) });
                    None
                }
                Err(reason) => Some(FromReplica::Reply { id, reply: Err(reason) }),
            },
        }
    }

    /// Builds what it runs anew, ends emergency changes, and writes what it keeps again.
    fn heal(&mut self) -> Result<(), String> {
        self.emergency = None;
        match self.writer.heal() {
            Ok(applied) => {
                info!(digest = %applied.digest.short(), "healed: all is built anew");
                self.note_ports(applied.unbound.iter().map(super::known::unbound).collect());
                self.known.damaged.clear();
                self.walking.rebuilt();
                self.keep_anew();
                Ok(())
            }
            Err(rejection) => {
                let reason = format!("{:#}", anyhow::Error::new(rejection));
                warn!(%reason, "cannot heal");
                Err(reason)
            }
        }
    }
}

/// What runs after a heal, once the file is what it should be, too: nothing that is told from then on
/// says otherwise.
async fn healed(
    facts: ProxyFacts,
    file: Option<watch::Receiver<Option<LastKnownGood>>>,
) -> Result<Reply, String> {
    if let Some(mut file) = file {
        let written = file.wait_for(|kept| !kept.as_ref().is_some_and(is_altered));
        // Where nobody writes any more the process ends.
        let is_in_time = timeout(WRITTEN_WITHIN, written).await.is_ok();
        if !is_in_time {
            return Err("what it keeps on disk is not written anew".to_owned());
        }
    }
    let walk = move || facts.walk(|| ControlFlow::Continue(()));
    let walked = tokio::task::spawn_blocking(walk).await.ok().flatten();
    let walked = walked.ok_or_else(|| "the walk did not end".to_owned())?;
    Ok(Reply::Healed(walked.digest))
}

fn is_altered(kept: &LastKnownGood) -> bool {
    match kept.file {
        FileState::Altered(_) => true,
        FileState::Intact | FileState::Unwritable(_) => false,
    }
}

/// How long it may take to write anew what is kept on disk.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

/// Waits for the next answer that took a while. Cancel safe.
pub(super) async fn replied(asked: &mut JoinSet<(u64, Result<Reply, String>)>) -> FromReplica {
    loop {
        match asked.join_next().await {
            Some(Ok((id, reply))) => return FromReplica::Reply { id, reply },
            Some(Err(panicked)) => error!(error = %panicked, "a question has no answer"),
            None => std::future::pending().await,
        }
    }
}

/// Keys and digests of what is served.
pub(super) fn holdings(snapshot: &Snapshot) -> Vec<(PartKey, Digest)> {
    let mut all = Vec::new();
    macro_rules! collect {
        ($($map:ident as $kind:ident),*) => {$(
            for (id, part) in snapshot.$map().iter() {
                all.push((PartKey::$kind(id.clone()), part.digest()));
            }
        )*};
    }
    collect!(
        listeners as Listener,
        policies as Policy,
        backends as Backend,
        certificates as Certificate,
        server_names as ServerName,
        routes as Route
    );
    all
}

fn lookup(request: &ProbeRequest) -> Result<Lookup, String> {
    let ProbeRequest { listener, method, host, target, headers } = request;
    let method: Method = method.parse().map_err(|_| format!("{method:?} is no method"))?;
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        let wrong = || format!("{name:?} is no header field with a value");
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        fields.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    let (listener, host, target) = (listener.clone(), host.clone(), target.clone());
    Ok(Lookup { listener, method, host, target, headers: fields })
}
