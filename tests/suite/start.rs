//! Starting: nothing is served before all is known, and what is missing is named.

use kubeng_harness::backend::Backend;

use crate::support::{SOON, ingress, launch, save, service, until};

#[tokio::test]
async fn a_folder_that_is_missing_keeps_readiness_off_until_it_is_there() {
    let web = Backend::start("web").await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("manifests");
    let mut kubeng = launch().manifests(&folder).start().unwrap();
    let line = kubeng.wait_for_line(SOON, |line| line.contains("KNG-1704")).await.unwrap();
    assert!(line.contains("manifests"), "{line}");
    let ready = kubeng.admin("/readyz").await.unwrap();
    assert_eq!(ready.status, 503);
    assert_eq!(kubeng.admin("/livez").await.unwrap().status, 200);
    std::fs::create_dir(&folder).unwrap();
    save(&folder, "a.yaml", &service("web", &[&web]));
    save(&folder, "b.yaml", &ingress("web", "web.example.com", &[("/", "Prefix", "web")]));
    kubeng.wait_until_ready(SOON).await.unwrap();
    until(&kubeng, "web.example.com", "/", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_problem_and_opened_when_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = folder.path().join("kubeng.toml");
    std::fs::write(&config, format!("manifests = [{:?}]\nhttp = \"{address}\"\n", folder.path()))
        .unwrap();
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_kubeng"))
        .args(["run", "--settings"])
        .arg(&config)
        .args(["--admin", &admin.to_string()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let problems = |wanted: bool| async move {
        let began = std::time::Instant::now();
        loop {
            let mut client = kubeng_harness::client::Client::plain(admin);
            if let Ok(answer) = client.get(&admin.to_string(), "/api/v1/problems").await {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                if text.contains("KNG-1703") == wanted && answer.status == 200 {
                    return text;
                }
            }
            assert!(began.elapsed() < SOON, "port problem: {wanted}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let text = problems(true).await;
    assert!(text.contains(&address.to_string()), "{text}");
    let mut client = kubeng_harness::client::Client::plain(admin);
    let ready = client.get(&admin.to_string(), "/readyz").await.unwrap();
    let why = String::from_utf8_lossy(&ready.body).into_owned();
    assert!(ready.status == 503 && why.contains("KNG-1703"), "{why}");
    drop(taken);
    problems(false).await;
    child.kill().unwrap();
    child.wait().unwrap();
}
