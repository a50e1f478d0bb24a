//! What a folder of manifests says, and what of that has been told.

mod vanished;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{DEFINED_TWICE, Problem, SOURCE_UNREACHABLE, Subject};

use super::file::{Fingerprint, Stretch, micros, read_stretches, read_text};
use super::tree::{self, list};
use crate::object::{Event, List, Object};
use vanished::Vanished;

/// How long a file may be gone by a rename, or be empty, or stay open for
/// writing, before that counts: editors and tools save in such steps.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// The state of one folder. Reads files; never waits.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Boxed, because a third of the places of the map are empty.
    files: BTreeMap<Arc<Path>, Box<File>>,
    /// The files that fade or are open; few, while there may be many files.
    waiting: BTreeSet<Arc<Path>>,
    /// Every definition of an Object, the one that is served first.
    definitions: BTreeMap<ObjectKey, Definitions>,
    /// Objects whose definitions have changed since the last telling.
    touched: BTreeSet<ObjectKey>,
    told: BTreeMap<ObjectKey, Arc<Object>>,
    doubles: BTreeMap<ObjectKey, Vec<Problem>>,
    /// Problems of the last listing.
    listed_problems: Vec<Problem>,
    unreachable: Option<Problem>,
    /// A Problem of the watching, which is not ours.
    watch_problem: Option<Problem>,
    told_problems: Vec<Problem>,
    /// Whether the Problems may differ from those that were told.
    may_problems_differ: bool,
    vanished: Vanished,
    has_links: bool,
    has_listed: bool,
    has_told: bool,
    /// The newest time of change of all files and folders that were looked at, in microseconds.
    read_to: u64,
    told_read_to: u64,
}

/// Where a definition stands. Files that may be gone come last.
type Place = (bool, Arc<Path>, usize);

/// All definitions of one Object, in order of their places: nearly always one.
type Definitions = Vec<(Place, Arc<Object>)>;

/// One file, and what was read from it.
#[derive(Debug, Default)]
struct File {
    /// `None`: it is to be read at the next look.
    fingerprint: Option<Fingerprint>,
    stretches: Vec<Stretch>,
    /// Objects of an earlier reading that a broken document may hold.
    kept: Vec<Arc<Object>>,
    problem: Option<Box<Problem>>,
    /// Since when it has been gone or empty, while its Objects still count.
    fading: Option<Instant>,
    /// Whether it is not there, and its Objects count until that is believed.
    is_held: bool,
    /// Since when it has been open for writing.
    open: Option<Instant>,
}

