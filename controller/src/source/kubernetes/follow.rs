//! Follows one scope: lists, watches, and begins again after every failure.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kubeng_config::name::ObjectKey;
use kubeng_config::problem::Problem;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Timing;
use super::board::What;
use super::connection::Connection;
use super::failure::{Failure, Verb};
use super::pauses::Pauses;
use super::raw::{Found, Page, Raw};
use super::scope::Scope;

/// What one watch says, and when its bytes had been read.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) scope: Scope,
    pub(crate) what: What,
    /// The `resourceVersion` up to which was read; 0 where it is not known.
    pub(crate) version: u64,
    pub(crate) at: Instant,
}

/// A list that lacks more than this many objects, or all of them, is made a second time, so that
/// the guard against mass removal need not wait for chance.
const LOST_MAX: usize = 10;

/// Whether anything was known of a scope when it began to be followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// Nothing.
    Nothing,
    /// Who followed it before may have told of objects.
    Perhaps,
}

/// Follows `scope` until nobody listens.
pub(crate) async fn follow(
    scope: Scope,
    connection: Arc<Connection>,
    timing: Timing,
    said: mpsc::Sender<Said>,
    before: Known,
) {
    let mut follower = Follower {
        pauses: Pauses::new(timing.pause_min, timing.pause_max),
        scope,
        timing,
        said,
        version: None,
        known: HashSet::new(),
        before,
        has_listed: false,
        list_again_at: None,
        absent_since: None,
        was_silent: false,
        expired_at: None,
    };
    while !follower.said.is_closed() {
        let (number, client) = match connection.client().await {
            Ok(current) => current,
            Err(error) => {
                follower.recover(Failure::of_client(&error)).await;
                continue;
            }
        };
        if let Err(failure) = follower.go_on(&client).await {
            if matches!(failure, Failure::Unknown(_)) {
                connection.forget(number).await;
            }
            follower.recover(failure).await;
        }
    }
}

struct Follower {
    scope: Scope,
    timing: Timing,
    said: mpsc::Sender<Said>,
    pauses: Pauses,
    /// Where to watch from; `None`: list first.
    version: Option<String>,
    /// What the last list held, and what the watch has added since.
    known: HashSet<ObjectKey>,
    before: Known,
    has_listed: bool,
    list_again_at: Option<tokio::time::Instant>,
    /// Since when the server has not had the kind, although objects of it were known.
    absent_since: Option<tokio::time::Instant>,
    /// Whether the last watch said nothing at all.
    was_silent: bool,
    expired_at: Option<Instant>,
}

impl Follower {
    /// Lists if need be, then watches until the watch ends.
    async fn go_on(&mut self, client: &Client) -> Result<(), Failure> {
        if self.was_silent && self.has_gone_back(client).await? {
            self.version = None;
        }
        let version = match &self.version {
            Some(version) => version.clone(),
            None => self.list(client).await?,
        };
        let begun = Instant::now();
        let has_spoken = self.watch(client, version).await?;
        self.was_silent = !has_spoken;
        // A server that ends each watch at once must not be asked in a hurry.
        if !has_spoken && begun.elapsed() < self.timing.pause_min {
            tokio::time::sleep(self.timing.pause_min).await;
        }
        Ok(())
    }

    /// Whether the server is at an earlier version than is watched from: it was restored from a backup.
    /// Then a watch from here would be silent until the server is as far again.
    async fn has_gone_back(&self, client: &Client) -> Result<bool, Failure> {
        let least = ListParams { limit: Some(1), ..self.listed() };
        let page = self.page(client, &least).await?;
        Ok(self.is_behind(&page.metadata.resource_version))
    }

    /// Whether `version` is an earlier one than is watched from.
    fn is_behind(&self, version: &str) -> bool {
        // Versions of one server are numbers that can be compared (KEP-5504).
        let number = |text: &str| text.parse::<u64>().ok();
        let known = self.version.as_deref().and_then(number);
        number(version).zip(known).is_some_and(|(at, known)| at < known)
    }

