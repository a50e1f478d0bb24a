//! Exchanging the program under load: nothing is refused, nothing is lost, and a bad one changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kubeng_harness::backend::Backend;
use kubeng_harness::client::{Client, Counts};
use kubeng_harness::process::{Kubeng, Launch};
use tokio::net::UnixDatagram;
use tokio::task::JoinSet;

use crate::support::{SOON, ingress, launch, save, secret, serve_with, service};

const HOST: &str = "web.example.com";

fn files(web: &Backend) -> [(&'static str, String); 3] {
    [
        ("a.yaml", service("web", &[web])),
        ("b.yaml", ingress("web", HOST, &[("/", "Prefix", "web")])),
        ("c.yaml", secret("cert", HOST)),
    ]
}

/// The program under a name of its own, so that another file can take its place.
fn copy_into(folder: &Path) -> PathBuf {
    let program = folder.join("kubeng");
    // A link is as good as a copy, and quicker.
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubeng"), &program).unwrap();
    program
}

/// Puts a script in the place of the program.
fn replace_by(program: &Path, script: &str) {
    let beside = program.with_extension("new");
    std::fs::write(&beside, script).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(beside, program).unwrap();
}

/// Clients that ask without a pause until they are told to end.
struct Load {
    is_over: Arc<AtomicBool>,
    clients: JoinSet<(Counts, Option<String>)>,
}

impl Load {
    fn start(kubeng: &Kubeng) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..8 {
            let client = if number % 2 == 0 {
                Client::plain(kubeng.http)
            } else {
                Client::tls(kubeng.https, HOST).unwrap()
            };
            clients.spawn(ask(client, Arc::clone(&is_over)));
        }
        Self { is_over, clients }
    }

    /// Ends it, and gives what all of them saw.
    async fn end(self) -> Counts {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        for (counts, wrong) in self.clients.join_all().await {
            assert_eq!(wrong, None, "{counts:?}");
            all += counts;
        }
        all
    }
}

