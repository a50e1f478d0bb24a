//! Filters that ask who somebody is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::Response;
use kubeng_config::backend::BackendProtocol;
use kubeng_config::certificate::Secret;
use kubeng_config::matching::HostMatch;
use kubeng_config::route::Action;
use tokio::net::TcpListener;

use crate::filters::{ask, filters};
use crate::support::*;

/// Serves everything behind `filter`, with this Secret under the id `s`.
async fn guarded(filter: &str, secret: Option<&[u8]>) -> Replica {
    let mut replica = Replica::start();
    let parts = [
        backend("web", BackendProtocol::Http1),
        route("all", HostMatch::Any, "/", filters(&[filter]), Action::Forward(vec![to("web")])),
    ];
    let secrets = secret.map(|bytes| ("s".parse().unwrap(), Secret::new(bytes.to_vec())));
    let endpoints = endpoint_set(&[serve_echo().await]);
    replica.change_with(parts, [], [(backend_id("web"), endpoints)], secrets);
    replica
}

#[tokio::test]
async fn only_who_knows_a_name_and_its_password_passes() {
    let auth = r#"{"basicAuth":{"users":"s","realm":"Members","userHeader":"x-user"}}"#;
    // ann has "secret" in bcrypt, ben has "Hello world!" in SHA-512-crypt.
    let ben = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcb\
               YEdFCoEOfaS35inz1";
    let ann = bcrypt::hash_with_salt("secret", 4, [3; 16]).unwrap();
    let users = format!("ann:{ann}\nben:{ben}\n");
    let replica = guarded(auth, Some(users.as_bytes())).await;
    let stranger = ask(&replica, "GET /", &[]).await;
    assert_eq!(stranger.status, 401);
    assert!(stranger.head.contains("www-authenticate: basic realm=\"members\""), "{stranger:?}");
    for (login, status) in [
        ("YW5uOnNlY3JldA==", 200),
        ("YW5uOnNlY3JldA==", 200),
        ("YmVuOkhlbGxvIHdvcmxkIQ==", 200),
        ("YW5uOndyb25n", 401),
        ("Y3lkOnNlY3JldA==", 401),
        ("!", 401),
    ] {
        let line = format!("Authorization: Basic {login}");
        let answer = ask(&replica, "GET /", &[&line, "X-User: root", "X_User: root"]).await;
        assert_eq!(answer.status, status, "{login}");
        assert!(!answer.body.contains("root"), "{answer:?}");
        if login.starts_with("YW5uOnNl") {
            assert!(answer.body.contains("x-user: ann\n"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn without_its_secret_a_login_lets_nobody_in() {
    let auth = r#"{"basicAuth":{"users":"s","realm":"Members"}}"#;
    let replica = guarded(auth, None).await;
    let answer = ask(&replica, "GET /", &["Authorization: Basic YW5uOnNlY3JldA=="]).await;
    assert_eq!(answer.status, 503);
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 503);
}

#[tokio::test]
async fn a_secret_is_kept_while_a_filter_needs_it() {
    let auth = r#"{"basicAuth":{"users":"s","realm":"Members"}}"#;
    let ann = bcrypt::hash_with_salt("secret", 4, [3; 16]).unwrap();
    let mut replica = guarded(auth, Some(format!("ann:{ann}").as_bytes())).await;
    let login = "Authorization: Basic YW5uOnNlY3JldA==";
    assert_eq!(ask(&replica, "GET /", &[login]).await.status, 200);
    // Another Filter of the Route changes; the Secret does not come again.
    let more = r#"{"requestId":{}}"#;
    let action = || Action::Forward(vec![to("web")]);
    replica.change([route("all", HostMatch::Any, "/", filters(&[more, auth]), action())]);
    assert_eq!(ask(&replica, "GET /", &[login]).await.status, 200);
    let other = r#"{"basicAuth":{"users":"s","realm":"Other"}}"#;
    replica.change([route("all", HostMatch::Any, "/", filters(&[other]), action())]);
    assert_eq!(ask(&replica, "GET /", &[login]).await.status, 200);
    // Nobody needs it for a while, so it is gone.
    replica.change([route("all", HostMatch::Any, "/", vec![], action())]);
    replica.change([route("all", HostMatch::Any, "/", filters(&[auth]), action())]);
    assert_eq!(ask(&replica, "GET /", &[login]).await.status, 503);
}

/// A token of `claims`, signed with HS256.
fn token(claims: &str, secret: &[u8]) -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", encode(tag.as_ref()))
}

#[tokio::test]
async fn a_token_lets_in_whom_it_names() {
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    let jwt = r#"{"jwt":{"issuer":"me","keys":{"secret":"s"},"algorithms":["HS256"],
        "required":[{"claim":"role","oneOf":["admin"]}],
        "claimsToHeaders":[{"claim":"sub","header":"x-sub"}],"cookie":"session"}}"#;
    let replica = guarded(jwt, Some(SECRET)).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims =
        |exp: u64, role: &str| format!(r#"{{"iss":"me","exp":{exp},"sub":"ann","role":"{role}"}}"#);
    let good = token(&claims(now + 100, "admin"), SECRET);
    let bearer = format!("Authorization: Bearer {good}");
    let answer = ask(&replica, "GET /", &[&bearer, "X-Sub: root"]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("x-sub: ann\n") && !answer.body.contains("root"), "{answer:?}");
    let by_cookie = ask(&replica, "GET /", &[&format!("Cookie: a=b; session={good}")]).await;
    assert_eq!(by_cookie.status, 200);
    for (token, status) in [
        (token(&claims(now + 100, "guest"), SECRET), 403),
        (token(&claims(now - 100, "admin"), SECRET), 401),
        (token(&claims(now + 100, "admin"), b"another secret of 32 bytes at all"), 401),
        (good[..good.len() - 43].to_owned(), 401),
        ("x".to_owned(), 401),
    ] {
        let answer = ask(&replica, "GET /", &[&format!("Authorization: Bearer {token}")]).await;
        assert_eq!(answer.status, status, "{token}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
    }
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 401);
}

/// Serves everything behind a question to `auth`, with `more` in its configuration.
async fn asking(auth: std::net::SocketAddr, more: &str) -> Replica {
    let mut replica = Replica::start();
    let filter = format!(
        r#"{{"externalAuth":{{"backend":"Service/test/auth:80","path":"/check",
            "copyHeaders":["x-user"],"answerHeaders":["x-why"]{more}}}}}"#
    );
    let parts = [
        backend("web", BackendProtocol::Http1),
        backend("auth", BackendProtocol::Http1),
        route("all", HostMatch::Any, "/", filters(&[&filter]), Action::Forward(vec![to("web")])),
    ];
    let endpoints = [
        (backend_id("web"), endpoint_set(&[serve_echo().await])),
        (backend_id("auth"), endpoint_set(&[auth])),
    ];
    replica.change_with(parts, [], endpoints, []);
    replica
}