    /// Lists all pages, tells them together, and gives the version to watch from.
    async fn list(&mut self, client: &Client) -> Result<String, Failure> {
        let mut found = Vec::new();
        let mut next = None;
        let (version, at) = loop {
            let page = ListParams { continue_token: next, ..self.listed() };
            let page = self.page(client, &page).await?;
            let at = Instant::now();
            // Decoded page by page, so that never more than one is held as JSON.
            found.extend(page.items.into_iter().flatten().map(|raw| raw.decode(&self.scope)));
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_none() {
                break (page.metadata.resource_version, at);
            }
        };
        let listed: HashSet<ObjectKey> = found.iter().map(|found| found.key().clone()).collect();
        self.plan_second_list(&listed);
        self.has_listed = true;
        self.absent_since = None;
        self.known = listed;
        self.version = Some(version.clone());
        self.pauses.reset();
        self.say(What::Listed(found), at).await;
        Ok(version)
    }

    /// Says when `listed` is to be confirmed, if the guard may not believe it.
    fn plan_second_list(&mut self, listed: &HashSet<ObjectKey>) {
        let now = tokio::time::Instant::now();
        let was_second = self.list_again_at.is_some_and(|at| at <= now);
        let lost = self.known.difference(listed).count();
        let may_be_held = match (self.has_listed, self.before) {
            (true, _) => lost > LOST_MAX || (lost > 0 && (was_second || listed.is_empty())),
            (false, Known::Perhaps) => true,
            (false, Known::Nothing) => false,
        };
        if may_be_held {
            self.list_again_at = Some(now + self.timing.second_list);
        } else if was_second {
            self.list_again_at = None;
        }
    }

    fn listed(&self) -> ListParams {
        ListParams {
            field_selector: self.scope.field_selector(),
            limit: Some(self.timing.page),
            ..ListParams::default()
        }
    }

    async fn page(&self, client: &Client, parameters: &ListParams) -> Result<Page, Failure> {
        let failed = |error: &kube::Error| Failure::of_request(error, Verb::List, &self.scope);
        let request = Request::new(self.scope.path())
            .list(parameters)
            .map_err(|error| failed(&kube::Error::BuildRequest(error)))?;
        match timeout(self.timing.silence, client.request::<Page>(request)).await {
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(_) => Err(Failure::silent(&self.scope, self.timing.silence)),
        }
    }

    /// Watches until the watch ends, stalls, or the kind is to be listed again.
    /// Tells whether anything was said.
    async fn watch(&mut self, client: &Client, version: String) -> Result<bool, Failure> {
        let parameters = WatchParams {
            field_selector: self.scope.field_selector(),
            timeout: Some(u32::try_from(self.timing.watch.as_secs().max(1)).unwrap_or(55)),
            bookmarks: true,
            ..WatchParams::default()
        };
        let scope = self.scope.clone();
        let failed = |error: &kube::Error| Failure::of_request(error, Verb::Watch, &scope);
        let request = Request::new(self.scope.path())
            .watch(&parameters, &version)
            .map_err(|error| failed(&kube::Error::BuildRequest(error)))?;
        let begun = timeout(self.timing.silence, client.request_events::<Raw>(request)).await;
        let stream = match begun {
            Ok(answer) => answer.map_err(|error| failed(&error))?,
            Err(_) => return Err(Failure::silent(&self.scope, self.timing.silence)),
        };
        self.pauses.reset();
        self.say(What::Healed, Instant::now()).await;
        let mut stream = std::pin::pin!(stream);
        let mut has_spoken = false;
        while let Some(event) = self.next_event(&mut stream).await {
            let at = Instant::now();
            self.take(event.map_err(|error| failed(&error))?, at).await?;
            has_spoken = true;
        }
        Ok(has_spoken)
    }

    /// The next event; `None` when the watch has ended or is to be left: it was
    /// silent for too long, or a second list is due.
    async fn next_event<S, E>(&mut self, stream: &mut S) -> Option<Result<WatchEvent<Raw>, E>>
    where
        S: Stream<Item = Result<WatchEvent<Raw>, E>> + Unpin,
    {
        let silent_at = tokio::time::Instant::now() + self.timing.silence;
        let list_again_at = self.list_again_at;
        let leave_at = list_again_at.map_or(silent_at, |at| at.min(silent_at));
        match tokio::time::timeout_at(leave_at, stream.next()).await {
            Ok(event) => event,
            Err(_) => {
                if list_again_at.is_some_and(|at| at <= tokio::time::Instant::now()) {
                    self.version = None;
                }
                None
            }
        }
    }

