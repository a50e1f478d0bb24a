mod vanished;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use kubeng_config::name::ObjectKind;
use kubeng_config::problem::{
    DEFINED_TWICE, SOURCE_UNREACHABLE, UNKNOWN_FIELD, UNREADABLE, UNSUPPORTED_VERSION,
};
use kubeng_config::provenance::Provenance;
use tempfile::TempDir;

use super::*;
use crate::kind::Body;
use crate::object::{Author, Event};

fn class(name: &str, controller: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}}}\n\
         spec: {{controller: {controller}}}\n"
    )
}

fn controller_of(object: &Object) -> &str {
    let Body::IngressClass(class) = &object.body else { panic!("{object:?}") };
    &class.controller
}

/// `name=controller` of all classes in `path`, and the Problems.
fn read(path: &Path) -> (Vec<String>, Vec<Problem>) {
    let (objects, problems) = load(path);
    let shown =
        objects.iter().map(|object| format!("{}={}", object.key.name, controller_of(object)));
    (shown.collect(), problems)
}

#[test]
fn a_folder_is_read_at_any_depth_in_order() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    for (path, name) in [
        ("a.yaml", "one"),
        ("b/c/x.yml", "two"),
        (".git/y.yaml", "hidden"),
        (".#a.yaml", "lock"),
        ("note.txt", "text"),
    ] {
        fs::write(folder.path().join(path), class(name, "k")).unwrap();
    }
    let json = "{\"apiVersion\":\"networking.k8s.io/v1\",\n\t\"kind\":\"IngressClass\",\n\
                \t\"metadata\":{\"name\":\"three\"},\"spec\":{\"controller\":\"k\"}}";
    fs::write(folder.path().join("d.json"), json).unwrap();
    let (classes, problems) = read(folder.path());
    assert_eq!(classes, ["one=k", "three=k", "two=k"]);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(read(&folder.path().join("a.yaml")).0, ["one=k"]);
}

#[test]
fn objects_carry_file_line_and_author() {
    let folder = TempDir::new().unwrap();
    let text = format!("# first\n{}---\n# second\n{}", class("a", "k"), class("b", "k"));
    fs::write(folder.path().join("x.yaml"), text).unwrap();
    let (objects, _) = load(folder.path());
    let lines: Vec<u32> = objects
        .iter()
        .map(|object| {
            let Provenance::File { line, .. } = &object.provenance else { panic!("{object:?}") };
            *line
        })
        .collect();
    assert_eq!(lines, [2, 8]);
    assert!(objects.iter().all(|object| object.author == Author::Operator));
}

#[test]
fn lists_are_taken_apart() {
    let folder = TempDir::new().unwrap();
    let item = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: a}, \
                spec: {controller: k, parametrs: {}}}";
    let text = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n");
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    let text = "apiVersion: networking.k8s.io/v1\nkind: IngressClassList\nitems:\n\
                - metadata: {name: b}\n  spec: {controller: k}\n";
    fs::write(folder.path().join("b.yaml"), text).unwrap();
    fs::write(folder.path().join("c.yaml"), "apiVersion: v1\nkind: List\nitems: 5\n").unwrap();
    let (objects, problems) = load(folder.path());
    assert_eq!(objects.len(), 2);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = &objects[0].problems[0];
    assert_eq!((problem.code, problem.field.as_str()), (UNKNOWN_FIELD, "/spec/parametrs"));
    assert!(matches!(problem.provenance, Some(Provenance::File { line: 4, .. })), "{problem}");
}

#[test]
fn problems_name_the_line_of_the_field() {
    let folder = TempDir::new().unwrap();
    let text = format!(
        "{}  more: 1\n---\n{}",
        "",
        class("a", "k").replace("spec: {", "spec:\n  x: 1\n  #{")
    );
    fs::write(folder.path().join("x.yaml"), text).unwrap();
    let (objects, problems) = load(folder.path());
    let Some(Provenance::File { line, .. }) = &objects[0].problems[0].provenance else { panic!() };
    assert_eq!(*line, 7, "{:?}", objects[0].problems);
    assert_eq!(problems.len(), 1, "a document without kind: {problems:?}");
}

