//! `kubeng upgrade`: who asks for an exchange of the program is told what became of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;
use kubeng_harness::process::{Kubeng, Launch};

use crate::support::{SOON, ingress, launch, serve_with, service};

const HOST: &str = "web.example.com";

fn files(web: &Backend) -> [(&'static str, String); 2] {
    [
        ("a.yaml", service("web", &[web])),
        ("b.yaml", ingress("web", HOST, &[("/", "Prefix", "web")])),
    ]
}

async fn upgrade(arguments: Vec<String>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubeng"));
    command.arg("upgrade").args(arguments).env_clear();
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, words: &[&str]) {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "it does not say {word:?}: {text}");
    }
}

fn data(kubeng: &Kubeng) -> String {
    kubeng.scratch().join("data").display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_found_by_its_folder_or_its_id_and_says_who_serves() {
    let web = Backend::start("web").await.unwrap();
    let (mut kubeng, _folder) = serve_with(launch, &files(&web)).await;
    kubeng_harness::process::reap_orphans().unwrap();
    let folder = data(&kubeng);
    let asked = upgrade(vec!["--data".into(), folder.clone()]).await;
    kubeng.follow_next(SOON).await.unwrap();
    check(&asked, 0, &[&format!("process {} serves", kubeng.pid())]);
    assert_eq!(Client::plain(kubeng.http).get(HOST, "/").await.unwrap().status, 200);
    assert!(kubeng.wait_for_replaced(SOON).await.unwrap());
    // The folder names the one that took over.
    let named = std::fs::read_to_string(Path::new(&folder).join("kubeng.lock")).unwrap();
    assert_eq!(named.trim(), kubeng.pid().to_string());
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    check(&upgrade(vec!["--data".into(), folder]).await, 2, &["no process holds"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_upgrade_is_told_with_its_reason_and_changes_nothing() {
    let web = Backend::start("web").await.unwrap();
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("kubeng");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubeng"), &program).unwrap();
    let start = || Launch::new(&program).arg("--workers").arg("1");
    let (kubeng, _folder) = serve_with(start, &files(&web)).await;
    let beside = bin.path().join("new");
    std::fs::write(&beside, "#!/bin/sh\nexit 7\n").unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(beside, &program).unwrap();
    let asked = upgrade(vec!["--pid".into(), kubeng.pid().to_string()]).await;
    check(&asked, 1, &["goes on as before", "exit status: 7"]);
    assert_eq!(Client::plain(kubeng.http).get(HOST, "/").await.unwrap().status, 200);
    assert_eq!(kubeng.admin("/readyz").await.unwrap().status, 200);
}

#[tokio::test]
async fn who_cannot_be_asked_is_said() {
    let own = std::process::id().to_string();
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().display().to_string();
    check(&upgrade(vec!["--pid".into(), own]).await, 2, &["is no kubeng that serves"]);
    check(&upgrade(vec!["--data".into(), folder]).await, 2, &["is no data folder"]);
    check(&upgrade(vec![]).await, 2, &["<--pid <PID>|--data <DIR>>"]);
    check(&upgrade(vec!["--help".into()]).await, 0, &["--pid", "--data", "SIGUSR2"]);
    let both = ["--pid", "1", "--data", "/x"].map(str::to_owned).to_vec();
    check(&upgrade(both).await, 2, &["cannot be used with"]);
}
