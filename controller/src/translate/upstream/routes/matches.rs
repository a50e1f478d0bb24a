//! The matches of a route: `HTTPRouteMatch` of Gateway API.

use kubeng_config::matching::{
    FieldName, HeaderMatch, Match, MethodName, PathMatch, PathPrefix, Pattern, QueryMatch,
    TextMatch,
};
use kubeng_config::path::CanonicalPath;
use kubeng_config::problem::{BAD_PATH, BAD_VALUE};

use crate::kind::upstream::route::{RouteMatch, RoutePath, RouteText};
use crate::translate::claims::bad_path;
use crate::translate::refusal::Refused;

/// What the matches of a route became.
pub(super) struct Matches {
    pub(super) usable: Vec<Match>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// A match that cannot be read.
pub(super) struct Unreadable {
    /// Its number.
    pub(super) at: usize,
    /// Where in it.
    pub(super) field: String,
    pub(super) refused: Refused,
    /// The paths that could have been meant.
    pub(super) blocks: PathMatch,
}

/// Reads `written`; without any, every request fits.
pub(super) fn of(written: &[RouteMatch]) -> Matches {
    let mut matches = Matches { usable: Vec::new(), unreadable: Vec::new() };
    if written.is_empty() {
        matches.usable.push(Match::of_path(every_path()));
    }
    for (at, written) in written.iter().enumerate() {
        match one(written) {
            Ok(wanted) if matches.usable.contains(&wanted) => {}
            Ok(wanted) => matches.usable.push(wanted),
            Err(Fault { field, refused, blocks }) => {
                matches.unreadable.push(Unreadable { at, field, refused: *refused, blocks });
            }
        }
    }
    matches
}

struct Fault {
    field: String,
    refused: Box<Refused>,
    blocks: PathMatch,
}

fn one(written: &RouteMatch) -> Result<Match, Fault> {
    let RouteMatch { path, headers, query_params, method } = written;
    let path = path.as_ref().map_or_else(|| Ok(every_path()), self::path)?;
    let fault = |field: String, message: String, remedy: &str| Fault {
        field,
        refused: Box::new(Refused::new(BAD_VALUE, message, remedy)),
        blocks: path.clone(),
    };
    let mut wanted = Match::of_path(path.clone());
    if let Some(method) = method {
        if !METHODS.contains(&method.as_str()) {
            let message = format!("{method:.80?} is no method");
            return Err(fault("/method".to_owned(), message, "write one such as GET, in capitals"));
        }
        let parsed: Result<MethodName, _> = method.parse();
        wanted.method = parsed.ok();
    }
    for (at, header) in headers.iter().enumerate() {
        let value = text(header)
            .map_err(|(field, why)| fault(format!("/headers/{at}{field}"), why, TEXT_REMEDY))?;
        let name: FieldName = header.name.parse().map_err(|_| {
            let message = format!("{:.80?} is no header name", header.name);
            fault(format!("/headers/{at}/name"), message, "write a header name")
        })?;
        if wanted.headers.iter().any(|other| other.name == name) {
            let message = format!("header {name} stands there twice");
            return Err(fault(format!("/headers/{at}"), message, "write it once"));
        }
        wanted.headers.push(HeaderMatch { name, value });
    }
    for (at, query) in query_params.iter().enumerate() {
        let value = text(query)
            .map_err(|(field, why)| fault(format!("/queryParams/{at}{field}"), why, TEXT_REMEDY))?;
        let name = query.name.as_str();
        if name.is_empty() || wanted.query.iter().any(|other| *other.name == *name) {
            let message = format!("query parameter {name:.80?} is empty or stands there twice");
            return Err(fault(format!("/queryParams/{at}/name"), message, "write it once"));
        }
        wanted.query.push(QueryMatch { name: name.into(), value });
    }
    wanted.headers.sort();
    wanted.query.sort();
    Ok(wanted)
}

fn path(written: &RoutePath) -> Result<PathMatch, Fault> {
    let value = written.value.as_deref().unwrap_or("/");
    let kind = written.kind.as_deref().unwrap_or("PathPrefix");
    let fault = |why: String, blocks: PathMatch| {
        let remedy = "write an absolute path and one of Exact, PathPrefix, RegularExpression";
        let refused = Box::new(Refused::new(BAD_PATH, why, remedy));
        Fault { field: "/path".to_owned(), refused, blocks }
    };
    if kind == "RegularExpression" {
        // What it could have meant cannot be told, so it is every path.
        return Pattern::parse(value).map(PathMatch::Regex).map_err(|_| {
            let why = format!("{value:.80?} is no regular expression, or too large a one");
            fault(why, PathMatch::Otherwise)
        });
    }
    let canonical = CanonicalPath::of_rule(value).map_err(|error| {
        let bad = bad_path(value, error);
        fault(bad.why, bad.blocks)
    })?;
    match kind {
        "Exact" => Ok(PathMatch::Exact(canonical)),
        "PathPrefix" => Ok(PathMatch::Prefix(PathPrefix::new(&canonical))),
        other => {
            // As the widest of the known types, so that nothing wider opens.
            let blocks = PathMatch::Prefix(PathPrefix::new(&canonical));
            Err(fault(format!("path type {other:.80?} is unknown"), blocks))
        }
    }
}

fn text(written: &RouteText) -> Result<TextMatch, (&'static str, String)> {
    let RouteText { kind, name: _, value } = written;
    match kind.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(TextMatch::Exact(value.as_str().into())),
        "RegularExpression" => Pattern::parse(value).map(TextMatch::Regex).map_err(|_| {
            ("/value", format!("{value:.80?} is no regular expression, or too large a one"))
        }),
        other => Err(("/type", format!("type {other:.80?} is unknown"))),
    }
}

fn every_path() -> PathMatch {
    let root = CanonicalPath::of_rule("/").expect("/ is a path");
    PathMatch::Prefix(PathPrefix::new(&root))
}

const TEXT_REMEDY: &str = "write type Exact or RegularExpression, and a value that is one";

const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
