//! Carries out Filters, in the order in which they are listed. One arm for each kind.

pub(crate) mod basic_auth;
pub(crate) mod body_limit;
pub(crate) mod buffering;
pub(crate) mod client_address;
pub(crate) mod compression;
pub(crate) mod concurrency_limit;
pub(crate) mod cors;
pub(crate) mod error_pages;
pub(crate) mod external_auth;
pub(crate) mod headers;
pub(crate) mod jwt;
pub(crate) mod maintenance;
pub(crate) mod mirror;
pub(crate) mod rate_limit;
pub(crate) mod redirect;
pub(crate) mod request_id;
pub(crate) mod rewrite;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use std::time::{Instant, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use kubeng_config::authority::Authority;
use kubeng_config::filter::Filter;
use kubeng_config::matching::PathPrefix;
use kubeng_config::request::Scheme;

use crate::errand::Fetched;
use crate::listener::facts::ConnFacts;
use crate::reply::Reply;
use crate::request::{Extra, Fields};
use crate::table::{CompiledRoute, Table};
use rewrite::Rewritten;
use state::State;

/// What a request asks for, in the form in which it was matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) authority: Option<&'a Authority>,
    /// The authority as the client wrote it.
    pub(crate) host: Option<&'a HeaderValue>,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    /// The prefix that was matched, if a prefix was.
    pub(crate) matched: Option<&'a PathPrefix>,
    pub(crate) is_upgrade: bool,
    /// How the client itself asks, also behind a proxy.
    pub(crate) scheme: Scheme,
    pub(crate) facts: &'a ConnFacts,
    pub(crate) now: Instant,
    pub(crate) at: SystemTime,
}

/// How a request goes on behind one Filter.
#[derive(Debug)]
pub(crate) enum Step {
    /// To the next one.
    Pass,
    /// With an answer of ours.
    Reply(Reply),
    /// With [`resume`], once the answer to this is there.
    Ask(Question),
}

impl Step {
    /// An answer that is only a status.
    pub(crate) fn status(status: StatusCode) -> Self {
        Self::Reply(Reply::of(status))
    }
}

/// What takes time to find out. The pipeline never waits: the engine asks.
#[derive(Debug)]
pub(crate) enum Question {
    /// Whether a password is right.
    Password(basic_auth::Attempt),
    /// Whether somebody else lets a request pass.
    Permission(Box<external_auth::Inquiry>),
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub(crate) enum Told {
    Password(basic_auth::Checked),
    /// None when there was no answer in time.
    Permission(Option<Fetched>),
}

/// How far a request has come through the Filters of its Route.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    next: usize,
    pub(crate) rewritten: Rewritten,
}

/// Runs the Filters from where `progress` stands. The first answer or question ends the run.
pub(crate) fn on_request(
    route: &CompiledRoute,
    progress: &mut Progress,
    target: &Target<'_>,
    table: &Table,
    extra: &mut Option<Box<Extra>>,
) -> Step {
    while let Some(filter) = route.route.filters.get(progress.next) {
        let state = route.states.get(progress.next).unwrap_or(&State::None);
        progress.next += 1;
        let step = run(filter, state, progress, target, table, extra);
        if !matches!(step, Step::Pass) {
            return step;
        }
    }
    Step::Pass
}