async fn ask(mut client: Client, is_over: Arc<AtomicBool>) -> (Counts, Option<String>) {
    let mut wrong = None;
    while !is_over.load(Ordering::Relaxed) {
        match client.get(HOST, "/").await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => drop(wrong.get_or_insert(format!("status {}", answer.status))),
            Err(error) => drop(wrong.get_or_insert(format!("{error:#}"))),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (client.counts().await, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_under_load_lose_no_request() {
    let web = Backend::start("web").await.unwrap();
    let launch = || launch().arg("--default-certificate").arg("shop/cert").arg("--drain").arg("5");
    let (mut kubeng, folder) = serve_with(launch, &files(&web)).await;
    let load = Load::start(&kubeng);
    for number in 0..20 {
        kubeng.upgrade(SOON).await.unwrap();
        // The one that took over follows its sources.
        save(
            folder.path(),
            "d.yaml",
            &ingress("more", &format!("{number}.example.com"), &[("/", "Prefix", "web")]),
        );
    }
    let mut fresh = Client::plain(kubeng.http);
    let served = async {
        while fresh.get("19.example.com", "/").await.unwrap().status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, served).await.unwrap();
    assert!(kubeng.wait_for_replaced(SOON).await.unwrap(), "each ended well");
    let drained = |line: &&String| line.contains("drained") && line.contains("cut=0");
    assert_eq!(kubeng.log().iter().filter(drained).count(), 20, "{:#?}", kubeng.log());
    let counts = load.end().await;
    assert!(counts.answered > 500, "{counts:?}");
    assert_eq!((counts.failed, counts.sent), (0, counts.answered), "{counts:?}");
    assert_eq!(kubeng.admin("/readyz").await.unwrap().status, 200);
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    assert!(Client::plain(kubeng.http).get(HOST, "/").await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_cannot_take_over_changes_nothing() {
    let web = Backend::start("web").await.unwrap();
    let bin = tempfile::tempdir().unwrap();
    let program = copy_into(bin.path());
    let start = || {
        let launch =
            Launch::new(&program).arg("--workers").arg("2").arg("--upgrade-within").arg("1");
        launch.arg("--default-certificate").arg("shop/cert")
    };
    let (mut kubeng, _folder) = serve_with(start, &files(&web)).await;
    let load = Load::start(&kubeng);
    let failures = [
        ("#!/bin/sh\nexit 7\n", "exit status: 7"),
        ("#!/bin/sh\nkill -9 $$\n", "signal: 9"),
        // It takes nothing and says nothing.
        ("#!/bin/sh\nexec sleep 100\n", "does not serve after 1 s"),
        ("no program at all", "cannot start"),
    ];
    for (number, (script, why)) in failures.iter().enumerate() {
        replace_by(&program, script);
        kubeng.ask_for_upgrade().unwrap();
        let failed = |line: &str| line.contains("upgrade: it failed") && line.contains(why);
        kubeng
            .wait_for_line(SOON, failed)
            .await
            .unwrap_or_else(|error| panic!("{number}: {error:#}"));
        assert_eq!(kubeng.admin("/readyz").await.unwrap().status, 200);
    }
    let counts = load.end().await;
    assert_eq!((counts.failed, counts.closed), (0, 0), "no connection noticed: {counts:?}");
    // A good one in its place is taken.
    std::fs::remove_file(&program).unwrap();
    copy_into(bin.path());
    kubeng.upgrade(SOON).await.unwrap();
    assert!(kubeng.wait_for_replaced(SOON).await.unwrap());
    assert_eq!(Client::plain(kubeng.http).get(HOST, "/").await.unwrap().status, 200);
}

#[tokio::test]
async fn the_next_process_has_the_data_folder_and_the_admin_listener() {
    let web = Backend::start("web").await.unwrap();
    let (mut kubeng, _folder) = serve_with(launch, &files(&web)).await;
    kubeng.upgrade(SOON).await.unwrap();
    assert!(kubeng.wait_for_replaced(SOON).await.unwrap());
    assert_eq!(kubeng.admin("/readyz").await.unwrap().status, 200);
    let lock = std::fs::File::open(kubeng.scratch().join("data/kubeng.lock")).unwrap();
    assert!(lock.try_lock().is_err(), "it is held without a gap");
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    assert!(lock.try_lock().is_ok());
}

#[tokio::test]
async fn systemd_is_told_who_the_process_is() {
    let web = Backend::start("web").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let start = || launch().variable("NOTIFY_SOCKET", &socket);
    let (mut kubeng, _folder) = serve_with(start, &files(&web)).await;
    let mut space = [0; 256];
    let mut next = async || {
        let count = tokio::time::timeout(SOON, manager.recv(&mut space)).await.unwrap().unwrap();
        String::from_utf8(space[..count].to_vec()).unwrap()
    };
    assert!(next().await.starts_with("READY=1\n"));
    kubeng.upgrade(SOON).await.unwrap();
    assert!(next().await.starts_with(&format!("MAINPID={}\n", kubeng.pid())));
    assert!(next().await.starts_with("READY=1\n"), "said by the process that took over");
    assert!(kubeng.wait_for_replaced(SOON).await.unwrap());
    kubeng.terminate().unwrap();
    assert!(next().await.starts_with("STOPPING=1\n"));
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
}

#[tokio::test]
async fn if_the_old_process_dies_half_way_the_next_one_serves_with_its_sockets() {
    let web = Backend::start("web").await.unwrap();
    let bin = tempfile::tempdir().unwrap();
    let program = copy_into(bin.path());
    let start = || Launch::new(&program).arg("--workers").arg("2");
    let (mut kubeng, _folder) = serve_with(start, &files(&web)).await;
    let (real, gate) = (env!("CARGO_BIN_EXE_kubeng"), bin.path().join("go"));
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display());
    replace_by(&program, &format!("#!/bin/sh\n{wait}\nexec {real} \"$@\"\n"));
    kubeng.ask_for_upgrade().unwrap();
    kubeng.follow_next(SOON).await.unwrap();
    kubeng.kill_first().await.unwrap();
    // The port is open although nobody serves: a connection waits in its queue.
    let mut waiting = Client::plain(kubeng.http);
    let (answer, ()) = tokio::join!(waiting.get(HOST, "/"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::fs::write(&gate, "").unwrap();
    });
    assert_eq!(answer.unwrap().status, 200);
    let ready = async {
        while kubeng.admin("/readyz").await.is_ok_and(|answer| answer.status != 200) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, ready).await.unwrap();
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
}

#[tokio::test]
async fn told_to_stop_during_an_upgrade_it_stops() {
    let web = Backend::start("web").await.unwrap();
    let bin = tempfile::tempdir().unwrap();
    let program = copy_into(bin.path());
    let start = || Launch::new(&program).arg("--workers").arg("1");
    let (mut kubeng, _folder) = serve_with(start, &files(&web)).await;
    replace_by(&program, "#!/bin/sh\nexec sleep 100\n");
    kubeng.ask_for_upgrade().unwrap();
    kubeng.wait_for_line(SOON, |line| line.contains("is starting")).await.unwrap();
    kubeng.terminate().unwrap();
    assert!(kubeng.wait_for_end(SOON).await.unwrap().success());
    assert!(Client::plain(kubeng.http).get(HOST, "/").await.is_err());
}
