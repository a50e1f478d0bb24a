//! Carries out errands: requests of our own to Backends, over connections of their own pool.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header;
use http::{HeaderValue, Method, StatusCode, Uri};
use kubeng_config::filter::error_pages::PageSource;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failure::of_connect;
use super::peer::peer;
use crate::backend::choice::Wish;
use crate::backend::tls::failure::{self, TlsFailure};
use crate::errand::alone::{self, Lost};
use crate::errand::{Errand, Fetched};
use crate::filter::{Question, Told, error_pages};
use crate::forward;
use crate::forward::tries::{self, Failure, Try};
use crate::listener::facts::ConnFacts;
use crate::metrics::WorkerMetrics;
use crate::pipeline::{self, Begin, Pending};
use crate::reply::Page;
use crate::request::{Incoming, RequestContext};
use crate::shared::Shared;
use crate::table::Table;

/// Sends errands for one worker.
pub(crate) struct Errands {
    connector: Connector,
    shared: Arc<Shared>,
    metrics: Arc<WorkerMetrics>,
    /// How many copies may be on their way.
    copies: Arc<Semaphore>,
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Errands {
    pub(super) fn new(shared: Arc<Shared>, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            connector: Connector::new(None),
            shared,
            metrics,
            copies: Arc::new(Semaphore::new(COPIES_MAX)),
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Sends a copy of a request; nobody waits for it. Without one, or without room, it is counted
    /// as dropped.
    pub(crate) fn send(self: Arc<Self>, copy: Option<Errand>) {
        let place = self.copies.clone().try_acquire_owned();
        let (Some(copy), Ok(place)) = (copy, place) else {
            return self.metrics.mirrors_dropped.add(1);
        };
        self.metrics.mirrors.add(1);
        let this = self.clone();
        self.tasks.spawn(async move {
            let _place = place;
            let fetched = this.ended.run_until_cancelled(this.fetch(&copy)).await;
            if !matches!(fetched, Some(Some(_))) {
                this.metrics.mirrors_dropped.add(1);
            }
        });
    }

    /// Asks until there is nothing to ask any more.
    pub(crate) async fn ask(
        &self,
        table: &Table,
        incoming: &Incoming<'_>,
        facts: &ConnFacts,
        now: (Instant, SystemTime),
        (mut question, mut pending): (Question, Box<Pending>),
        ctx: &mut RequestContext,
    ) -> Begin {
        loop {
            let told = match question {
                Question::Password(attempt) => {
                    Told::Password(self.shared.passwords.check(attempt).await)
                }
                Question::Permission(inquiry) => {
                    // Who has no place is answered like who got no answer.
                    let place = inquiry.gate.try_acquire();
                    Told::Permission(match place {
                        Ok(_place) => self.fetch(&inquiry.errand).await,
                        Err(_) => None,
                    })
                }
            };
            match pipeline::resume(table, incoming, facts, now, (pending, told), ctx) {
                Begin::Ask(next, waits) => (question, pending) = (next, waits),
                begin @ (Begin::Forward | Begin::Reply(_) | Begin::Refuse(_)) => return begin,
            }
        }
    }

    /// Ends copies that are on their way: they are worth no wait.
    pub(super) async fn end(&self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The complete answer to `errand`; None when there is none in time.
    pub(crate) async fn fetch(&self, errand: &Errand) -> Option<Fetched> {
        timeout(errand.timeout, self.tries(errand)).await.ok()?.ok()
    }

    /// The page that the Route has for `status`; `asked` is the target of the request and what it
    /// accepts. None where it has none, or nobody makes it in time.
    pub(crate) async fn page(
        &self,
        ctx: &RequestContext,
        status: StatusCode,
        (uri, accept): (&str, Option<&HeaderValue>),
    ) -> Option<Page> {
        let id = match pipeline::error_page(ctx, status)? {
            PageSource::Inline { content_type, body } => {
                return Some(error_pages::inline(&content_type.0, body.as_str()));
            }
            PageSource::Backend(id) => id,
        };
        let backend = self.shared.table.load().backends.get(id)?.clone();
        let extra = ctx.extra.as_ref();
        let told = error_pages::Told {
            status,
            uri,
            host: ctx.authority.as_ref(),
            accept,
            request_id: extra.and_then(|extra| extra.request_id.as_ref()).map(|id| &id.value),
        };
        error_pages::page(self.fetch(&error_pages::errand(backend, told)).await?)
    }

    async fn tries(&self, errand: &Errand) -> Result<Fetched> {
        let backend = &errand.backend;
        let mut failed = Vec::new();
        for _ in 0..TRIES_MAX {
            if backend.tls.is_unusable() {
                break;
            }
            let setting = self.shared.setting();
            let Ok(in_flight) = backend.choose(Wish::default(), &failed, setting) else { break };
            let member = &in_flight.0;
            if backend.tls.is_special() {
                // The engine would leave out what it cannot do.
                match alone::fetch(errand, member.address).await {
                    Ok(fetched) => {
                        member.answered();
                        return Ok(fetched);
                    }
                    Err(Lost::Answer) => break,
                    Err(Lost::Connect) => {
                        member.avoid(setting.since_start);
                        failed.push(member.address);
                        continue;
                    }
                }
            }
            let to = Try {
                address: member.address,
                backend: backend.clone(),
                connection_key: tries::connection_key(backend, member),
                connect: errand.timeout,
                read: errand.timeout,
                write: errand.timeout,
            };
            let peer = peer(&self.shared.limits, &to, None);
            let (mut session, is_reused) = match self.connector.get_http_session(&peer).await {
                Ok(session) => session,
                Err(error) => {
                    if of_connect(&error) == Failure::Tls {
                        let told = TlsFailure::Elsewhere(error.root_cause().to_string());
                        failure::tell(backend, member.address, &told);
                    }
                    member.avoid(setting.since_start);
                    failed.push(member.address);
                    continue;
                }
            };
            in_flight.connected();
            match exchange(&mut session, errand).await {
                Ok(fetched) => {
                    member.answered();
                    let idle = Some(self.shared.limits.pool_idle);
                    self.connector.release_http_session(session, &peer, idle).await;
                    return Ok(fetched);
                }
                // The Endpoint may have closed a connection that idled.
                Err(_) if is_reused && errand.method.is_idempotent() => session.shutdown().await,
                Err(error) => {
                    session.shutdown().await;
                    return Err(error);
                }
            }
        }
        Err(Error::new(ErrorType::ConnectError))
    }
}

async fn exchange(session: &mut HttpSession, errand: &Errand) -> Result<Fetched> {
    session.set_read_timeout(Some(errand.timeout));
    session.set_write_timeout(Some(errand.timeout));
    session.write_request_header(Box::new(head(errand)?)).await?;
    if !errand.body.is_empty() {
        session.write_request_body(errand.body.clone(), false).await?;
    }
    session.finish_request_body().await?;
    let (status, headers) = final_head(session).await?;
    let mut body = BytesMut::new();
    while let Some(part) = session.read_response_body().await? {
        if body.len() + part.len() > errand.answer_bytes_max {
            return Err(Error::new(ErrorType::InternalError));
        }
        body.extend_from_slice(&part);
    }
    Ok(Fetched { status, headers, body: Bytes::from(body) })
}

async fn final_head(session: &mut HttpSession) -> Result<(http::StatusCode, http::HeaderMap)> {
    for _ in 0..INTERIM_MAX {
        session.read_response_header().await?;
        if let Some(response) = session.response_header()
            && !response.status.is_informational()
        {
            return Ok((response.status, response.headers.clone()));
        }
    }
    Err(Error::new(ErrorType::InvalidHTTPHeader))
}

fn head(errand: &Errand) -> Result<RequestHeader> {
    let Errand { backend, method, target, host, headers, body, .. } = errand;
    let mut head =
        RequestHeader::build(method.clone(), target.as_bytes(), Some(headers.len() + 2))?;
    for (name, value) in headers {
        head.append_header(name.clone(), value.clone())?;
    }
    if let Some(host) = host {
        head.insert_header(header::HOST, host.clone())?;
    }
    let has_length =
        !body.is_empty() || [Method::POST, Method::PUT, Method::PATCH].contains(method);
    if has_length {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    if forward::is_http2(backend.spec.protocol) {
        // There the authority stands in the target (RFC 9113 section 8.3.1).
        let scheme = if backend.spec.tls.is_some() { "https" } else { "http" };
        let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let uri = format!("{scheme}://{host}{target}");
        let uri = uri.parse::<Uri>().map_err(|_| Error::new(ErrorType::InvalidHTTPHeader))?;
        head.set_uri(uri);
        head.remove_header(&header::HOST);
    }
    Ok(head)
}

/// Copies on their way at a time, for each worker; what comes above is dropped.
const COPIES_MAX: usize = 256;
/// Tries of an errand: it may meet one Endpoint that is gone, and one connection that went stale.
const TRIES_MAX: usize = 3;
/// Interim answers before the final one.
const INTERIM_MAX: usize = 8;
