//! Requests behind requests: each judged for itself, none behind a refused one.

use super::case::*;

pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("pipelining", cases);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let seen = |path: &str| arrived(&format!("GET {path}"), &[], "");
    let post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let chunked =
        "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let posted = || arrived("POST /p", &[], "hi");
    let in_chunks = || arrived("POST /c", &[], "hi");
    for (text, requests, end) in [
        (get("/1") + &get("/2"), vec![seen("/1"), seen("/2")], End::Open),
        (get("/1") + &get("/2") + &get("/3"), vec![seen("/1"), seen("/2"), seen("/3")], End::Open),
        (get("/1") + "\r\n" + &get("/2"), vec![seen("/1"), seen("/2")], End::Open),
        (get("/1") + "\r\n\r\n" + &get("/2"), vec![seen("/1")], End::Refused(400)),
        (get("/1") + post, vec![seen("/1"), posted()], End::Open),
        (post.to_owned() + &get("/1"), vec![posted(), seen("/1")], End::Open),
        (post.to_owned() + "X" + &get("/1"), vec![posted(), arrived("XGET /1", &[], "")], End::Open),
        (chunked.to_owned() + &get("/1"), vec![in_chunks(), seen("/1")], End::Open),
        (chunked.to_owned() + chunked, vec![in_chunks(), in_chunks()], End::Open),
        (chunked.to_owned() + "\r\n" + post, vec![in_chunks(), posted()], End::Open),
        (post.to_owned() + chunked + &get("/1"), vec![posted(), in_chunks(), seen("/1")], End::Open),
        (get("/1") + "GET /2 HTTP/1.1\r\n\r\n" + &get("/3"), vec![seen("/1")], End::Refused(400)),
        (get("/1") + "GET /2 HTTP/3.0\r\nHost: a\r\n\r\n" + &get("/3"), vec![seen("/1")], End::Refused(505)),
        (get("/1") + " " + &get("/2"), vec![seen("/1")], End::Silent),
        (get("/1") + "\0" + &get("/2"), vec![seen("/1")], End::Silent),
        (get("/1") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", vec![seen("/1")], End::Refused(400)),
        (get("/1") + "hi", vec![seen("/1")], End::Refused(408)),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n".to_owned() + &get("/2"), vec![], End::Refused(400)),
        ("GET /x%2f HTTP/1.1\r\nHost: a\r\n\r\n".to_owned() + &get("/2"), vec![], End::Refused(400)),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n".to_owned() + &get("/2"), vec![], End::Refused(400)),
        ("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned() + &get("/2"), vec![seen("/1")], End::Closed),
        ("GET /1 HTTP/1.0\r\nHost: a\r\n\r\n".to_owned() + &get("/2"), vec![seen("/1")], End::Closed),
        ("POST /1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned() + &get("/2"), vec![arrived("POST /1", &[], ""), seen("/2")], End::Open),
        ("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned() + &get("/2"), vec![arrived("POST /1", &[], ""), seen("/2")], End::Open),
        (chunked.replace("0\r\n\r\n", "0\r\nX\r\n\r\n") + &get("/2"), vec![], End::Refused(400)),
        (chunked.replace("2\r\n", "2\n") + &get("/2"), vec![], End::Refused(400)),
        ("POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi".to_owned() + &get("/1"), vec![posted(), seen("/1")], End::Open),
        ("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned() + &get("/2"), vec![seen("/1"), seen("/2")], End::Open),
        ((1..=40).map(|n| get(&format!("/{n}"))).collect(), (1..=40).map(|n| seen(&format!("/{n}"))).collect(), End::Open),
    ] {
        class.add(text, serves_then(requests, end));
    }
}
