//! One screen of plain text, for `curl` when everything else is broken; and the pages of codes.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use kubeng_config::problem::{CODES, Code};
use kubeng_controller::control::ControlState;

use crate::problem;
use crate::server::Context;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/status") }))
        .route("/status", get(status))
        .route("/problems", get(codes))
        .route("/problems/{code}", get(code))
}

/// How many Problems the screen shows.
const PROBLEMS_SHOWN_MAX: usize = 15;

async fn status(State(context): State<Context>) -> String {
    let state = context.control.now();
    let mut text = screen(&state);
    let _ = writeln!(text, "connections  {}", context.replica.connections());
    if context.replica.is_leaving() {
        text.push_str("stopping     yes: requests in flight are finished\n");
    }
    problems(&mut text, &state);
    text
}

fn screen(state: &ControlState) -> String {
    let snapshot = state.snapshot();
    let intended = snapshot.digest();
    let mut text = format!("kubeng {}\n\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "fleet        {}", state.fleet());
    let _ = writeln!(text, "ready        {}", if state.is_ready() { "yes" } else { "no" });
    let _ = writeln!(text, "intended     {}", intended.short());
    let serving = match state.serving() {
        Some(digest) if digest == intended => format!("{} (in sync)", digest.short()),
        Some(digest) => format!("{} (not the intended one)", digest.short()),
        None => "nothing yet".to_owned(),
    };
    let _ = writeln!(text, "serving      {serving}");
    for source in state.sources() {
        let _ = writeln!(text, "source       {source}");
    }
    for (id, part) in snapshot.listeners().sorted() {
        let _ = writeln!(text, "listener     {id} on {}", part.value().address);
    }
    let _ = writeln!(text, "routes       {}", snapshot.routes().len());
    let _ = writeln!(text, "backends     {}", snapshot.backends().len());
    let _ = writeln!(text, "certificates {}", snapshot.certificates().len());
    text
}

fn problems(text: &mut String, state: &ControlState) {
    let problems = state.problems();
    let _ = writeln!(text, "problems     {}", problems.len());
    for problem in problems.iter().take(PROBLEMS_SHOWN_MAX) {
        let _ = writeln!(text, "  {problem}");
    }
    if problems.len() > PROBLEMS_SHOWN_MAX {
        let more = problems.len() - PROBLEMS_SHOWN_MAX;
        let _ = writeln!(text, "  and {more} more: see /api/v1/problems");
    }
}

pub(crate) async fn codes() -> String {
    CODES.iter().map(|page| format!("{}  {}\n", page.code, page.title)).collect()
}

pub(crate) async fn code(Path(code): Path<String>, uri: axum::http::Uri) -> Response {
    match code.parse::<Code>() {
        Ok(code) => page(code).into_response(),
        Err(_) => problem::not_found(uri).await.into_response(),
    }
}

fn page(code: Code) -> String {
    let page = code.page();
    let (severity, title) = (page.severity, page.title);
    format!("{code}  {title} ({severity})\n\n{}\n\nWhat to do: {}\n", page.meaning, page.remedy)
}
