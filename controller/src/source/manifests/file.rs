//! One manifest file: read, cut into documents, decoded.

use std::cell::OnceCell;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kubeng_config::problem::{BAD_VALUE, Problem, Subject, UNREADABLE};
use kubeng_config::provenance::Provenance;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::json;
use super::yaml::{self, Document, Fault, Lines};
use crate::decode::{Decoded, decode};
use crate::object::{Author, Object};

/// Largest manifest file, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A stretch of a file between two document markers, and what it says.
///
/// Stretches that have not changed are not parsed again.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    digest: [u8; 32],
    line: u32,
    /// The Objects, in order.
    pub(crate) objects: Vec<Arc<Object>>,
    /// What stands for Objects that cannot be taken, where nothing is known of them.
    pub(crate) stand_ins: Vec<Arc<Object>>,
    /// What is wrong, except for the Problems of the Objects themselves.
    pub(crate) problems: Vec<Problem>,
    /// Whether Objects may be missing because something could not be read.
    pub(crate) is_broken: bool,
    /// Whether it holds anything at all.
    pub(crate) is_empty: bool,
}

/// What tells whether a file has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Fingerprint {
    /// That of the file at `path`, behind symbolic links.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// When the file was changed last, in microseconds since 1970.
    pub(crate) fn read_to(&self) -> u64 {
        self.modified.map_or(0, micros)
    }

    /// Whether a further change must change it: clocks of file systems are coarse.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        self.modified
            .and_then(|modified| now.duration_since(modified).ok())
            .is_some_and(|age| age > Duration::from_secs(2))
    }
}

/// A time of the file system in microseconds since 1970.
pub(crate) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Reads the text of a file. The error says in plain words what is wrong.
pub(crate) fn read_text(path: &Path, fingerprint: &Fingerprint) -> Result<String, String> {
    let too_large = || format!("the file is larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024);
    if fingerprint.bytes > FILE_BYTES_MAX {
        return Err(too_large());
    }
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    // Of its size, and one more: else it is read in steps that begin with 32 bytes.
    let size = usize::try_from(fingerprint.bytes).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size + 1);
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("line {line} is not UTF-8 text")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Reads all stretches of `text`; those in `former` that are the same are taken over.
pub(crate) fn read_stretches(label: &Arc<str>, text: &str, former: &[Stretch]) -> Vec<Stretch> {
    let is_json = label.ends_with(".json");
    let cut = if is_json { vec![(1, text)] } else { cut(text) };
    cut.into_iter()
        .enumerate()
        .map(|(index, (line, text))| {
            let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
            let is_same = |stretch: &&Stretch| stretch.digest == digest && stretch.line == line;
            // Nearly always it is in the same place; else it is looked for.
            let same = former.get(index).filter(is_same);
            match same.or_else(|| former.iter().find(is_same)) {
                Some(same) => same.clone(),
                None => Reading { label, text, line, is_json, lines: OnceCell::new() }.read(digest),
            }
        })
        .collect()
}

/// Cuts YAML at its document markers, so that one broken document harms no other.
///
/// A marker at the beginning of a line always ends a document, also within a
/// scalar. Directives belong to the document that follows, so a text with any
/// is not cut.
fn cut(text: &str) -> Vec<(u32, &str)> {
    let is_marker = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let mut stretches = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if line.starts_with('%') {
            return vec![(1, text)];
        }
        if is_marker(line) && offset > start {
            stretches.push((start_line, text.get(start..offset).unwrap_or_default()));
            (start, start_line) = (offset, number);
        }
        offset += line.len();
    }
    stretches.push((start_line, text.get(start..).unwrap_or_default()));
    stretches
}

/// A stretch that is being read.
struct Reading<'a> {
    label: &'a Arc<str>,
    text: &'a str,
    line: u32,
    is_json: bool,
    /// Found only when there is a Problem to be placed, or a List to be taken apart.
    lines: OnceCell<Lines>,
}

