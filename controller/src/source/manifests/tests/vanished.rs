//! Files that are not there any more: by links that lead nowhere, one by one, or all of them.

use kubeng_config::problem::REMOVAL_HELD;

use super::folder::GRACE;
use super::*;

/// A folder that is looked at by hand, at times that are set by hand.
struct ByHand {
    scratch: TempDir,
    folder: Folder,
    now: Instant,
    classes: std::collections::BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl ByHand {
    /// With a class of the same name in each of `names`, in the folder `m`.
    fn new(names: &[&str]) -> Self {
        let scratch = TempDir::new().unwrap();
        fs::create_dir(scratch.path().join("m")).unwrap();
        let folder = Folder::new(scratch.path().join("m"));
        let (classes, problems) = (std::collections::BTreeMap::new(), vec![]);
        let mut by_hand = Self { scratch, folder, now: Instant::now(), classes, problems };
        for name in names {
            by_hand.write(name, "one");
        }
        by_hand.look();
        by_hand
    }

    /// With a link from `m/a.yaml` to a file beside the folder.
    fn with_link() -> Self {
        let mut by_hand = Self::new(&[]);
        fs::write(by_hand.path("target.yaml"), class("a", "one")).unwrap();
        symlink("../target.yaml", by_hand.path("m/a.yaml")).unwrap();
        by_hand.look();
        assert_eq!(by_hand.names(), "a");
        by_hand
    }

    fn path(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn write(&self, name: &str, controller: &str) {
        fs::write(self.path(&format!("m/{name}.yaml")), class(name, controller)).unwrap();
    }

    fn tell(&mut self) {
        for event in self.folder.tell() {
            match event {
                Event::Upsert(object) => {
                    self.classes.insert(object.key.name.to_string(), controller_of(&object).into());
                }
                Event::Remove(key) => {
                    self.classes.remove(&*key.name);
                }
                Event::Replace(list) => {
                    for object in &list.objects {
                        let controller = controller_of(object).to_owned();
                        self.classes.insert(object.key.name.to_string(), controller);
                    }
                }
                Event::Problems(problems) => self.problems = problems,
                Event::Synced(_) | Event::ReadTo(_) => {}
                Event::Undecodable(..) | Event::Together(_) => panic!("{event:?}"),
            }
        }
    }

    /// Looks at the whole folder, as the thread does.
    fn look(&mut self) {
        self.folder.look(self.now);
        self.folder.expire(self.now);
        self.tell();
    }

    fn look_after(&mut self, time: Duration) {
        self.now += time;
        self.look();
    }

    /// Time passes, and nothing is looked at.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.folder.expire(self.now);
        self.tell();
    }

    /// Files are deleted one after another, each of which is told.
    fn delete(&mut self, names: &[&str]) {
        for name in names {
            let path = self.path(&format!("m/{name}.yaml"));
            fs::remove_file(&path).unwrap();
            self.folder.read_changed(&path, self.now);
            self.pass(Duration::from_millis(1));
        }
    }

    /// All files are moved away, each of which is told.
    fn move_all_away(&mut self) {
        fs::create_dir(self.path("elsewhere")).unwrap();
        let files: Vec<_> = fs::read_dir(self.path("m")).unwrap().map(Result::unwrap).collect();
        for file in files {
            fs::rename(file.path(), self.path("elsewhere").join(file.file_name())).unwrap();
            self.folder.note_renamed_away(&file.path(), self.now);
            self.pass(Duration::from_millis(1));
        }
    }

    fn names(&self) -> String {
        self.classes.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn codes(&self) -> Vec<kubeng_config::problem::Code> {
        self.problems.iter().map(|problem| problem.code).collect()
    }

    #[track_caller]
    fn check(&self, names: &str, codes: &[kubeng_config::problem::Code]) {
        assert_eq!((self.names().as_str(), &*self.codes()), (names, codes), "{:?}", self.problems);
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_is_behind_a_link_that_leads_nowhere_stays_until_it_leads_somewhere() {
    let mut by_hand = ByHand::with_link();
    fs::rename(by_hand.path("target.yaml"), by_hand.path("moved")).unwrap();
    for after in [Duration::from_secs(30), MINUTE, MINUTE] {
        by_hand.look_after(after);
        by_hand.check("a", &[UNREADABLE]);
        assert!(by_hand.problems[0].message.contains("leads nowhere"), "{}", by_hand.problems[0]);
    }
    // A report of the link itself says no more than a look.
    let link = by_hand.path("m/a.yaml");
    by_hand.folder.read_changed(&link, by_hand.now);
    by_hand.look();
    by_hand.check("a", &[UNREADABLE]);
    fs::write(by_hand.path("target.yaml"), class("a", "two")).unwrap();
    by_hand.look_after(GRACE);
    by_hand.check("a", &[]);
    assert_eq!(by_hand.classes["a"], "two");
}

#[test]
fn what_is_behind_a_link_goes_with_the_link() {
    let mut by_hand = ByHand::with_link();
    fs::remove_file(by_hand.path("target.yaml")).unwrap();
    by_hand.look();
    by_hand.check("a", &[UNREADABLE]);
    fs::remove_file(by_hand.path("m/a.yaml")).unwrap();
    by_hand.look();
    by_hand.check("", &[]);
}

#[test]
fn what_is_behind_a_link_to_a_folder_that_is_gone_stays() {
    let mut by_hand = ByHand::new(&["a"]);
    fs::create_dir(by_hand.path("outside")).unwrap();
    fs::write(by_hand.path("outside/b.yaml"), class("b", "one")).unwrap();
    symlink("../outside", by_hand.path("m/sub")).unwrap();
    by_hand.look();
    by_hand.check("a b", &[]);
    fs::rename(by_hand.path("outside"), by_hand.path("moved")).unwrap();
    // The folder is reported under the name of the link.
    let link = by_hand.path("m/sub");
    by_hand.folder.note_renamed_away(&link, by_hand.now);
    by_hand.look();
    by_hand.check("a b", &[UNREADABLE]);
    by_hand.look_after(GRACE * 2);
    by_hand.check("a b", &[UNREADABLE]);
    fs::remove_file(link).unwrap();
    by_hand.look();
    by_hand.check("a", &[]);
}

#[test]
fn a_link_that_leads_nowhere_and_never_did_is_told_only_as_a_manifest() {
    let mut by_hand = ByHand::new(&["a"]);
    symlink("nowhere", by_hand.path("m/result")).unwrap();
    by_hand.look();
    by_hand.check("a", &[]);
    symlink("nowhere", by_hand.path("m/b.yaml")).unwrap();
    by_hand.look();
    by_hand.check("a", &[UNREADABLE]);
}

#[test]
fn files_that_are_all_gone_at_one_look_are_held_until_a_second_look_a_minute_later() {
    let mut by_hand = ByHand::new(&["a", "b"]);
    for name in ["m/a.yaml", "m/b.yaml"] {
        fs::remove_file(by_hand.path(name)).unwrap();
    }
    by_hand.look();
    by_hand.check("a b", &[REMOVAL_HELD]);
    assert!(by_hand.problems[0].message.contains("of 2 files"), "{}", by_hand.problems[0]);
    by_hand.look_after(MINUTE - GRACE);
    by_hand.check("a b", &[REMOVAL_HELD]);
    by_hand.pass(GRACE * 2);
    by_hand.check("a b", &[REMOVAL_HELD]);
    by_hand.look();
    by_hand.check("", &[]);
}

#[test]
fn files_that_are_all_moved_away_are_held() {
    let mut by_hand = ByHand::new(&["a", "b", "c"]);
    by_hand.move_all_away();
    by_hand.pass(GRACE);
    by_hand.check("a b c", &[REMOVAL_HELD]);
    by_hand.pass(GRACE);
    by_hand.look_after(MINUTE);
    by_hand.check("", &[]);
}

#[test]
fn of_files_that_are_all_deleted_one_after_another_the_last_is_held() {
    let mut by_hand = ByHand::new(&["a", "b", "c"]);
    by_hand.delete(&["a", "b", "c"]);
    by_hand.pass(GRACE);
    by_hand.check("c", &[REMOVAL_HELD]);
    by_hand.look_after(MINUTE * 2);
    by_hand.check("", &[]);
    // Also where the second one is the last.
    let mut by_hand = ByHand::new(&["a", "b"]);
    by_hand.delete(&["a", "b"]);
    by_hand.pass(GRACE);
    by_hand.check("b", &[REMOVAL_HELD]);
}

#[test]
fn files_that_were_all_deleted_when_the_first_is_told_are_held() {
    let mut by_hand = ByHand::new(&["a", "b", "c"]);
    let paths = ["a", "b", "c"].map(|name| by_hand.path(&format!("m/{name}.yaml")));
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    for path in &paths {
        by_hand.folder.read_changed(path, by_hand.now);
        by_hand.pass(Duration::ZERO);
    }
    by_hand.check("a b c", &[]);
    by_hand.pass(GRACE);
    by_hand.check("a b c", &[REMOVAL_HELD]);
}

#[test]
fn the_only_file_goes_at_once_and_so_does_one_of_several() {
    let mut by_hand = ByHand::new(&["a", "b"]);
    by_hand.delete(&["a"]);
    by_hand.check("b", &[]);
    by_hand.pass(GRACE);
    by_hand.delete(&["b"]);
    by_hand.check("", &[]);
    // A look says the same of what was not told.
    let mut by_hand = ByHand::new(&["a"]);
    fs::remove_file(by_hand.path("m/a.yaml")).unwrap();
    by_hand.look();
    by_hand.check("", &[]);
    let mut by_hand = ByHand::new(&["a"]);
    by_hand.move_all_away();
    by_hand.pass(GRACE);
    by_hand.check("", &[]);
}

#[test]
fn several_of_more_files_go_at_once() {
    let mut by_hand = ByHand::new(&["a", "b", "c"]);
    by_hand.delete(&["a", "b"]);
    by_hand.check("c", &[]);
    by_hand.pass(GRACE);
    by_hand.check("c", &[]);
}

#[test]
fn an_empty_folder_in_the_place_of_another_is_held_however_little_was_there() {
    let mut by_hand = ByHand::new(&["a"]);
    fs::rename(by_hand.path("m"), by_hand.path("gone")).unwrap();
    fs::create_dir(by_hand.path("m")).unwrap();
    by_hand.look();
    by_hand.check("a", &[REMOVAL_HELD]);
    by_hand.look_after(MINUTE);
    by_hand.check("", &[]);
    // One that was away, too: its inode may be used again.
    let mut by_hand = ByHand::new(&["a"]);
    fs::rename(by_hand.path("m"), by_hand.path("gone")).unwrap();
    by_hand.look();
    by_hand.check("a", &[SOURCE_UNREACHABLE]);
    fs::rename(by_hand.path("gone"), by_hand.path("m")).unwrap();
    fs::remove_file(by_hand.path("m/a.yaml")).unwrap();
    by_hand.look();
    by_hand.check("a", &[REMOVAL_HELD]);
}

#[test]
fn a_folder_that_is_filled_again_ends_the_hold_and_what_it_lacks_goes_a_moment_later() {
    let mut by_hand = ByHand::new(&["a", "b"]);
    by_hand.move_all_away();
    by_hand.pass(GRACE);
    by_hand.check("a b", &[REMOVAL_HELD]);
    // An empty file is nothing.
    fs::write(by_hand.path("m/empty.yaml"), "").unwrap();
    by_hand.look();
    by_hand.check("a b", &[REMOVAL_HELD]);
    by_hand.write("a", "two");
    by_hand.look();
    by_hand.check("a b", &[]);
    assert_eq!(by_hand.classes["a"], "two");
    by_hand.pass(GRACE);
    by_hand.check("a", &[]);
}

#[test]
fn files_that_are_moved_to_other_names_are_no_loss() {
    let mut by_hand = ByHand::new(&["a", "b"]);
    fs::create_dir(by_hand.path("m/sub")).unwrap();
    for name in ["a", "b"] {
        let to = by_hand.path(&format!("m/sub/{name}.yaml"));
        fs::rename(by_hand.path(&format!("m/{name}.yaml")), to).unwrap();
    }
    by_hand.look();
    by_hand.check("a b", &[]);
    by_hand.look_after(MINUTE);
    by_hand.check("a b", &[]);
}

#[tokio::test]
async fn a_mounted_config_map_whose_link_leads_nowhere_for_a_while_loses_nothing() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("..2026_01")).unwrap();
    symlink("..2026_01", folder.path().join("..data")).unwrap();
    for name in ["a", "b"] {
        let file = format!("{name}.yaml");
        fs::write(folder.path().join("..2026_01").join(&file), class(name, "one")).unwrap();
        symlink(Path::new("..data").join(&file), folder.path().join(&file)).unwrap();
    }
    let source = Manifests::watch(folder.path().to_owned()).unwrap();
    let mut live = Live::of(folder, source);
    live.until("synced", |live| live.synced == ObjectKind::ALL.len()).await;
    fs::remove_file(live.path("..data")).unwrap();
    live.until("told", |live| live.problems.len() == 2).await;
    assert!(live.problems.iter().all(|problem| problem.code == UNREADABLE), "{:?}", live.problems);
    live.hear_for(GRACE * 3 / 2).await;
    symlink("..2026_01", live.path("..data")).unwrap();
    live.until("mended", |live| live.problems.is_empty()).await;
    assert_eq!(live.classes.len(), 2);
    assert!(live.removals.is_empty(), "{:?}", live.removals);
    // With the links themselves their Problems go.
    fs::remove_file(live.path("..data")).unwrap();
    live.until("told", |live| live.problems.len() == 2).await;
    fs::remove_file(live.path("a.yaml")).unwrap();
    live.until("removed", |live| live.removals == ["a"] && live.problems.len() == 1).await;
}

#[tokio::test]
async fn a_folder_that_an_empty_one_takes_the_place_of_loses_nothing() {
    let outside = TempDir::new().unwrap();
    let root = outside.path().join("m");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), class("a", "one")).unwrap();
    let mut live = Live::of(outside, Manifests::watch(root.clone()).unwrap());
    live.until_is("a", "one").await;
    fs::rename(&root, live.path("gone")).unwrap();
    fs::create_dir(&root).unwrap();
    live.until("held", |live| live.problems.iter().any(|problem| problem.code == REMOVAL_HELD))
        .await;
    live.hear_for(GRACE * 3 / 2).await;
    assert!(live.removals.is_empty(), "{:?}", live.removals);
    fs::write(root.join("a.yaml"), class("a", "two")).unwrap();
    live.until_is("a", "two").await;
    live.until("mended", |live| live.problems.is_empty()).await;
    assert!(live.removals.is_empty(), "{:?}", live.removals);
}
