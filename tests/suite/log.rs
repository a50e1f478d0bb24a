//! The log: nobody waits for whoever reads it, and it tells no Problem that there is not.

use std::fs::File;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kubeng_harness::backend::Backend;
use kubeng_harness::process::{Kubeng, Launch};
use rustix::io::ioctl_fionbio;

use crate::support::{SOON, get, ingress, launch, save, secret, service, until};

const HOST: &str = "web.example.com";

/// A folder with a Service behind [`HOST`].
fn shop(web: &Backend) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), "a.yaml", &service("web", &[web]));
    save(folder.path(), "b.yaml", &ingress("web", HOST, &[("/", "Prefix", "web")]));
    folder
}

/// Whether `kubeng`, whose log goes nowhere, serves, follows changes, and ends in time.
async fn lives_and_ends(mut kubeng: Kubeng, folder: &Path) {
    until(&kubeng, HOST, "/", |answer| answer.status == 200).await;
    // Each Problem is a line; so is its end.
    for round in 0..10 {
        let broken = ingress("other", "b.example.com", &[("/", "Prefix", "nobody")]);
        save(folder, "c.yaml", &broken);
        until(&kubeng, "b.example.com", "/", |answer| answer.status == 503).await;
        std::fs::remove_file(folder.join("c.yaml")).unwrap();
        until(&kubeng, "b.example.com", "/", |answer| answer.status == 404).await;
        assert_eq!(get(&kubeng, HOST, "/").await.status, 200, "round {round}");
    }
    assert_eq!(kubeng.admin("/readyz").await.unwrap().status, 200);
    kubeng.terminate().unwrap();
    let told = Instant::now();
    let status = kubeng.wait_for_end(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(told.elapsed() < Duration::from_secs(15), "nobody reads its log, so it waits for none");
}

/// Starts it as `make` says, which leaves no log to look for a port that was taken in.
async fn start(make: impl Fn() -> Launch) -> Kubeng {
    let mut last = None;
    for _ in 0..3 {
        let mut kubeng = make().start().unwrap();
        match kubeng.wait_until_ready(SOON).await {
            Ok(()) => return kubeng,
            Err(error) => last = Some(error),
        }
    }
    panic!("{last:?}");
}

/// A pipe that takes not one byte more, and how many are in it.
fn full_pipe() -> (PipeReader, PipeWriter, usize) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    let mut held = 0;
    // The last page takes less than a whole block.
    for block in [4096, 1] {
        loop {
            match writer.write(&[b'x'; 4096][..block]) {
                Ok(count) => held += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    ioctl_fionbio(&writer, false).unwrap();
    (reader, writer, held)
}

#[tokio::test]
async fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let web = Backend::start("web").await.unwrap();
    let folder = shop(&web);
    let (mut reader, writer, held) = full_pipe();
    let errors = || Stdio::from(writer.try_clone().unwrap());
    let kubeng = start(|| launch().manifests(folder.path()).errors(errors())).await;
    lives_and_ends(kubeng, folder.path()).await;
    drop(writer);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), held, "the pipe was full from first to last");
}

#[tokio::test]
async fn a_log_whose_reader_has_gone_harms_nobody() {
    let web = Backend::start("web").await.unwrap();
    let folder = shop(&web);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let errors = || Stdio::from(writer.try_clone().unwrap());
    let kubeng = start(|| launch().manifests(folder.path()).errors(errors())).await;
    lives_and_ends(kubeng, folder.path()).await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_harms_nobody() {
    let web = Backend::start("web").await.unwrap();
    let folder = shop(&web);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let kubeng = start(|| launch().manifests(folder.path()).errors(full())).await;
    lives_and_ends(kubeng, folder.path()).await;
}

#[tokio::test]
async fn a_closed_standard_error_harms_nobody() {
    let web = Backend::start("web").await.unwrap();
    let folder = shop(&web);
    // The shell takes the word `run` for the name of a script, and gives way to the program.
    let scripts = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_kubeng");
    let script = format!("exec '{program}' run --workers 2 \"$@\" 2>&-\n");
    std::fs::write(scripts.path().join("run"), script).unwrap();
    let closed = || Launch::new("sh").in_folder(scripts.path()).manifests(folder.path());
    let kubeng = start(closed).await;
    assert_eq!(kubeng.log(), [""; 0]);
    lives_and_ends(kubeng, folder.path()).await;
}

/// How many Problems are known, as the admin listener tells it now; None before it answers.
async fn known(kubeng: &Kubeng) -> Option<(String, f64)> {
    let listed = kubeng.admin("/api/v1/problems").await.ok()?;
    let counted = kubeng.metrics().await.ok()?;
    let line = counted.lines().find_map(|line| line.strip_prefix("kubeng_problems "))?;
    Some((String::from_utf8(listed.body.to_vec()).unwrap(), line.parse().unwrap()))
}

#[tokio::test]
async fn no_problem_is_told_of_what_is_read_in_parts() {
    let web = Backend::start("web").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // What refers to others is read before them.
    for number in 0..50 {
        let (name, host) = (format!("web-{number}"), format!("h{number}.example.com"));
        let tls = format!("  tls:\n  - {{hosts: [{host}], secretName: {name}}}\n  rules:");
        let text = ingress(&name, &host, &[("/", "Prefix", &name)]).replace("  rules:", &tls);
        save(folder.path(), &format!("a-{number}.yaml"), &text);
        save(folder.path(), &format!("b-{number}.yaml"), &service(&name, &[&web]));
        save(folder.path(), &format!("c-{number}.yaml"), &secret(&name, &host));
    }
    let mut kubeng = launch().manifests(folder.path()).start().unwrap();
    let began = Instant::now();
    let mut looked = 0;
    loop {
        if let Some((listed, counted)) = known(&kubeng).await {
            assert!(!listed.contains("KNG-") && counted == 0.0, "{counted}: {listed}");
            looked += 1;
        }
        let is_ready = kubeng.admin("/readyz").await.is_ok_and(|answer| answer.status == 200);
        if is_ready && looked > 1 {
            break;
        }
        assert!(began.elapsed() < SOON, "it is not ready\n{}", kubeng.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for number in 0..50 {
        until(&kubeng, &format!("h{number}.example.com"), "/", |answer| answer.status == 200).await;
    }
    assert!(known(&kubeng).await.is_some_and(|(listed, _)| !listed.contains("KNG-")));
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    let told: Vec<String> = kubeng.log().into_iter().filter(|line| line.contains("KNG-")).collect();
    assert_eq!(told, [""; 0]);
}
