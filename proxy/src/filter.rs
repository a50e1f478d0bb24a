//! Carries out Filters, in the order in which they are listed. One arm for each kind.

pub(crate) mod headers;
pub(crate) mod redirect;
pub(crate) mod rewrite;

use kubeng_config::authority::Authority;
use kubeng_config::filter::Filter;
use kubeng_config::matching::PathPrefix;

use crate::listener::connection::ConnFacts;
use crate::reply::Reply;
use crate::request::Fields;
use rewrite::Rewritten;

/// What a request asks for, in the form in which it was matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) authority: Option<&'a Authority>,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    /// The prefix that was matched, if a prefix was.
    pub(crate) matched: Option<&'a PathPrefix>,
    pub(crate) facts: &'a ConnFacts,
}

/// Runs what can answer or redirect a request. The first answer ends the run.
pub(crate) fn on_request(filters: &[Filter], target: &Target<'_>) -> (Option<Reply>, Rewritten) {
    let mut rewritten = Rewritten::default();
    for filter in filters {
        match filter {
            Filter::Redirect(redirect) => {
                return (Some(redirect::reply(redirect, target)), rewritten);
            }
            Filter::Rewrite(rewrite) => rewritten.apply(rewrite, target),
            Filter::RequestHeaders(_) | Filter::ResponseHeaders(_) => {}
        }
    }
    (None, rewritten)
}

/// Edits the headers of what is forwarded.
pub(crate) fn edit_request(filters: &[Filter], to: &mut impl Fields) {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(edits) => headers::apply(edits, to),
            Filter::ResponseHeaders(_) | Filter::Redirect(_) | Filter::Rewrite(_) => {}
        }
    }
}

/// Edits the headers of an answer.
pub(crate) fn edit_response(filters: &[Filter], to: &mut impl Fields) {
    for filter in filters {
        match filter {
            Filter::ResponseHeaders(edits) => headers::apply(edits, to),
            Filter::RequestHeaders(_) | Filter::Redirect(_) | Filter::Rewrite(_) => {}
        }
    }
}
