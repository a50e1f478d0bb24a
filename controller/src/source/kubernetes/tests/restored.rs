//! An API server whose versions go back.

use super::*;

/// A server that was restored from a backup after the source had read on.
async fn restored() -> Live {
    let server = ApiServer::start().await;
    server.put(class("before", "k"));
    let backup = server.back_up();
    for nth in 0..20 {
        server.put(class("after", &format!("k{nth}")));
    }
    let mut live = Live::plain(server);
    live.until_synced().await;
    live.until_has("IngressClass/after").await;
    live.server.restore(backup);
    live
}

#[tokio::test]
async fn a_server_that_was_restored_from_a_backup_is_read_again_although_it_says_nothing() {
    let mut live = restored().await;
    // Watches from a version that the server has not reached hear nothing.
    live.until_lacks("IngressClass/after").await;
    assert!(live.objects.contains_key("IngressClass/before"));
    let read_to = live.read_to;
    live.server.put(class("new", "k"));
    live.until_has("IngressClass/new").await;
    let Provenance::Cluster { version } = &live.objects["IngressClass/new"].provenance else {
        panic!("it is from a cluster")
    };
    assert!(version.parse::<u64>().unwrap() < read_to, "its version is an older one, and is taken");
    assert_eq!(live.read_to, read_to, "the Position does not go back");
    assert!(live.problems.is_empty(), "{:?}", live.problems);
}

#[tokio::test]
async fn a_version_that_the_server_has_not_reached_is_not_watched_from_again() {
    let server = ApiServer::start().await;
    server.put(class("a", "k"));
    server.put(class("b", "k"));
    let mut live = Live::plain(server);
    live.until_synced().await;
    live.server.lose("ingressclasses", "", "b");
    let why = "Too large resource version: 900, current: 3";
    live.server.fail("ingressclasses", Verb::Watch, 1, Fault::Status(504, why, 1));
    let bookmark = json!({"type": "BOOKMARK", "object": {
        "kind": "IngressClass", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"resourceVersion": "900"},
    }});
    live.server.end_watches("ingressclasses", bookmark);
    live.until_lacks("IngressClass/b").await;
    assert!(live.objects.contains_key("IngressClass/a"));
    assert!(live.problems.is_empty(), "{:?}", live.problems);
}
