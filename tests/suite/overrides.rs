//! RouteOverrides: edited in the folder while requests flow, each takes effect and leaves no trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request};
use kubeng_harness::backend::Backend;
use kubeng_harness::client::{Answer, Client};
use kubeng_harness::process::Kubeng;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{SOON, get, ingress, save, serve, service, until};

const HOST: &str = "shop.example";
/// SHA-crypt of `Hello world!`, from the paper that defines it.
const HASH: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";

/// A shop with one Service behind two paths, and room for an override.
struct Shop {
    kubeng: Kubeng,
    folder: TempDir,
    _web: Backend,
}

impl Shop {
    async fn open() -> Self {
        let web = Backend::start("web").await.unwrap();
        let text = service("web", &[&web])
            + &ingress("web", HOST, &[("/", "Prefix", "web"), ("/steady", "Exact", "web")]);
        let (kubeng, folder) = serve(&[("a.yaml", text)]).await;
        Self { kubeng, folder, _web: web }
    }

    /// Saves an override for the path `/` with these lines of YAML in its patch.
    fn put(&self, patch: &str) {
        self.put_with("", patch);
    }

    fn put_with(&self, more: &str, patch: &str) {
        let text = format!(
            "apiVersion: kubeng.io/v1alpha1\nkind: RouteOverride\n\
             metadata: {{name: web, namespace: shop}}\nspec:\n  \
             targetRef: {{kind: Ingress, name: web}}\n  rule: {{host: {HOST}, path: /}}\n{more}  \
             patch:\n    {patch}\n"
        );
        save(self.folder.path(), "override.yaml", &text);
    }

    fn save(&self, name: &str, text: &str) {
        save(self.folder.path(), name, text);
    }

    /// Takes the override away, and waits until the Route is as it was.
    async fn restore(&self) {
        std::fs::remove_file(self.folder.path().join("override.yaml")).unwrap();
        until(&self.kubeng, HOST, "/", |answer| {
            answer.status == 200
                && answer.backend() == Some("web")
                && !answer.headers.contains_key("x-over")
        })
        .await;
    }

    async fn until(&self, is_wanted: impl Fn(&Answer) -> bool) -> Answer {
        until(&self.kubeng, HOST, "/", is_wanted).await
    }

    async fn send(&self, method: Method, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri("/").header("host", HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new()).unwrap();
        Client::plain(self.kubeng.http).send(request).await.unwrap()
    }