impl File {
    fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.stretches.iter().flat_map(|stretch| &stretch.objects).chain(&self.kept)
    }

    /// Whether its Objects may be gone, so that those of any other file come first.
    fn is_leaving(&self) -> bool {
        self.fading.is_some() || self.is_held
    }

    fn has_problems(&self) -> bool {
        self.problem.is_some() || self.stretches.iter().any(|stretch| !stretch.problems.is_empty())
    }

    /// Puts what was read in the place of what was known. While a document is
    /// broken, Objects that are nowhere else in the file may be in it.
    fn read(&mut self, stretches: Vec<Stretch>) {
        let former: Vec<Arc<Object>> = self.objects().cloned().collect();
        let found: BTreeSet<&ObjectKey> = stretches
            .iter()
            .flat_map(|stretch| &stretch.objects)
            .map(|object| &object.key)
            .collect();
        self.kept = if stretches.iter().any(|stretch| stretch.is_broken) {
            let is_kept =
                |object: &Arc<Object>| !found.contains(&object.key) && !object.is_stand_in();
            former.into_iter().filter(is_kept).collect()
        } else {
            Vec::new()
        };
        let stand_ins = stretches.iter().flat_map(|stretch| &stretch.stand_ins);
        for object in stand_ins.filter(|object| !found.contains(&object.key)) {
            if self.kept.iter().all(|kept| kept.key != object.key) {
                self.kept.push(Arc::clone(object));
            }
        }
        self.stretches = stretches;
        self.problem = None;
        self.fading = None;
        self.is_held = false;
    }
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            files: BTreeMap::new(),
            waiting: BTreeSet::new(),
            definitions: BTreeMap::new(),
            touched: BTreeSet::new(),
            told: BTreeMap::new(),
            doubles: BTreeMap::new(),
            listed_problems: Vec::new(),
            unreachable: None,
            watch_problem: None,
            told_problems: Vec::new(),
            may_problems_differ: false,
            vanished: Vanished::default(),
            has_links: false,
            has_listed: false,
            has_told: false,
            read_to: 0,
            told_read_to: 0,
        }
    }

    /// Whether the last look at the whole folder failed.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.unreachable.is_some()
    }

    /// Whether a change beside the manifests may be one of a manifest.
    pub(crate) fn has_links(&self) -> bool {
        self.has_links
    }

    /// Notes whether the folder can be watched.
    pub(crate) fn note_watching(&mut self, problem: Option<Problem>) {
        self.watch_problem = problem;
        self.may_problems_differ = true;
    }

    /// Looks at the whole folder, and reads the files that have changed.
    pub(crate) fn look(&mut self, now: Instant) {
        self.may_problems_differ = true;
        let listing = match list(&self.root) {
            Ok(listing) => listing,
            Err(error) => {
                let remedy = if self.has_listed {
                    "restore it; what was last read is served until then"
                } else {
                    "create it, or name another one; it is tried again every second"
                };
                self.unreachable = Some(Problem {
                    subject: Subject::Other(format!("manifests:{}", self.root.display())),
                    field: String::new(),
                    code: SOURCE_UNREACHABLE,
                    message: format!("cannot be read: {error}"),
                    remedy: remedy.to_owned(),
                    provenance: None,
                });
                return;
            }
        };
        let place = self.place_of_folder();
        self.unreachable = None;
        self.has_listed = true;
        self.has_links = listing.has_links;
        self.listed_problems = listing.problems;
        self.note_dangling(listing.dangling);
        self.read_to = self.read_to.max(listing.read_to);
        // What is there is read first: a file that was moved is no loss.
        for path in &listing.files {
            let is_open = self.files.get(&**path).is_some_and(|file| file.open.is_some());
            if !is_open {
                self.read(path, Look::IfChanged, now);
            }
        }
        self.look_for_losses(&listing.files, &listing.unread, place, now);
    }

    /// Reads one file that is said to have changed.
    pub(crate) fn read_changed(&mut self, path: &Path, now: Instant) {
        self.read(path, Look::Always, now);
    }

    /// Notes that a file is being written: it is read when that ends.
    pub(crate) fn note_open(&mut self, path: &Path, now: Instant) {
        if let Some(file) = self.files.get_mut(path) {
            file.open.get_or_insert(now);
        } else {
            let file = File { open: Some(now), ..File::default() };
            self.files.insert(path.into(), Box::new(file));
        }
        self.waiting.insert(path.into());
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|path| self.files.get(path));
        waiting.flat_map(|file| [file.fading, file.open]).flatten().min().map(|since| since + GRACE)
    }

    fn read(&mut self, path: &Path, look: Look, now: Instant) {
        let fingerprint = match Fingerprint::of(path) {
            Ok(fingerprint) => fingerprint,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if self.is_unknown(path) {
                    return;
                }
                self.note_deleted(path, now);
                // The removal of a file is a change of its folder.
                let folder = path.parent().and_then(|folder| std::fs::metadata(folder).ok());
                let changed = folder.and_then(|folder| folder.modified().ok()).map_or(0, micros);
                self.read_to = self.read_to.max(changed);
                return;
            }
            Err(error) => return self.note_unreadable(path, error.to_string()),
        };
        self.read_to = self.read_to.max(fingerprint.read_to());
        let known = self.files.get(path);
        let is_same = known.is_some_and(|file| {
            file.fingerprint == Some(fingerprint) && !file.is_leaving() && file.open.is_none()
        });
        if look == Look::IfChanged && is_same {
            return;
        }
        let text = match read_text(path, &fingerprint) {
            Ok(text) => text,
            Err(message) => return self.note_unreadable(path, message),
        };
        let label: Arc<str> = path.display().to_string().into();
        let former = known.map_or(&[][..], |file| &file.stretches);
        let stretches = read_stretches(&label, &text, former);
        let is_empty = stretches.iter().all(|stretch| stretch.is_empty);
        let is_settled = fingerprint.is_settled(SystemTime::now());
        self.update(path, |file| {
            file.fingerprint = is_settled.then_some(fingerprint);
            file.open = None;
            if is_empty && file.objects().next().is_some() {
                // Perhaps the first half of a save.
                file.fading.get_or_insert(now);
                file.is_held = false;
            } else {
                file.read(stretches);
            }
        });
    }

    fn note_unreadable(&mut self, path: &Path, message: String) {
        let problem = tree::problem(path, message);
        self.update(path, |file| {
            file.problem = Some(Box::new(problem));
            file.fingerprint = None;
            file.open = None;
            file.fading = None;
            file.is_held = false;
        });
    }

    fn forget(&mut self, path: &Path) {
        self.update(path, |file| *file = File::default());
        self.files.remove(path);
    }

    /// Changes a file, and what it defines with it.
    fn update(&mut self, path: &Path, change: impl FnOnce(&mut File)) {
        let known = self.files.get_key_value(path).map(|(known, _)| Arc::clone(known));
        let path: Arc<Path> = known.unwrap_or_else(|| path.into());
        let file = self.files.entry(Arc::clone(&path)).or_default();
        let is_leaving = file.is_leaving();
        let had_problems = file.has_problems();
        for (index, object) in file.objects().enumerate() {
            self.touched.insert(object.key.clone());
            if let Some(places) = self.definitions.get_mut(&object.key) {
                let gone: Place = (is_leaving, Arc::clone(&path), index);
                places.retain(|(place, _)| *place != gone);
            }
        }
        change(file);
        self.may_problems_differ |= had_problems || file.has_problems();
        if file.fading.is_some() || file.open.is_some() {
            self.waiting.insert(Arc::clone(&path));
        } else {
            self.waiting.remove(&path);
        }
        let is_leaving = file.is_leaving();
        for (index, object) in file.objects().enumerate() {
            self.touched.insert(object.key.clone());
            let places = self.definitions.entry(object.key.clone()).or_default();
            let place: Place = (is_leaving, Arc::clone(&path), index);
            let at = places.partition_point(|(other, _)| *other < place);
            places.reserve_exact(1);
            places.insert(at, (place, Arc::clone(object)));
        }
    }

    /// The Events that make known what has changed since the last telling.
    pub(crate) fn tell(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for key in std::mem::take(&mut self.touched) {
            self.settle(key, &mut events);
        }
        if !self.has_listed {
            events.clear();
        } else if !self.has_told {
            self.has_told = true;
            events.clear();
            for kind in ObjectKind::ALL {
                let all = self.told.values().filter(|object| object.key.kind == kind).cloned();
                events.push(Event::Replace(List::of_kind(kind, all.collect())));
            }
            events.extend(ObjectKind::ALL.map(Event::Synced));
        }
        if self.has_listed && self.read_to > self.told_read_to {
            self.told_read_to = self.read_to;
            events.insert(0, Event::ReadTo(self.read_to));
        }
        if std::mem::take(&mut self.may_problems_differ) {
            let problems = self.problems();
            if problems != self.told_problems {
                self.told_problems.clone_from(&problems);
                events.push(Event::Problems(problems));
            }
        }
        events
    }

    /// All Objects that are served, and all Problems that are not those of an Object.
    pub(crate) fn into_contents(mut self) -> (Vec<Object>, Vec<Problem>) {
        self.tell();
        let problems = self.problems();
        drop((self.files, self.definitions));
        let objects = self.told.into_values().map(Arc::unwrap_or_clone).collect();
        (objects, problems)
    }

    fn settle(&mut self, key: ObjectKey, events: &mut Vec<Event>) {
        self.may_problems_differ |= self.doubles.remove(&key).is_some();
        let places = self.definitions.get(&key);
        let Some(first) = places.and_then(|places| places.first().map(|(_, first)| first)) else {
            self.definitions.remove(&key);
            if self.told.remove(&key).is_some() {
                events.push(Event::Remove(key));
            }
            return;
        };
        let others =
            places.into_iter().flatten().skip(1).filter(|((is_leaving, ..), _)| !is_leaving);
        let doubles: Vec<Problem> = others.map(|(_, other)| double(first, other)).collect();
        if !self.told.get(&key).is_some_and(|told| is_same(told, first)) {
            events.push(Event::Upsert(Arc::clone(first)));
            self.told.insert(key.clone(), Arc::clone(first));
        }
        if !doubles.is_empty() {
            self.may_problems_differ = true;
            self.doubles.insert(key, doubles);
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let of_files = self.files.values().flat_map(|file| {
            file.stretches
                .iter()
                .flat_map(|stretch| &stretch.problems)
                .chain(file.problem.as_deref())
        });
        let mut problems: Vec<Problem> = self
            .unreachable
            .iter()
            .chain(&self.held_problem())
            .chain(&self.watch_problem)
            .chain(&self.listed_problems)
            .chain(of_files)
            .chain(self.doubles.values().flatten())
            .cloned()
            .collect();
        problems.sort_by(|a, b| (&a.provenance, a).cmp(&(&b.provenance, b)));
        problems
    }
}

/// When a file is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Look {
    /// It is said to have changed.
    Always,
    /// Only when its fingerprint differs.
    IfChanged,
}

fn is_same(told: &Arc<Object>, found: &Arc<Object>) -> bool {
    Arc::ptr_eq(told, found)
        || (told.says_the_same(found)
            && told.provenance == found.provenance
            && told.uid == found.uid
            && told.status_addresses == found.status_addresses)
}

fn double(first: &Object, other: &Object) -> Problem {
    Problem {
        subject: Subject::Object(other.key.clone()),
        field: String::new(),
        code: DEFINED_TWICE,
        message: format!("it is defined here and in {}, which is served", first.provenance),
        remedy: "remove one of the two".to_owned(),
        provenance: Some(other.provenance.clone()),
    }
}