#[test]
fn one_broken_document_harms_no_other() {
    let folder = TempDir::new().unwrap();
    let text = format!("{}---\na: [\n---\n{}", class("a", "k"), class("b", "k"));
    fs::write(folder.path().join("x.yaml"), text).unwrap();
    let old = class("c", "k").replace("networking.k8s.io/v1", "networking.k8s.io/v1beta1");
    fs::write(folder.path().join("y.yaml"), old).unwrap();
    let (classes, problems) = read(folder.path());
    assert_eq!(classes, ["a=k", "b=k"]);
    let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [UNREADABLE, UNSUPPORTED_VERSION]);
    let text = problems[0].to_string();
    assert!(text.contains("x.yaml:6: error") && text.contains("line 6, column"), "{text}");
}

#[test]
fn files_that_are_none_are_reported_and_harm_no_other() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), class("a", "k")).unwrap();
    fs::write(folder.path().join("junk.yaml"), [0_u8, 159, 146, 150]).unwrap();
    fs::write(folder.path().join("nul.yaml"), "a: \0\n").unwrap();
    fs::write(folder.path().join("empty.yaml"), "# nothing\n---\n---\n").unwrap();
    let large = fs::File::create(folder.path().join("large.yaml")).unwrap();
    large.set_len(file::FILE_BYTES_MAX + 1).unwrap();
    symlink("nowhere", folder.path().join("link.yaml")).unwrap();
    let (classes, problems) = read(folder.path());
    assert_eq!(classes, ["a=k"]);
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 4, "{texts:#?}");
    assert!(problems.iter().all(|problem| problem.code == UNREADABLE));
    assert!(texts.iter().any(|text| text.contains("larger than 16 MiB")), "{texts:#?}");
    assert!(texts.iter().any(|text| text.contains("line 1 is not UTF-8")), "{texts:#?}");
    assert!(texts.iter().any(|text| text.contains("leads nowhere")), "{texts:#?}");
}

#[test]
fn links_that_lead_in_circles_are_followed_once() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/x.yaml"), class("a", "k")).unwrap();
    symlink("..", folder.path().join("a/up")).unwrap();
    symlink("a", folder.path().join("b")).unwrap();
    symlink("a/x.yaml", folder.path().join("c.yaml")).unwrap();
    let (classes, problems) = read(folder.path());
    assert_eq!(classes, ["a=k"]);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn the_first_of_two_definitions_is_served() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("b.yaml"), class("a", "second")).unwrap();
    let text = format!("{}---\n{}", class("a", "first"), class("a", "third"));
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    let (classes, problems) = read(folder.path());
    assert_eq!(classes, ["a=first"]);
    assert!(problems.iter().all(|problem| problem.code == DEFINED_TWICE));
    assert_eq!(problems.len(), 2);
    assert!(problems[0].message.contains("a.yaml:1, which is served"), "{}", problems[0]);
}

#[test]
fn a_path_that_does_not_exist_is_a_problem() {
    let (objects, problems) = load(Path::new("does/not/exist"));
    assert!(objects.is_empty());
    assert_eq!(problems[0].code, SOURCE_UNREACHABLE);
}

/// A folder that is watched, and what has been told of it.
struct Live {
    folder: TempDir,
    source: Manifests,
    classes: std::collections::BTreeMap<String, String>,
    problems: Vec<Problem>,
    synced: usize,
    /// Every state that was told, for promises about what never is.
    removals: Vec<String>,
    read_to: u64,
}

impl Live {
    async fn start(files: &[(&str, String)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            fs::write(folder.path().join(path), text).unwrap();
        }
        let source = Manifests::watch(folder.path().to_owned()).unwrap();
        let mut live = Self::of(folder, source);
        live.until("synced", |live| live.synced == ObjectKind::ALL.len()).await;
        live
    }

