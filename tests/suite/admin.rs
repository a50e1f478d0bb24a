//! The admin listener: what it answers, and to whom.

use bytes::Bytes;
use http::Request;
use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;

use crate::support::{ingress, secret, serve, service};

#[tokio::test]
async fn every_question_has_its_answer() {
    let web = Backend::start("web").await.unwrap();
    let text = service("web", &[&web])
        + &ingress("web", "web.example.com", &[("/", "Prefix", "web")]).replace(
            "  rules:",
            "  tls:\n  - {hosts: [web.example.com], secretName: cert}\n  rules:",
        )
        + &secret("cert", "web.example.com");
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    let explain = "/api/v1/explain?request=GET+https://web.example.com/x&header=a:+b";
    for (path, status, words) in [
        ("/livez", 200, &["ok"][..]),
        ("/readyz", 200, &["ok"]),
        ("/status", 200, &["in sync", "routes       1", "problems     0"]),
        ("/metrics", 200, &["# TYPE", "kubeng_propagation_seconds_count"]),
        ("/api/v1/routes", 200, &["Ingress/shop/web#web.example.com/", "a.yaml:"]),
        (
            "/api/v1/backends",
            200,
            &["Service/shop/web:80", "127.0.0.1", "\"health\":\"unknown\"", "\"ejected\":false"],
        ),
        ("/api/v1/problems", 200, &["\"problems\":[]"]),
        ("/api/v1/snapshot", 200, &["kubeng.io/snapshot/v1"]),
        ("/api/v1/snapshot?format=yaml", 200, &["format: kubeng.io/snapshot/v1"]),
        ("/api/v1/snapshot?format=nginx", 200, &["server_name web.example.com"]),
        ("/api/v1/snapshot?format=xml", 400, &["write json, yaml or nginx"]),
        (explain, 200, &["\"is\":\"forwarded\"", "a.yaml:"]),
        ("/api/v1/explain", 400, &["the parameter request is missing"]),
        ("/problems/KNG-1101", 200, &["Backend does not exist"]),
        ("/nothing", 404, &["/problems/not-found"]),
    ] {
        let answer = kubeng.admin(path).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{path}: {text}");
        for word in words {
            assert!(text.contains(word), "{path} does not say {word:?}: {text}");
        }
        assert!(!text.contains("PRIVATE KEY"), "{path}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing() {
    let (kubeng, _folder) = serve(&[]).await;
    let ask = |host: &'static str| {
        let admin = kubeng.admin;
        async move {
            let request = Request::get("/status").header("host", host).body(Bytes::new()).unwrap();
            Client::plain(admin).send(request).await.unwrap().status
        }
    };
    assert_eq!(ask("evil.example.com").await, 421);
    assert_eq!(ask("localhost:9180").await, 200);
}