    /// The Problems that are told of overrides, once there are any.
    async fn problems(&self, code: &str) -> String {
        let began = std::time::Instant::now();
        loop {
            let answer = self.kubeng.admin("/api/v1/problems").await.unwrap();
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            if text.contains(code) {
                return text;
            }
            assert!(began.elapsed() < SOON, "no {code}: {text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// `ann:Hello world!`, `ann:wrong` and `ben:Hello world!`, as clients send them (RFC 7617).
const ANN: &str = "Basic YW5uOkhlbGxvIHdvcmxkIQ==";
const ANN_WRONG: &str = "Basic YW5uOndyb25n";
const BEN: &str = "Basic YmVuOkhlbGxvIHdvcmxkIQ==";

fn users(line: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: users, namespace: shop}}\n\
         type: Opaque\nstringData:\n  auth: '{line}'\n"
    )
}

#[tokio::test]
async fn an_override_takes_effect_and_goes_without_a_trace_while_requests_flow() {
    let shop = Shop::open().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut flow = JoinSet::new();
    let (http, stop, count) = (shop.kubeng.http, Arc::clone(&is_over), Arc::clone(&answered));
    flow.spawn(async move {
        let mut client = Client::plain(http);
        while !stop.load(Ordering::Relaxed) {
            let answer = client.get(HOST, "/steady").await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.backend()), (200, Some("web")));
            assert!(!answer.headers.contains_key("x-over"), "it is for another rule");
            count.fetch_add(1, Ordering::Relaxed);
        }
        client.counts().await
    });
    for round in 0..5 {
        shop.put(&format!("headers: {{response: {{set: {{x-over: \"{round}\"}}}}}}"));
        let wanted = round.to_string();
        shop.until(|answer| {
            answer.headers.get("x-over").is_some_and(|value| value.as_bytes() == wanted.as_bytes())
        })
        .await;
        shop.restore().await;
    }
    is_over.store(true, Ordering::Relaxed);
    let counts = flow.join_next().await.unwrap().unwrap();
    assert_eq!((counts.failed, counts.closed), (0, 0));
    assert!(answered.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_login_is_asked_for_and_follows_its_secret() {
    let shop = Shop::open().await;
    shop.put("auth: {basic: {secretRef: {name: users}, userHeader: x-user}}");
    shop.until(|answer| answer.status == 503).await;
    let told = shop.problems("KNG-1108").await;
    assert!(told.contains("/spec/patch/auth/basic"), "a missing Secret fails closed: {told}");

    shop.save("secret.yaml", &users(&format!("ann:{HASH}")));
    let asked = shop.until(|answer| answer.status == 401).await;
    assert!(asked.headers["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let status = async |login: &str| {
        shop.send(Method::GET, &[("authorization", login)]).await.status.as_u16()
    };
    assert_eq!(status(ANN_WRONG).await, 401);
    assert_eq!(status(ANN).await, 200);
    assert_eq!(get(&shop.kubeng, HOST, "/steady").await.status, 200, "it is for another rule");

    shop.save("secret.yaml", &users(&format!("ben:{HASH}")));
    let began = std::time::Instant::now();
    while status(BEN).await != 200 {
        assert!(began.elapsed() < SOON, "another list of users takes effect");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(status(ANN).await, 401, "who is gone from the list is out");

    std::fs::remove_file(shop.folder.path().join("secret.yaml")).unwrap();
    shop.until(|answer| answer.status == 503).await;
    shop.restore().await;
}

#[tokio::test]
async fn limits_and_origins_are_kept() {
    let shop = Shop::open().await;
    shop.put("limits: {rate: {requests: 1, per: 1h, burst: 2, by: route}, requestBody: 16}");
    let limited = shop.until(|answer| answer.status == 429).await;
    assert!(limited.headers.contains_key("retry-after"));
    shop.restore().await;

    shop.put("cors: {origins: [\"https://app.example\"], methods: [PUT], maxAge: 10m}");
    let began = std::time::Instant::now();
    loop {
        let preflight =
            [("origin", "https://app.example"), ("access-control-request-method", "PUT")];
        let answer = shop.send(Method::OPTIONS, &preflight).await;
        if let Some(origin) = answer.headers.get("access-control-allow-origin") {
            assert_eq!(origin, "https://app.example");
            assert_eq!(answer.headers["access-control-max-age"], "600");
            assert_eq!(answer.backend(), None, "it was answered, not forwarded");
            break;
        }
        assert!(began.elapsed() < SOON, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shop.restore().await;

    shop.put("timeouts: {request: 50ms}");
    until(&shop.kubeng, HOST, "/?after=5000", |answer| answer.status == 504).await;
    shop.restore().await;
}

#[tokio::test]
async fn a_page_for_maintenance_ends_by_itself() {
    let shop = Shop::open().await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    // Far enough ahead to be seen by a slow machine, which it would otherwise only miss.
    let end = k8s_openapi::jiff::Timestamp::from_second(i64::try_from(now + 8).unwrap()).unwrap();
    shop.put_with(
        &format!("  layer: emergency\n  reason: we are moving\n  expiresAt: \"{end}\"\n"),
        "maintenance: {body: <h1>Soon</h1>, retryAfter: 10m}",
    );
    let page = shop.until(|answer| answer.status == 503 || is_past(end.as_second())).await;
    if page.status == 503 {
        assert_eq!(&page.body[..], b"<h1>Soon</h1>");
        assert_eq!(page.headers["retry-after"], "600");
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    }
    shop.until(|answer| answer.status == 200).await;
    assert!(is_past(end.as_second()), "not before its time");
    shop.problems("KNG-1407").await;
}

fn is_past(end: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() >= end
}

#[tokio::test]
async fn what_protects_and_cannot_be_understood_closes_and_says_why() {
    let shop = Shop::open().await;
    shop.put("acess: {deny: [192.0.2.0/24]}");
    shop.until(|answer| answer.status == 503).await;
    assert_eq!(get(&shop.kubeng, HOST, "/steady").await.status, 200);
    let told = shop.problems("KNG-1410").await;
    assert!(told.contains("did you mean \\\"access\\\""), "{told}");
    shop.put("timeout: {request: 1s}");
    shop.until(|answer| answer.status == 200).await;
    shop.problems("timeouts").await;
    shop.put("access: {deny: [127.0.0.0/8]}");
    shop.until(|answer| answer.status == 403).await;
    let routes = shop.kubeng.admin("/api/v1/routes").await.unwrap();
    let routes = String::from_utf8(routes.body.to_vec()).unwrap();
    assert!(routes.contains("\"object\":\"RouteOverride/shop/web\""), "{routes}");
    shop.restore().await;
}

#[tokio::test]
async fn what_protects_and_does_not_say_what_is_closed_from_the_first_request_on() {
    let web = Backend::start("web").await.unwrap();
    let text = service("web", &[&web])
        + &ingress("web", HOST, &[("/", "Prefix", "web")])
        + &ingress("other", "other.example", &[("/", "Prefix", "web")]);
    let guard = |target: &str| {
        format!(
            "apiVersion: kubeng.io/v1alpha1\nkind: RouteOverride\n\
             metadata: {{name: guard, namespace: shop}}\nspec:\n  targetRef: {target}\n  \
             patch: {{access: {{deny: [127.0.0.0/8]}}}}\n"
        )
    };
    // What has the name that can be read, and all of the namespace where none can be.
    for (target, field, beside) in [
        ("{kind: Ingres, name: web}", "/spec/targetRef/kind", 200),
        ("{kind: Ingress, nme: web}", "/spec/targetRef", 503),
    ] {
        let files = [("a.yaml", text.clone()), ("guard.yaml", guard(target))];
        let (kubeng, folder) = serve(&files).await;
        assert_eq!(get(&kubeng, HOST, "/").await.status, 503, "{target}");
        assert_eq!(get(&kubeng, "other.example", "/").await.status, beside, "{target}");
        let told = kubeng.admin("/api/v1/problems").await.unwrap();
        let told = String::from_utf8(told.body.to_vec()).unwrap();
        assert!(told.contains(field) && told.contains("RouteOverride/shop/guard"), "{told}");
        save(folder.path(), "guard.yaml", &guard("{kind: Ingress, name: web}"));
        until(&kubeng, HOST, "/", |answer| answer.status == 403).await;
        assert_eq!(get(&kubeng, "other.example", "/").await.status, 200, "{target}");
        // While it runs a mistake means the same as after a start.
        save(folder.path(), "guard.yaml", &guard(target));
        until(&kubeng, HOST, "/", |answer| answer.status == 503).await;
        assert_eq!(get(&kubeng, "other.example", "/").await.status, beside, "{target}");
    }
}