    fn of(folder: TempDir, source: Manifests) -> Self {
        let classes = std::collections::BTreeMap::new();
        Self { folder, source, classes, problems: vec![], synced: 0, removals: vec![], read_to: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn set(&mut self, object: &Object) {
        if let Body::IngressClass(class) = &object.body {
            self.classes.insert(object.key.name.to_string(), class.controller.clone());
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Upsert(object) => self.set(&object),
            Event::Remove(key) => {
                self.classes.remove(&*key.name);
                self.removals.push(key.name.to_string());
            }
            Event::Replace(list) => list.objects.iter().for_each(|object| self.set(object)),
            Event::Undecodable(key, problem) => panic!("{key}: {problem}"),
            Event::Synced(_) => self.synced += 1,
            Event::Problems(problems) => self.problems = problems,
            Event::Together(_) => panic!("they were taken apart: {event:?}"),
            Event::ReadTo(at) => {
                assert!(at > self.read_to, "{at} is no way on from {}", self.read_to);
                self.read_to = at;
            }
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_so(self) {
            match tokio::time::timeout_at(deadline, self.source.next()).await {
                Ok(received) => {
                    received.event.apart().into_iter().for_each(|event| self.hear(event));
                }
                Err(_) => panic!("not {what}: {:?}, {:?}", self.classes, self.problems),
            }
        }
    }

    async fn hear_for(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(received) = tokio::time::timeout_at(end, self.source.next()).await {
            received.event.apart().into_iter().for_each(|event| self.hear(event));
        }
    }

    async fn until_is(&mut self, name: &str, controller: &str) {
        self.until(controller, |live| live.classes.get(name).is_some_and(|c| c == controller))
            .await;
    }
}

#[tokio::test]
async fn a_save_is_told_however_it_is_made() {
    let mut live = Live::start(&[("a.yaml", class("a", "one"))]).await;
    live.until_is("a", "one").await;
    live.write("a.yaml", &class("a", "two"));
    live.until_is("a", "two").await;
    // Written beside and renamed over, as careful tools do.
    live.write("a.tmp", &class("a", "three"));
    fs::rename(live.path("a.tmp"), live.path("a.yaml")).unwrap();
    live.until_is("a", "three").await;
    // Renamed away, written anew, the old one removed, as vim does.
    fs::rename(live.path("a.yaml"), live.path("a.yaml~")).unwrap();
    live.write("a.yaml", &class("a", "four"));
    fs::remove_file(live.path("a.yaml~")).unwrap();
    live.until_is("a", "four").await;
    assert!(live.removals.is_empty(), "{:?}", live.removals);
}

#[tokio::test]
async fn a_file_that_is_moved_takes_its_objects_along() {
    let mut live = Live::start(&[("a.yaml", class("a", "one"))]).await;
    fs::rename(live.path("a.yaml"), live.path("b.yaml")).unwrap();
    live.write("b.yaml", &class("a", "two"));
    live.until_is("a", "two").await;
    assert!(live.removals.is_empty() && live.problems.is_empty(), "{:?}", live.problems);
    fs::rename(live.path("b.yaml"), live.path("b.off")).unwrap();
    live.until("removed", |live| live.classes.is_empty()).await;
}

#[tokio::test]
async fn a_deleted_file_takes_its_objects_with_it_at_once() {
    let files = [("a.yaml", class("a", "one")), ("b.yaml", class("b", "one"))];
    let mut live = Live::start(&files).await;
    let before = Instant::now();
    fs::remove_file(live.path("a.yaml")).unwrap();
    live.until("removed", |live| live.removals == ["a"]).await;
    assert!(before.elapsed() < folder::GRACE);
    assert!(live.classes.contains_key("b"));
}

#[tokio::test]
async fn who_has_read_the_same_has_read_equally_far() {
    let files = [("a.yaml", class("a", "one")), ("b.yaml", class("b", "one"))];
    let mut live = Live::start(&files).await;
    let first = live.read_to;
    assert!(first > 1_000_000_000_000_000, "{first} is in microseconds since 1970");
    live.write("b.yaml", &class("b", "two"));
    live.until("changed", |live| live.classes["b"] == "two").await;
    fs::remove_file(live.path("a.yaml")).unwrap();
    live.until("removed", |live| live.removals == ["a"]).await;
    assert!(live.read_to >= first);
    let other = Manifests::watch(live.folder.path().to_owned()).unwrap();
    let read_to = live.read_to;
    let mut other = Live::of(live.folder, other);
    other.until("synced", |live| live.synced == ObjectKind::ALL.len()).await;
    assert_eq!(other.read_to, read_to);
}

#[tokio::test]
async fn a_file_that_breaks_keeps_its_objects_until_it_is_mended() {
    let both = format!("{}---\n{}", class("a", "one"), class("b", "one"));
    let mut live = Live::start(&[("a.yaml", both)]).await;
    live.write("a.yaml", &format!("{}---\nkind: [", class("a", "two")));
    live.until("reported", |live| live.problems.len() == 1).await;
    assert_eq!(live.problems[0].code, UNREADABLE);
    assert!(live.problems[0].message.contains("line 6, column"), "{}", live.problems[0]);
    assert_eq!(live.classes["a"], "two", "what can be read is");
    assert_eq!(live.classes["b"], "one", "what cannot be read stays");
    live.write("a.yaml", &class("a", "three"));
    live.until("mended", |live| live.problems.is_empty()).await;
    assert_eq!(live.classes.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_empty_for_a_moment_loses_nothing() {
    let mut live = Live::start(&[("a.yaml", class("a", "one"))]).await;
    fs::File::create(live.path("a.yaml")).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    live.write("a.yaml", &class("a", "two"));
    live.until_is("a", "two").await;
    assert!(live.removals.is_empty());
    fs::File::create(live.path("a.yaml")).unwrap();
    live.until("emptied", |live| live.classes.is_empty()).await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_read_when_it_is_closed() {
    use std::io::Write;
    let both = format!("{}---\n{}", class("a", "one"), class("b", "one"));
    let mut live = Live::start(&[("a.yaml", both)]).await;
    let mut file = fs::File::create(live.path("a.yaml")).unwrap();
    // The first half is a whole document, so only the closing tells.
    file.write_all(format!("{}---\n", class("a", "two")).as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    file.write_all(class("b", "two").as_bytes()).unwrap();
    drop(file);
    live.until_is("b", "two").await;
    assert!(live.removals.is_empty());
    // One that is never closed is read all the same.
    let mut open = fs::OpenOptions::new().append(true).open(live.path("a.yaml")).unwrap();
    open.write_all(format!("---\n{}", class("c", "one")).as_bytes()).unwrap();
    live.until_is("c", "one").await;
    drop(open);
}

#[tokio::test]
async fn new_folders_are_watched() {
    let mut live = Live::start(&[]).await;
    fs::create_dir_all(live.path("x/y")).unwrap();
    live.write("x/y/a.yaml", &class("a", "one"));
    live.until_is("a", "one").await;
    live.write("x/y/a.yaml", &class("a", "two"));
    live.until_is("a", "two").await;
    fs::remove_dir_all(live.path("x")).unwrap();
    live.until("removed", |live| live.classes.is_empty()).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_swapped_as_a_whole() {
    let folder = TempDir::new().unwrap();
    let version = |name: &str, controller: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        for class_name in ["a", "b"] {
            fs::write(path.join(format!("{class_name}.yaml")), class(class_name, controller))
                .unwrap();
        }
    };
    version("..2026_01", "one");
    symlink("..2026_01", folder.path().join("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
    }
    version("..2026_02", "two");
    let source = Manifests::watch(folder.path().to_owned()).unwrap();
    let mut live = Live::of(folder, source);
    live.until("synced", |live| live.synced == ObjectKind::ALL.len()).await;
    assert_eq!(live.classes["a"], "one");
    symlink("..2026_02", live.path("..data_tmp")).unwrap();
    fs::rename(live.path("..data_tmp"), live.path("..data")).unwrap();
    live.until_is("a", "two").await;
    live.until_is("b", "two").await;
    fs::remove_dir_all(live.path("..2026_01")).unwrap();
    live.write("..2026_02/a.yaml", &class("a", "three"));
    live.until_is("a", "three").await;
    assert!(live.removals.is_empty() && live.problems.is_empty(), "{:?}", live.problems);
}

#[tokio::test]
async fn a_folder_that_comes_late_is_found_and_one_that_goes_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("late");
    let source = Manifests::watch(root.clone()).unwrap();
    let mut live = Live::of(folder, source);
    live.until("reported", |live| live.problems.len() == 1).await;
    assert_eq!(live.problems[0].code, SOURCE_UNREACHABLE);
    assert_eq!(live.synced, 0, "nothing is told before it can be read");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), class("a", "one")).unwrap();
    live.until("found", |live| live.synced == ObjectKind::ALL.len() && live.problems.is_empty())
        .await;
    live.until_is("a", "one").await;
    fs::rename(&root, live.path("gone")).unwrap();
    live.until("reported", |live| live.problems.len() == 1).await;
    live.hear_for(Duration::from_millis(1500)).await;
    assert_eq!(live.classes.len(), 1, "what was read stays");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), class("a", "two")).unwrap();
    live.until_is("a", "two").await;
    live.until("healed", |live| live.problems.is_empty()).await;
    fs::write(root.join("a.yaml"), class("a", "three")).unwrap();
    live.until_is("a", "three").await;
}

#[tokio::test]
async fn a_relative_folder_is_watched_as_any_other() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), class("a", "one")).unwrap();
    let up =
        std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect::<PathBuf>();
    let root = up.join(folder.path().strip_prefix("/").unwrap());
    let mut live = Live::of(folder, Manifests::watch(root).unwrap());
    live.until_is("a", "one").await;
    live.write("a.yaml", &class("a", "two"));
    live.until_is("a", "two").await;
    live.write("b.yaml", &class("b", "one"));
    live.until_is("b", "one").await;
    fs::remove_file(live.path("a.yaml")).unwrap();
    live.until("removed", |live| !live.classes.contains_key("a")).await;
}