fn run(
    filter: &Filter,
    state: &State,
    progress: &mut Progress,
    target: &Target<'_>,
    table: &Table,
    extra: &mut Option<Box<Extra>>,
) -> Step {
    let backend = |id| table.backends.get(id);
    match (filter, state) {
        (Filter::Redirect(redirect), _) => redirect::on_request(redirect, target),
        (Filter::Maintenance(wanted), _) => Step::Reply(maintenance::reply(wanted)),
        (Filter::Rewrite(rewrite), _) => progress.rewritten.apply(rewrite, target),
        (Filter::Cors(cors), _) => cors::on_request(cors, target, noted(extra)),
        (Filter::ClientAddress(rule), _) => client_address::on_request(rule, target),
        (Filter::BodyLimit(limit), _) => body_limit::on_request(limit, target, noted(extra)),
        (Filter::Buffering(rule), _) => buffering::on_request(rule, target, noted(extra)),
        (Filter::RequestId(ids), _) => request_id::on_request(ids, target.at, target, noted(extra)),
        (Filter::RateLimit(limit), State::Buckets(buckets)) => {
            rate_limit::on_request(limit, buckets, target)
        }
        (Filter::ConcurrencyLimit(limit), State::Counts(counts)) => {
            concurrency_limit::on_request(limit, counts, target, noted(extra))
        }
        (Filter::BasicAuth(auth), State::Users(users)) => {
            basic_auth::on_request(auth, users.as_ref(), target, noted(extra))
        }
        (Filter::Jwt(jwt), State::Key(key)) => {
            let keys = jwt::Keys::of(jwt, key.as_ref());
            jwt::on_request(jwt, keys.as_ref(), target.at, target, noted(extra))
        }
        (Filter::Jwt(jwt), State::KeySet(set)) => {
            let keys = jwt::Keys::fetched(set);
            jwt::on_request(jwt, keys.as_ref(), target.at, target, noted(extra))
        }
        (Filter::ExternalAuth(auth), State::Gate(gate)) => {
            external_auth::on_request(auth, gate, backend(&auth.backend), target)
        }
        (Filter::Mirror(mirror), State::Share(share)) => {
            mirror::on_request(mirror, share, backend(&mirror.backend), target, noted(extra))
        }
        (
            Filter::RequestHeaders(_)
            | Filter::ResponseHeaders(_)
            | Filter::Compression(_)
            | Filter::ErrorPages(_),
            _,
        ) => Step::Pass,
        // The state of a Filter is made with its Route; were it not, nobody would pass.
        (
            Filter::RateLimit(_)
            | Filter::ConcurrencyLimit(_)
            | Filter::BasicAuth(_)
            | Filter::Jwt(_)
            | Filter::ExternalAuth(_)
            | Filter::Mirror(_),
            _,
        ) => Step::status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// What Filters noted; made only where it is needed, so that most requests have none.
fn noted(extra: &mut Option<Box<Extra>>) -> &mut Extra {
    extra.get_or_insert_default()
}

/// Goes on behind the Filter that asked, first by itself and then with those behind it.
pub(crate) fn resume(
    route: &CompiledRoute,
    progress: &mut Progress,
    told: Told,
    target: &Target<'_>,
    table: &Table,
    extra: &mut Option<Box<Extra>>,
) -> Step {
    let asked = progress.next.checked_sub(1).and_then(|at| route.route.filters.get(at));
    let noted = noted(extra);
    let step = match asked {
        Some(Filter::BasicAuth(auth)) => basic_auth::resume(auth, told, target, noted),
        Some(Filter::ExternalAuth(auth)) => external_auth::resume(auth, told, noted),
        Some(
            Filter::RequestHeaders(_)
            | Filter::ResponseHeaders(_)
            | Filter::Redirect(_)
            | Filter::Rewrite(_)
            | Filter::Cors(_)
            | Filter::ClientAddress(_)
            | Filter::RateLimit(_)
            | Filter::ConcurrencyLimit(_)
            | Filter::Jwt(_)
            | Filter::BodyLimit(_)
            | Filter::Buffering(_)
            | Filter::RequestId(_)
            | Filter::Mirror(_)
            | Filter::Compression(_)
            | Filter::ErrorPages(_)
            | Filter::Maintenance(_),
        )
        | None => Step::status(StatusCode::INTERNAL_SERVER_ERROR),
    };
    match step {
        Step::Pass => on_request(route, progress, target, table, extra),
        Step::Reply(_) | Step::Ask(_) => step,
    }
}

/// Whether a Filter looks at bodies, or puts others in their place.
pub(crate) fn touches_bodies(filter: &Filter) -> bool {
    match filter {
        Filter::BodyLimit(_)
        | Filter::Buffering(_)
        | Filter::Mirror(_)
        | Filter::Compression(_)
        | Filter::ErrorPages(_) => true,
        Filter::RequestHeaders(_)
        | Filter::ResponseHeaders(_)
        | Filter::Redirect(_)
        | Filter::Rewrite(_)
        | Filter::Cors(_)
        | Filter::ClientAddress(_)
        | Filter::RateLimit(_)
        | Filter::ConcurrencyLimit(_)
        | Filter::BasicAuth(_)
        | Filter::Jwt(_)
        | Filter::ExternalAuth(_)
        | Filter::RequestId(_)
        | Filter::Maintenance(_) => false,
    }
}

/// Edits the headers of what is forwarded, as they are written.
pub(crate) fn edit_request(filters: &[Filter], to: &mut impl Fields) {
    for filter in filters {
        if let Filter::RequestHeaders(edits) = filter {
            headers::apply(edits, to);
        }
    }
}

/// Edits the headers of an answer, as they are written.
pub(crate) fn edit_response(filters: &[Filter], to: &mut impl Fields) {
    for filter in filters {
        if let Filter::ResponseHeaders(edits) = filter {
            headers::apply(edits, to);
        }
    }
}

/// Says that another request header would have led to another answer (RFC 9110 section 12.5.5).
pub(crate) fn vary(to: &mut impl Fields, name: &'static str) {
    let is_said = to.fields().get_all(header::VARY).iter().any(|line| {
        let names = line.to_str().unwrap_or_default().split(',').map(str::trim);
        names.into_iter().any(|one| one == "*" || one.eq_ignore_ascii_case(name))
    });
    if !is_said {
        to.add(&header::VARY, HeaderValue::from_static(name));
    }
}