#[tokio::test]
async fn somebody_else_decides_and_says_what_the_backend_gets() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let auth = serve(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        let told = |name: &str| {
            request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/check"));
        assert_eq!(told("x-original-uri"), "/a/b?q=1");
        assert_eq!(told("x-original-url"), "http://a.example/a/b?q=1");
        assert_eq!(told("x-original-method"), "POST");
        assert_eq!(told("x-forwarded-for"), "127.0.0.1");
        assert_eq!(told("host"), "a.example");
        assert!(!request.headers().contains_key("x-secret"));
        let answer = Response::builder();
        match told("authorization").as_str() {
            "yes" => answer.header("x-user", "ann").body(Full::from("")).unwrap(),
            "login" => {
                let answer = answer.status(302).header("location", "/login?a=b");
                answer.header("set-cookie", "a=1").body(Full::from("")).unwrap()
            }
            "no" => {
                let answer = answer.status(403).header("x-why", "because").header("x-in", "1");
                answer.header("content-type", "text/x").body(Full::from("go away")).unwrap()
            }
            _ => answer.status(500).body(Full::from("")).unwrap(),
        }
    });
    let replica = asking(auth.await, "").await;
    let ask = async |login: &str| {
        let login = format!("Authorization: {login}");
        let body = ["X-User: root", "X-Secret: 1", "Content-Length: 0", &login];
        ask(&replica, "POST /a/b?q=1", &body).await
    };
    let yes = ask("yes").await;
    assert_eq!(yes.status, 200);
    assert!(yes.body.contains("x-user: ann\n") && !yes.body.contains("root"), "{yes:?}");
    let login = ask("login").await;
    assert_eq!(login.status, 302);
    assert!(login.head.contains("location: /login?a=b"), "{login:?}");
    assert!(login.head.contains("set-cookie: a=1"), "{login:?}");
    let no = ask("no").await;
    assert_eq!((no.status, no.body.as_str()), (403, "go away"));
    assert!(no.head.contains("x-why: because") && !no.head.contains("x-in"), "{no:?}");
    assert!(no.head.contains("content-type: text/x"), "{no:?}");
    assert_eq!(ask("broken").await.status, 503);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn no_answer_in_time_closes_unless_it_is_told_to_open() {
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let replica = asking(address, r#","timeoutMillis":50"#).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), ask(&replica, "GET /", &[])).await;
    assert_eq!(answer.unwrap().status, 503);
    let replica = asking(nobody(), "").await;
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 503);
    let replica = asking(nobody(), r#","ifUnanswered":"pass""#).await;
    let answer = ask(&replica, "GET /", &["X-User: root"]).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("x-user"), "{answer:?}");
}

#[tokio::test]
async fn a_backend_that_is_asked_is_part_of_what_a_route_needs() {
    let filter = r#"{"externalAuth":{"backend":"Service/test/auth:80","path":"/"}}"#;
    let listener: kubeng_config::name::ListenerId = "http".parse().unwrap();
    let parts = [
        crate::support::listener(
            listener.as_str(),
            "127.0.0.1:80".parse().unwrap(),
            kubeng_config::listener::Protocol::Http,
        ),
        crate::support::listener(
            "https",
            "127.0.0.1:443".parse().unwrap(),
            kubeng_config::listener::Protocol::Https,
        ),
        policy("default", kubeng_config::policy::Policy::default()),
        route("all", HostMatch::Any, "/", filters(&[filter]), Action::Answer),
    ];
    let error = kubeng_config::snapshot::Snapshot::default().edited(parts, []).unwrap_err();
    assert!(error.to_string().contains("Service/test/auth:80"), "{error}");
}