#[tokio::test]
async fn what_one_save_changes_is_told_together() {
    let two = |one: &str, other: &str| format!("{}---\n{}", class("a", one), class("b", other));
    let mut live = Live::start(&[("a.yaml", two("one", "one"))]).await;
    live.write("a.tmp", &two("two", "two"));
    fs::rename(live.path("a.tmp"), live.path("a.yaml")).unwrap();
    let told = loop {
        let told = live.source.next().await.event.apart();
        if told.iter().any(|event| matches!(event, Event::Upsert(_))) {
            break told;
        }
    };
    let upserts = told.iter().filter(|event| matches!(event, Event::Upsert(_))).count();
    assert_eq!(upserts, 2, "{told:?}");
}

#[tokio::test]
async fn what_has_not_changed_is_not_told_again() {
    let files = [("a.yaml", class("a", "one")), ("b.yaml", class("b", "one"))];
    let mut live = Live::start(&files).await;
    live.write("a.yaml", &class("a", "one"));
    live.write("b.yaml", &class("b", "two"));
    let told = loop {
        let events = live.source.next().await.event.apart();
        let told = events.into_iter().find(|event| !matches!(event, Event::ReadTo(_)));
        if let Some(told) = told {
            break told;
        }
    };
    assert!(matches!(&told, Event::Upsert(object) if &*object.key.name == "b"), "{told:?}");
}

#[test]
fn what_is_shipped_is_read_without_problems() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for (path, count) in [("crds", 0), ("rbac.yaml", 0), ("ingressclass.yaml", 1)] {
        let (objects, problems) = load(&deploy.join(path));
        assert_eq!(objects.len(), count, "{path}");
        assert!(problems.is_empty(), "{problems:#?}");
        assert!(objects.iter().all(|object| object.problems.is_empty()), "{objects:#?}");
    }
}
