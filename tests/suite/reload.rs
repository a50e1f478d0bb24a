//! Changes take effect while requests flow; what is broken never costs what was good.

use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;

use crate::support::{SOON, get, ingress, save, serve, service, until};

#[tokio::test]
async fn a_saved_file_is_served_and_a_removed_one_is_not() {
    let web = Backend::start("web").await.unwrap();
    let (kubeng, folder) = serve(&[("web.yaml", service("web", &[&web]))]).await;
    assert_eq!(get(&kubeng, "new.example.com", "/").await.status, 404);
    save(folder.path(), "new.yaml", &ingress("new", "new.example.com", &[("/", "Prefix", "web")]));
    until(&kubeng, "new.example.com", "/", |answer| answer.status == 200).await;
    // Written in place, as some editors do.
    let text = ingress("new", "new.example.com", &[("/buy", "Prefix", "web")]);
    std::fs::write(folder.path().join("new.yaml"), text).unwrap();
    until(&kubeng, "new.example.com", "/", |answer| answer.status == 404).await;
    assert_eq!(get(&kubeng, "new.example.com", "/buy").await.status, 200);
    std::fs::remove_file(folder.path().join("new.yaml")).unwrap();
    until(&kubeng, "new.example.com", "/buy", |answer| answer.status == 404).await;
}

#[tokio::test]
async fn a_broken_file_keeps_what_was_good_and_says_where_it_is_broken() {
    let web = Backend::start("web").await.unwrap();
    let good = ingress("web", "web.example.com", &[("/", "Prefix", "web")]);
    let (mut kubeng, folder) =
        serve(&[("service.yaml", service("web", &[&web])), ("web.yaml", good.clone())]).await;
    save(folder.path(), "web.yaml", "apiVersion: networking.k8s.io/v1\nkind: Ingress\n  spec: [\n");
    let line = kubeng.wait_for_line(SOON, |line| line.contains("KNG-1004")).await.unwrap();
    assert!(line.contains("web.yaml:"), "{line}");
    assert_eq!(get(&kubeng, "web.example.com", "/").await.status, 200);
    let problems = kubeng.admin("/api/v1/problems").await.unwrap();
    assert!(String::from_utf8_lossy(&problems.body).contains("KNG-1004"));
    save(folder.path(), "web.yaml", &good.replace("web.example.com", "other.example.com"));
    until(&kubeng, "other.example.com", "/", |answer| answer.status == 200).await;
    kubeng.wait_for_line(SOON, |line| line.contains("mended")).await.unwrap();
}

#[tokio::test]
async fn endpoints_come_and_go_without_a_failed_request() {
    let group = Backend::start_group(&["one", "two"]).await.unwrap();
    let (one, two) = (&group[0], &group[1]);
    let rule = ingress("web", "web.example.com", &[("/", "Prefix", "web")]);
    let (kubeng, folder) =
        serve(&[("web.yaml", service("web", &[one])), ("rule.yaml", rule)]).await;
    let digest = |status: &str| {
        status.lines().find(|line| line.starts_with("intended")).map(ToOwned::to_owned)
    };
    let status = kubeng.admin("/status").await.unwrap();
    let before = digest(&String::from_utf8_lossy(&status.body)).unwrap();
    let mut client = Client::plain(kubeng.http);
    for round in 0..20 {
        let (set, wanted) = if round % 2 == 0 { (two, "two") } else { (one, "one") };
        save(folder.path(), "web.yaml", &service("web", &[set]));
        let began = std::time::Instant::now();
        loop {
            let answer = client.get("web.example.com", "/").await.unwrap();
            assert_eq!(answer.status, 200);
            if answer.backend() == Some(wanted) {
                break;
            }
            assert!(began.elapsed() < SOON, "round {round}");
        }
    }
    let counts = client.counts().await;
    assert_eq!((counts.failed, counts.closed, counts.opened), (0, 0, 1));
    let status = kubeng.admin("/status").await.unwrap();
    let after = digest(&String::from_utf8_lossy(&status.body)).unwrap();
    assert_eq!(before, after, "endpoints are not configuration");
}
