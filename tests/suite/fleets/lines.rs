//! The lines of the README under "Many replicas", given to a shell as they stand there, but for ports.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kubeng_harness::fleet::placed::Place;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::rig::{Said, WAIT};

/// The lines that start everything, and those that ask.
fn lines() -> (String, Vec<String>) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let (_, section) = text.split_once("## Many replicas").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (start, ask) = block.split_at(block.find("\nkubeng replica list").unwrap() + 1);
    let ask = ask.lines().map(|line| line.split('#').next().unwrap().trim().to_owned());
    (start.to_owned(), ask.filter(|line| !line.is_empty()).collect())
}

/// A shell and all that it has started. They are killed when this is dropped.
struct Shell {
    group: Pid,
    _child: Child,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

/// Has a shell run `script` in `folder`, where `kubeng` is the program under test.
fn shell(folder: &Path, script: &str) -> Shell {
    let programs = folder.join("programs");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubeng"), programs.join("kubeng")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{script}\nwait")]).current_dir(folder);
    command.env_clear().env("PATH", path).process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn().unwrap();
    let group = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    Shell { group, _child: child }
}

async fn kubeng(admin: SocketAddr, line: &str) -> Said {
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("kubeng"), "{line}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubeng"));
    command.args(words).args(["--admin", &format!("http://{admin}")]).env_clear();
    let output = command.kill_on_drop(true).output().await.unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_and_three_replicas_are_started_by_the_lines_of_the_readme() {
    let (start, ask) = lines();
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<Place> = (0..5).map(|_| Place::anywhere().unwrap()).collect();
    let (one, other) = (&places[0], &places[1]);
    let ports = |of: fn(&Place) -> SocketAddr| {
        places[2..].iter().map(|place| format!(" {}", of(place).port())).collect::<String>()
    };
    // Ports of this test in the place of those that are written there.
    let mut script =
        format!("http=(0{})\nadmin=(0{})\n", ports(|at| at.address), ports(|at| at.admin));
    let mut text = start.clone();
    for (written, ours) in [
        ("127.0.0.1:9190", one.address.to_string()),
        ("127.0.0.1:9180", one.admin.to_string()),
        ("127.0.0.1:9191", other.address.to_string()),
        ("127.0.0.1:9181", other.admin.to_string()),
        ("127.0.0.1:808$n", "127.0.0.1:${http[$n]}".to_owned()),
        ("127.0.0.1:928$n", "127.0.0.1:${admin[$n]}".to_owned()),
        ("kubeng fleet list", format!("kubeng fleet list --admin http://{}", one.admin)),
    ] {
        assert!(text.contains(written), "{written} is not in the README:\n{start}");
        text = text.replace(written, &ours);
    }
    script.push_str(&text);
    let _shell = shell(folder.path(), &script);

    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let began = Instant::now();
    let is_in_sync = |said: &Said, name: &str| {
        said.out.lines().any(|line| line.starts_with(name) && line.contains(" InSync "))
    };
    // The first one tells of all, for it asks the other one.
    for name in ["r1", "r2", "r3"] {
        loop {
            let said = kubeng(one.admin, &ask[0]).await;
            if is_in_sync(&said, name) {
                break;
            }
            assert!(began.elapsed() < WAIT, "{name}: {said:?}\n{}", log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(ask.iter().any(|line| line.starts_with("kubeng compare prod/r1 intended:prod")));
    // Also where the replica is connected to the other one.
    let others = ["r2", "r3"].map(|name| format!("kubeng compare prod/r1 prod/{name}"));
    for line in ask[1..].iter().chain(&others) {
        let said = kubeng(one.admin, line).await;
        assert_eq!(said.code, Some(0), "{line}: {said:?}");
    }
}
