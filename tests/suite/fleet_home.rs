//! `kubeng run` without `--fleet` where there are Fleets: it goes on, and says that it serves none.

use std::time::{Duration, Instant};

use kubeng_harness::backend::Backend;
use kubeng_harness::process::Kubeng;

use crate::support::{SOON, get, ingress, save, serve, service};

/// Asks until the Problems are as they should be.
async fn problems(kubeng: &Kubeng, is_wanted: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let answer = kubeng.admin("/api/v1/problems").await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if is_wanted(&text) {
            return text;
        }
        assert!(began.elapsed() < SOON, "the problems are still {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_fleet_that_comes_takes_no_route_away_and_is_told() {
    let web = Backend::start("web").await.unwrap();
    let text = service("web", &[&web]) + &ingress("web", "a.example", &[("/", "Prefix", "web")]);
    let (mut kubeng, folder) = serve(&[("a.yaml", text)]).await;
    assert_eq!(get(&kubeng, "a.example", "/").await.backend(), Some("web"));
    let fleet = include_str!("../../deploy/kubernetes/fleet.yaml");
    save(folder.path(), "fleet.yaml", fleet);
    let told = problems(&kubeng, |text| text.contains("KNG-1113")).await;
    for word in ["Fleet/main", "class kubeng are served by the settings", "--fleet main", "warning"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(get(&kubeng, "a.example", "/").await.backend(), Some("web"));
    assert_eq!(kubeng.admin("/readyz").await.unwrap().status, 200);
    let status = kubeng.admin("/status").await.unwrap();
    let status = String::from_utf8_lossy(&status.body).into_owned();
    assert!(status.contains("routes       1") && status.contains("KNG-1113"), "{status}");
    kubeng.wait_for_line(SOON, |line| line.contains("KNG-1113")).await.unwrap();
    std::fs::remove_file(folder.path().join("fleet.yaml")).unwrap();
    problems(&kubeng, |text| !text.contains("KNG-1113")).await;
    assert_eq!(get(&kubeng, "a.example", "/").await.backend(), Some("web"));
}
