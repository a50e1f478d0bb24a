//! Filters: what may edit or answer a request, in the order in which they are listed.

pub mod headers;
pub mod redirect;
pub mod rewrite;

use serde::{Deserialize, Serialize};

use headers::HeaderEdits;
use redirect::Redirect;
use rewrite::Rewrite;

/// One step of the way through a Route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Edits the headers of the request.
    RequestHeaders(HeaderEdits),
    /// Edits the headers of the answer.
    ResponseHeaders(HeaderEdits),
    /// Answers with another address; nothing behind it runs.
    Redirect(Redirect),
    /// Changes host or path of what is forwarded.
    Rewrite(Rewrite),
}