impl Reading<'_> {
    fn read(&self, digest: [u8; 32]) -> Stretch {
        let mut stretch = Stretch {
            digest,
            line: self.line,
            objects: Vec::new(),
            stand_ins: Vec::new(),
            problems: Vec::new(),
            is_broken: false,
            is_empty: true,
        };
        let documents = if self.is_json && !self.text.trim().is_empty() {
            json::read(self.text)
        } else {
            yaml::read(self.text, self.line)
        };
        match documents {
            Ok(documents) => {
                for (index, document) in documents.into_iter().enumerate() {
                    self.document(index, document, &mut stretch);
                }
            }
            Err(fault) => {
                stretch.is_broken = true;
                stretch.is_empty = false;
                stretch.problems.push(self.fault(&fault));
            }
        }
        // It is kept as long as the file stays as it is.
        stretch.objects.shrink_to_fit();
        stretch
    }

    fn document(&self, index: usize, document: Document, stretch: &mut Stretch) {
        if document.value.is_null() {
            return;
        }
        stretch.is_empty = false;
        match items_of(document.value) {
            Items::One(value) => self.decode(index, "", document.line, value, stretch),
            Items::Many(items) => {
                for (number, item) in items.into_iter().enumerate() {
                    let prefix = format!("/items/{number}");
                    let line = self.lines().line(index, &prefix).unwrap_or(document.line);
                    self.decode(index, &prefix, line, item, stretch);
                }
            }
            Items::Wrong => {
                stretch.is_broken = true;
                let line = self.lines().line(index, "/items").unwrap_or(document.line);
                stretch.problems.push(Problem {
                    subject: Subject::Other("List".to_owned()),
                    field: "/items".to_owned(),
                    code: BAD_VALUE,
                    message: "items is not a sequence".to_owned(),
                    remedy: "write a sequence of objects".to_owned(),
                    provenance: Some(self.place(line)),
                });
            }
        }
    }

    fn decode(&self, index: usize, prefix: &str, line: u32, value: Value, stretch: &mut Stretch) {
        let mend = |problem: &mut Problem| {
            let pointer = format!("{prefix}{}", problem.field);
            if let Some(line) = self.lines().line(index, &pointer) {
                problem.provenance = Some(self.place(line));
            }
        };
        match decode(value, self.place(line), Author::Operator) {
            Decoded::Object(mut object) => {
                object.problems.iter_mut().for_each(mend);
                stretch.objects.push(Arc::new(*object));
            }
            Decoded::Ignored => {}
            Decoded::Closed(object, mut problem) => {
                mend(&mut problem);
                stretch.stand_ins.push(Arc::new(*object));
                stretch.problems.push(problem);
                stretch.is_broken = true;
            }
            Decoded::Undecodable(_, mut problem) => {
                mend(&mut problem);
                stretch.problems.push(problem);
                stretch.is_broken = true;
            }
        }
    }

    fn lines(&self) -> &Lines {
        self.lines.get_or_init(|| {
            if self.is_json {
                // YAML refuses tabs where JSON allows them.
                yaml::lines(&self.text.replace('\t', " "), self.line)
            } else {
                yaml::lines(self.text, self.line)
            }
        })
    }

    fn place(&self, line: u32) -> Provenance {
        Provenance::File { path: Arc::clone(self.label), line }
    }

    fn fault(&self, fault: &Fault) -> Problem {
        let language = if self.is_json { "JSON" } else { "YAML" };
        Problem {
            subject: Subject::Other(self.label.to_string()),
            field: String::new(),
            code: UNREADABLE,
            message: format!(
                "not valid {language} at line {}, column {}: {}",
                fault.line, fault.column, fault.message
            ),
            remedy: "mend that place; what was last read from it is served until then".to_owned(),
            provenance: Some(self.place(fault.line)),
        }
    }
}

/// The objects of one document.
enum Items {
    One(Value),
    Many(Vec<Value>),
    Wrong,
}

/// Takes a `List` apart. The items of a typed list (`IngressList`) may leave
/// out what its kind says.
fn items_of(mut value: Value) -> Items {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let Some(item_kind) = kind.strip_suffix("List") else { return Items::One(value) };
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(mut items)) => {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                if !item_kind.is_empty() {
                    item.entry("kind").or_insert_with(|| item_kind.into());
                    item.entry("apiVersion").or_insert_with(|| version.as_str().into());
                }
            }
            Items::Many(items)
        }
        None | Some(Value::Null) => Items::Many(Vec::new()),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            Items::Wrong
        }
    }
}
