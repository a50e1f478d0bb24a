use http::{HeaderMap, Uri};

use super::*;

fn incoming<'a>(uri: &'a Uri, version: Version, headers: &'a HeaderMap) -> Incoming<'a> {
    Incoming { method: &Method::GET, uri, version, headers }
}

#[track_caller]
fn check(uri: &str, version: Version, fields: &[(&'static str, &str)], expected: Begin) {
    let uri: Uri = uri.parse().unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    let now = (Instant::now(), SystemTime::now());
    let facts = ConnFacts::for_tests(80);
    let mut ctx = RequestContext::default();
    let begin = begin(&Table::empty(), &incoming(&uri, version, &headers), &facts, now, &mut ctx);
    assert_eq!(format!("{begin:?}"), format!("{expected:?}"), "{uri} {fields:?}");
}

#[test]
fn hosts_and_paths_are_judged_once_for_both_versions() {
    let not_found = || Begin::from(StatusCode::NOT_FOUND);
    let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
    check("/", h1, &[("host", "a")], not_found());
    check("/", Version::HTTP_10, &[], not_found());
    check("/", h1, &[], Begin::Refuse(Rule::Host));
    check("/", h1, &[("host", "a"), ("host", "a")], Begin::Refuse(Rule::Host));
    check("/", h1, &[("host", "")], Begin::Refuse(Rule::Authority));
    check("/", h1, &[("host", "a/b")], Begin::Refuse(Rule::Authority));
    check("/..", h1, &[("host", "a")], Begin::Refuse(Rule::Path));
    check("/%2f", h1, &[("host", "a")], Begin::Refuse(Rule::Path));
    check("http://a/", h2, &[], not_found());
    check("http://a/", h2, &[("host", "A")], not_found());
    check("http://a/", h2, &[("host", "b")], Begin::Refuse(Rule::Host));
    check("http://a,b/", h2, &[], Begin::Refuse(Rule::Authority));
}

#[test]
fn a_response_says_who_served_it() {
    let ctx = RequestContext { route: None::<Arc<CompiledRoute>>, ..RequestContext::default() };
    let mut headers = HeaderMap::new();
    response_edits(&ctx, &mut headers);
    assert_eq!(headers[header::SERVER], "kubeng");
    headers.insert(header::SERVER, HeaderValue::from_static("upstream"));
    response_edits(&ctx, &mut headers);
    assert_eq!(headers[header::SERVER], "upstream");
}
