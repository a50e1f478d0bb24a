//! Redirects to TLS behind a balancer that ends TLS: it is believed, strangers are not.

use bytes::Bytes;
use http::Request;
use kubeng_harness::backend::Backend;
use kubeng_harness::client::{Answer, Client};
use kubeng_harness::process::Kubeng;

use crate::support::{ingress, launch, serve_with, service, until};

const HOST: &str = "shop.example";
const TO_TLS: &str = "apiVersion: kubeng.io/v1alpha1\nkind: RouteOverride\n\
    metadata: {name: tls, namespace: shop}\nspec:\n  targetRef: {kind: Ingress, name: web}\n  \
    patch: {redirect: {scheme: https, status: 308}}\n";

async fn ask(kubeng: &Kubeng, proto: Option<&str>) -> Answer {
    let mut request = Request::get("/a?b=c").header("host", HOST);
    if let Some(proto) = proto {
        request = request.header("x-forwarded-proto", proto);
    }
    let request = request.body(Bytes::new()).unwrap();
    Client::plain(kubeng.http).send(request).await.unwrap()
}

#[tokio::test]
async fn a_redirect_to_tls_ends_where_a_trusted_balancer_has_ended_it() {
    let web = Backend::start("web").await.unwrap();
    let text = service("web", &[&web]) + &ingress("web", HOST, &[("/", "Prefix", "web")]);
    let files = [("a.yaml", text), ("b.yaml", TO_TLS.to_owned())];
    let believing = || launch().arg("--trusted-proxy").arg("127.0.0.0/8");
    let (kubeng, _folder) = serve_with(believing, &files).await;
    until(&kubeng, HOST, "/", |answer| answer.status == 308).await;
    for (proto, status) in [(Some("https"), 200), (Some("http"), 308), (None, 308)] {
        let answer = ask(&kubeng, proto).await;
        assert_eq!(answer.status, status, "{proto:?}");
        if status == 308 {
            assert_eq!(answer.headers["location"], "https://shop.example/a?b=c");
        }
    }
    let (kubeng, _folder) = serve_with(launch, &files).await;
    until(&kubeng, HOST, "/", |answer| answer.status == 308).await;
    assert_eq!(ask(&kubeng, Some("https")).await.status, 308, "a stranger says so");
}
