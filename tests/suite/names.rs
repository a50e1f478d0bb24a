//! Services outside containers by DNS name: what does not resolve says so.

use crate::support::{SOON, get, ingress, serve};

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_problem_and_answers_503() {
    let text = "apiVersion: kubeng.io/v1alpha1\nkind: Upstream\n\
                metadata: {name: lost, namespace: shop}\n\
                spec:\n  endpoints:\n  - {address: nowhere.invalid, port: 80}\n---\n"
        .to_owned()
        + &ingress("lost", "lost.example.com", &[("/", "Prefix", "x")]).replace(
            "{service: {name: x, port: {number: 80}}}",
            "{resource: {apiGroup: kubeng.io, kind: Upstream, name: lost}}",
        );
    let (mut kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    assert_eq!(get(&kubeng, "lost.example.com", "/").await.status, 503);
    let line = kubeng.wait_for_line(SOON, |line| line.contains("KNG-1504")).await.unwrap();
    assert!(line.contains("nowhere.invalid") && line.contains("Upstream/shop/lost"), "{line}");
}
