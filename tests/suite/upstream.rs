//! Upstreams: services outside containers, with all that they can say.

mod tls;
mod tls_log;

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use kubeng_harness::backend::{Backend, Reply, canned};
use kubeng_harness::client::{Answer, Client};
use kubeng_harness::process::Kubeng;

use crate::support::{SOON, get, save, serve, until};

/// An Upstream of namespace `fin`; `spec` is YAML in flow style.
fn upstream(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: Upstream\n\
         metadata: {{namespace: fin, name: {name}}}\nspec: {spec}\n---\n"
    )
}

/// One endpoint, with more to say about it.
fn endpoint(backend: &Backend, more: &str) -> String {
    let (address, port) = (backend.address.ip(), backend.address.port());
    format!("{{address: {address}, port: {port}{more}}}")
}

async fn ask(kubeng: &Kubeng, host: &str, path: &str, header: (&str, &str)) -> Answer {
    let request = Request::get(path).header("host", host).header(header.0, header.1);
    Client::plain(kubeng.http).send(request.body(Bytes::new()).unwrap()).await.unwrap()
}

/// Answers what it was asked, and its health as it is told.
async fn moody(name: &str, is_well: &Arc<AtomicBool>) -> Backend {
    let is_well = Arc::clone(is_well);
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let answer = move |request: Request<Bytes>| {
        let mut reply = canned(request.clone());
        if request.uri().path() == "/healthz" && !is_well.load(Ordering::SeqCst) {
            *reply.response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        reply
    };
    Backend::start_with(name, address, answer).await.unwrap()
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_unwell_is_out_and_one_of_lower_rank_stands_in() {
    let (first_well, second_well) =
        (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let first = moody("first", &first_well).await;
    let second = moody("second", &second_well).await;
    let spec = format!(
        "{{endpoints: [{}, {}], \
         health: {{path: /healthz, interval: 100ms, timeout: 90ms, unhealthyAfter: 1, \
         healthyAfter: 1}}, panicThreshold: \"0%\", \
         routes: [{{name: all, hostnames: [erp.example]}}]}}",
        endpoint(&first, ""),
        endpoint(&second, ", priority: 1")
    );
    let (kubeng, _folder) = serve(&[("a.yaml", upstream("erp", &spec))]).await;
    until(&kubeng, "erp.example", "/", |answer| answer.backend() == Some("first")).await;
    first_well.store(false, Ordering::SeqCst);
    until(&kubeng, "erp.example", "/", |answer| answer.backend() == Some("second")).await;
    first_well.store(true, Ordering::SeqCst);
    until(&kubeng, "erp.example", "/", |answer| answer.backend() == Some("first")).await;
}

#[tokio::test]
async fn a_drained_endpoint_keeps_its_clients_and_gets_no_others() {
    let backends = Backend::start_group(&["one", "two"]).await.unwrap();
    let text = |state: &str| {
        let [one, two] = [&backends[0], &backends[1]];
        let endpoints = [endpoint(one, &format!(", state: {state}")), endpoint(two, "")];
        let spec = format!(
            "{{endpoints: [{}], balance: {{sticky: {{cookie: route, maxAge: 1h}}}}, \
             routes: [{{name: all, hostnames: [erp.example]}}]}}",
            endpoints.join(", ")
        );
        upstream("erp", &spec)
    };
    let (kubeng, folder) = serve(&[("a.yaml", text("active"))]).await;
    let met = until(&kubeng, "erp.example", "/", |answer| answer.backend() == Some("one")).await;
    let cookie = met.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("Max-Age=3600"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();

    save(folder.path(), "a.yaml", &text("drain"));
    let began = std::time::Instant::now();
    loop {
        // Served as soon as of several new clients none comes to it.
        let mut met = Vec::new();
        for _ in 0..4 {
            met.push(get(&kubeng, "erp.example", "/").await.backend().map(str::to_owned));
        }
        if met.iter().all(|name| name.as_deref() == Some("two")) {
            break;
        }
        assert!(began.elapsed() < SOON, "{met:?}");
    }
    for _ in 0..4 {
        let answer = ask(&kubeng, "erp.example", "/", ("cookie", &cookie)).await;
        assert_eq!(answer.backend(), Some("one"), "its client stays");
    }
    save(folder.path(), "a.yaml", &text("disabled"));
    let began = std::time::Instant::now();
    while ask(&kubeng, "erp.example", "/", ("cookie", &cookie)).await.backend() != Some("two") {
        assert!(began.elapsed() < SOON, "it goes when the endpoint is disabled");
    }
}

/// Says which path, host and header it has seen.
async fn echo() -> Backend {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let answer = |request: Request<Bytes>| {
        let seen = |name: &str| {
            let value = request.headers().get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or("-").to_owned()
        };
        let text = format!("{} {} {}", request.uri(), seen("host"), seen("x-from"));
        Reply::now(Response::builder().header("x-secret", "1").body(text.into()).unwrap())
    };
    Backend::start_with("echo", address, answer).await.unwrap()
}

const ROUTES: &str = "[\
    {name: plain, hostnames: [erp.example, \"*.erp.example\"]},\
    {name: edited, hostnames: [erp.example], \
     matches: [{path: {value: /old}, headers: [{name: X-Test, value: \"1\"}]}], \
     filters: [\
      {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-From, value: kubeng}]}},\
      {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [X-Secret]}},\
      {type: URLRewrite, urlRewrite: {hostname: in.example, \
       path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}],\
     timeouts: {request: 10s}, retry: {attempts: 1, codes: [503]}},\
    {name: moved, hostnames: [moved.example], \
     filters: [{type: RequestRedirect, requestRedirect: {hostname: erp.example, statusCode: 301}}]},\
    {name: broken, hostnames: [erp.example], matches: [{path: {value: /broken}}], \
     filters: [{type: CORS, cors: {allowOrigins: [nowhere]}}]}]";

#[tokio::test]
async fn routes_of_an_upstream_lead_to_it() {
    let backend = echo().await;
    let spec = format!("{{endpoints: [{}], routes: {ROUTES}}}", endpoint(&backend, ""));
    let (kubeng, folder) = serve(&[("a.yaml", upstream("erp", &spec))]).await;
    let text = |answer: &Answer| String::from_utf8(answer.body.to_vec()).unwrap();

    let plain = ask(&kubeng, "a.b.erp.example", "/old/x", ("x-from", "me")).await;
    assert_eq!(text(&plain), "/old/x a.b.erp.example me");
    assert!(plain.headers.contains_key("x-secret"));
    let edited = ask(&kubeng, "erp.example", "/old/x?y=1", ("x-test", "1")).await;
    assert_eq!(text(&edited), "/new/x?y=1 in.example kubeng");
    assert!(!edited.headers.contains_key("x-secret"));
    let other = ask(&kubeng, "erp.example", "/old/x", ("x-test", "2")).await;
    assert_eq!(text(&other), "/old/x erp.example -");
    let moved = get(&kubeng, "moved.example", "/cart").await;
    assert_eq!(moved.status, 301);
    let location = moved.headers["location"].to_str().unwrap();
    assert!(
        location.starts_with("http://erp.example") && location.ends_with("/cart"),
        "{location}"
    );
    assert_eq!(get(&kubeng, "erp.example", "/broken/x").await.status, 500, "refused in its place");
    assert_eq!(get(&kubeng, "other.example", "/").await.status, 404);

    let problems = kubeng.admin("/api/v1/problems").await.unwrap();
    let problems = text(&problems);
    assert!(problems.contains("/spec/routes/3/filters/0/cors/allowOrigins/0"), "{problems}");
    let folder = folder.path().to_str().unwrap();
    let explained =
        kubeng_says(&["explain", "--manifests", folder, "GET http://x.erp.example/old"]);
    assert!(explained.contains("Upstream/fin/erp#plain"), "{explained}");
    for (format, words) in [
        ("yaml", ["Upstream/fin/erp#edited", "retriesMax: 1"]),
        ("json", ["Upstream/fin/erp#edited", "requestMs"]),
        ("nginx", ["Upstream/fin/erp#edited", "upstream \"Upstream/fin/erp\""]),
    ] {
        let exported = kubeng_says(&["export", "--manifests", folder, "--format", format]);
        for word in words {
            assert!(exported.contains(word), "{format} has no {word}:\n{exported}");
        }
    }
}

pub(crate) fn kubeng_says(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_kubeng");
    let output = Command::new(program).args(arguments).env_clear().output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn what_an_upstream_does_not_know_is_an_error_with_a_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let spec = "{endpoints: [{address: 127.0.0.1, port: 80}], slowstart: 30s}";
    std::fs::write(folder.path().join("a.yaml"), upstream("erp", spec)).unwrap();
    let said = kubeng_says(&["validate", folder.path().to_str().unwrap()]);
    assert!(said.contains("KNG-1001") && said.contains("did you mean \"slowStart\""), "{said}");
}

/// The examples of the reference page are manifests without mistakes.
#[test]
fn the_examples_of_the_page_are_right() {
    check_examples("upstream.md");
}

#[test]
fn the_examples_of_the_page_of_fleets_are_right() {
    check_examples("fleet.md");
}

#[track_caller]
fn check_examples(page: &str) {
    let page = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for (number, example) in examples.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number}.yaml")), example).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_kubeng"))
        .args(["validate", folder.path().to_str().unwrap()])
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
}
