//! Runs a test inside a network namespace: this program runs itself again, with that test alone.

use std::any::type_name;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::rig::Rig;

/// Runs `test` inside a namespace, on a control plane of its own. Prints why, if it cannot.
///
/// `test` must be a closure written in the test function itself: its name tells
/// which test to run inside.
#[track_caller]
pub(super) fn inside<T, F>(test: T)
where
    T: FnOnce(Rig) -> F,
    F: Future<Output = Result<()>>,
{
    if std::env::var_os(INSIDE).is_some() {
        let kubebox = std::env::var_os(KUBEBOX).expect("who runs us inside says where kubebox is");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let run = async { test(Rig::start(Path::new(&kubebox)).await?).await };
        if let Err(error) = runtime.block_on(run) {
            panic!("{error:?}");
        }
        return;
    }
    // `suite::cluster::traffic::name::{{closure}}`
    let path = type_name::<T>();
    let (_, name) = path.split_once("::").expect("a path begins with the crate");
    let name = name.trim_end_matches("::{{closure}}");
    match &*KUBEBOX_OR_REASON {
        Ok(kubebox) => run_inside(name, kubebox),
        Err(reason) => skip(name, reason),
    }
}

fn run_inside(name: &str, kubebox: &Path) {
    // Control planes want memory and cores: one at a time.
    let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new("timeout")
        .arg(LONGEST.as_secs().to_string())
        .arg(cluster_folder().join("netns.sh"))
        .args(["suite", ADDRESSES, "--"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .env(KUBEBOX, kubebox)
        .stdin(Stdio::null())
        .output()
        .expect("timeout is part of every system");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(SKIP) => skip(name, &said),
        Some(0) if said.contains("1 passed") => {}
        // With a name that no test has, none would run, and that would be no failure.
        code => panic!("inside the namespace, exit code {code:?}\n{said}\n{complained}"),
    }
}

fn skip(name: &str, reason: &str) {
    let reason = reason.trim().trim_start_matches("skipped: ");
    // Not by `println`, which is shown only when a test fails.
    let _ = writeln!(std::io::stderr(), "{name} skipped: {reason}");
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where kubebox is, or why there is none. Built once for all tests.
static KUBEBOX_OR_REASON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    if let Some(built) = std::env::var_os(KUBEBOX) {
        return Ok(built.into());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kubebox");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let kubebox = folder.join("kubebox");
    let build = cluster_folder().join("build.sh");
    let output = Command::new(build).arg(&kubebox).output().map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(kubebox),
        Some(SKIP) => Err(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => panic!("build.sh: {code:?}\n{}", String::from_utf8_lossy(&output.stderr)),
    }
});

fn cluster_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster")
}

/// Addresses inside: of backends, and one that no tenant may name.
const ADDRESSES: &str = "10.50.0.1..20,fd00:ec2::254";

/// Set inside.
const INSIDE: &str = "KUBENG_SUITE_INSIDE";

/// Names a kubebox that is built already.
const KUBEBOX: &str = "KUBEBOX";

/// The exit code of a script that cannot run here.
const SKIP: i32 = 77;

/// The longest time for one test.
const LONGEST: Duration = Duration::from_secs(300);