    async fn take(&mut self, event: WatchEvent<Raw>, at: Instant) -> Result<(), Failure> {
        match event {
            WatchEvent::Added(raw) | WatchEvent::Modified(raw) => {
                self.note_version(raw.version())?;
                let found: Found = raw.decode(&self.scope);
                self.known.insert(found.key().clone());
                self.say(What::Changed(found), at).await;
            }
            WatchEvent::Deleted(raw) => {
                self.note_version(raw.version())?;
                let key = raw.key(&self.scope);
                self.known.remove(&key);
                self.say(What::Gone(key), at).await;
            }
            WatchEvent::Bookmark(bookmark) => {
                self.note_version(&bookmark.metadata.resource_version)?;
                self.say(What::Healed, at).await;
            }
            WatchEvent::Error(status) => {
                return Err(Failure::of_status(&status, Verb::Watch, &self.scope));
            }
        }
        Ok(())
    }

    /// Versions only grow, unless the server was restored from a backup: then all is read again.
    fn note_version(&mut self, version: &str) -> Result<(), TurnedBack> {
        if self.is_behind(version) {
            return Err(TurnedBack);
        }
        if !version.is_empty() {
            self.version = Some(version.to_owned());
        }
        Ok(())
    }

    /// Tells of a failure and waits as long as it asks for.
    async fn recover(&mut self, failure: Failure) {
        let now = Instant::now();
        let pause = self.pauses.after(&failure);
        let pause = match failure {
            Failure::Expired => {
                // The first list comes at once; what expires again soon has to wait.
                self.version = None;
                let former = self.expired_at.replace(now);
                let is_again = former.is_some_and(|at| at.elapsed() < self.timing.pause_max);
                if is_again { pause } else { Duration::ZERO }
            }
            Failure::Absent(problem) => self.note_absent(problem, pause).await,
            Failure::Unknown(problem) => {
                self.say(What::Failed(problem), now).await;
                pause
            }
            Failure::Forbidden(problem) => {
                self.say(What::Denied(problem), now).await;
                pause
            }
            Failure::Other(problem, wait) => {
                self.say(What::Failed(problem), now).await;
                wait.map_or(pause, |wait| wait.max(pause))
            }
        };
        tokio::time::sleep(pause).await;
    }

    /// Tells that the server does not have the kind; gives how long to wait.
    ///
    /// Where objects of it were known that is a failure at first, since a server that starts does not
    /// know all kinds yet. It is believed when it lasts as long as the guard wants.
    async fn note_absent(&mut self, problem: Problem, pause: Duration) -> Duration {
        let now = tokio::time::Instant::now();
        self.version = None;
        let was_there = !self.known.is_empty()
            || self.list_again_at.is_some()
            || (self.before == Known::Perhaps && !self.has_listed);
        let since = *self.absent_since.get_or_insert(now);
        let believed_at = since + self.timing.second_list;
        if was_there && now < believed_at {
            self.say(What::Doubted(problem), Instant::now()).await;
            return pause.min(believed_at.saturating_duration_since(now));
        }
        self.known.clear();
        self.list_again_at = None;
        self.absent_since = None;
        self.before = Known::Nothing;
        self.say(What::Listed(Vec::new()), Instant::now()).await;
        self.timing.absent
    }

    async fn say(&self, what: What, at: Instant) {
        // Versions of one server are numbers that can be compared (KEP-5504).
        let version = self.version.as_deref().and_then(|version| version.parse().ok());
        let version = version.unwrap_or_default();
        let said = Said { scope: self.scope.clone(), what, version, at };
        // When nobody listens any more, the loop ends.
        let _ = self.said.send(said).await;
    }
}

/// The server tells of an earlier state than it did before.
struct TurnedBack;

impl From<TurnedBack> for Failure {
    fn from(TurnedBack: TurnedBack) -> Self {
        Self::Expired
    }
}
