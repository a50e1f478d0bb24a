use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use kubeng_config::address::AddressRule;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::certificate::Secret;
use kubeng_config::delta::AnyPart;
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::name::BackendId;
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::position::Position;
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::{Epoch, MODEL_VERSION, SignedStatement, Statement};

use super::folder::{Folder, GENERATIONS_MAX};
use super::format::Contents;
use super::*;
use crate::table::Map;
use crate::table::writer::Secrets;

fn backend() -> BackendId {
    "Service/shop/web:80".parse().unwrap()
}

/// One that differs from others by its number.
fn snapshot(number: u32) -> Snapshot {
    let web = Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Default::default(),
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: AddressRule::Tenant,
        proxy_protocol: None,
    };
    let policy = format!("policy-{number}").parse().unwrap();
    let parts = [
        AnyPart::Backend(backend(), Part::new(web)),
        AnyPart::Policy(policy, Part::new(Policy::default())),
    ];
    Snapshot::default().edited(parts, []).unwrap()
}

fn statement(of: &Snapshot) -> SignedStatement {
    let mut position = Position::default();
    position.advance("kubernetes", 7);
    let statement = Statement {
        fleet: "prod".parse().unwrap(),
        epoch: Epoch(3),
        position,
        target: of.digest(),
        model_version: MODEL_VERSION,
    };
    SignedStatement { statement, signature: None }
}

/// A folder with one file for each of `numbers`.
struct Rig {
    _scratch: tempfile::TempDir,
    path: PathBuf,
    key: Option<DataKey>,
}

impl Rig {
    fn new(key: Option<DataKey>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("last-known-good");
        Self { _scratch: scratch, path, key }
    }

    fn write(&self, number: u32) -> PathBuf {
        let snapshot = snapshot(number);
        let set = EndpointSet::new(vec![Endpoint::new("10.0.0.1:80".parse().unwrap())]);
        let mut secrets = Map::default();
        secrets.insert("key-1".parse().unwrap(), Secret::new(SECRET.to_vec()));
        let contents = Contents {
            statement: &statement(&snapshot),
            snapshot: &snapshot,
            endpoints: &[(backend(), Arc::new(set))],
            secrets: &Secrets(secrets),
        };
        let folder = Folder::new(&self.path);
        let (generation, _) = folder.write(&contents, self.key.as_ref()).unwrap();
        folder.file(generation)
    }

    /// What is loaded, by its digest, and how many files are not.
    fn load(&self) -> (Option<kubeng_config::canonical::Digest>, Vec<String>) {
        let loaded = load(&self.path, self.key.as_ref(), |saved| {
            let delta = &saved.delta;
            let found = Snapshot::default().with(delta).map_err(|error| error.to_string())?;
            assert_eq!(found.digest(), saved.statement.statement.target);
            assert_eq!(delta.secrets[0].1.expose(), SECRET);
            assert_eq!(delta.endpoints[0].1.as_slice().len(), 1);
            Ok(())
        });
        let damaged = loaded.damaged.iter().map(|file| format!("{:#?} {}", file.path, file.damage));
        (loaded.saved.map(|saved| saved.delta.target), damaged.collect())
    }
}

const SECRET: &[u8] = b"the private half";

#[test]
fn the_newest_of_three_generations_is_loaded() {
    let rig = Rig::new(None);
    assert_eq!(rig.load(), (None, vec![]), "an empty folder is nothing to start from");
    for number in 1..=5 {
        let file = rig.write(number);
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(rig.load(), (Some(snapshot(5).digest()), vec![]));
    assert_eq!(fs::read_dir(&rig.path).unwrap().count(), GENERATIONS_MAX);
    assert_eq!(fs::metadata(&rig.path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_file_with_any_byte_changed_or_cut_anywhere_is_passed_over() {
    let rig = Rig::new(None);
    rig.write(1);
    let file = rig.write(2);
    let whole = fs::read(&file).unwrap();
    let (before, newest) = (snapshot(1).digest(), snapshot(2).digest());
    let check = |bytes: &[u8], what: &str| {
        fs::write(&file, bytes).unwrap();
        let (loaded, damaged) = rig.load();
        assert_eq!(loaded, Some(before), "{what}");
        assert!(damaged.len() == 1 && damaged[0].contains("00000002.kept"), "{what}: {damaged:?}");
    };
    for at in 0..whole.len() {
        let mut other = whole.clone();
        other[at] ^= 1 << (at % 8);
        check(&other, &format!("byte {at}"));
        check(&whole[..at], &format!("{at} bytes"));
    }
    check(&[whole.as_slice(), b"x"].concat(), "one byte more");
    fs::write(&file, &whole).unwrap();
    assert_eq!(rig.load(), (Some(newest), vec![]));
}

#[test]
fn damage_with_a_checksum_that_fits_is_no_panic() {
    let rig = Rig::new(None);
    rig.write(1);
    let file = rig.write(2);
    let whole = fs::read(&file).unwrap();
    let body = whole.len() - 32;
    for at in 8..body {
        let mut other = whole[..body].to_vec();
        other[at] ^= 1 << (at % 8);
        let sum = format::hash(&other);
        other.extend(sum);
        fs::write(&file, &other).unwrap();
        // Endpoints, secrets and positions are not covered by the digest of the Snapshot; what is
        // must not be taken.
        let loaded = load(&rig.path, None, |saved| {
            Snapshot::default().with(&saved.delta).map_err(|error| error.to_string()).map(drop)
        });
        let target = loaded.saved.unwrap().delta.target;
        assert!([snapshot(1).digest(), snapshot(2).digest()].contains(&target), "byte {at}");
    }
}

#[test]
fn what_others_may_have_read_or_written_is_not_loaded() {
    let rig = Rig::new(None);
    rig.write(1);
    let file = rig.write(2);
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o640, 0o604, 0o620, 0o660] {
        set(&file, mode);
        let (loaded, damaged) = rig.load();
        assert_eq!(loaded, Some(snapshot(1).digest()), "{mode:o}");
        assert!(damaged[0].contains("chmod 600"), "{damaged:?}");
    }
    set(&file, 0o600);
    set(&rig.path, 0o755);
    let (loaded, damaged) = rig.load();
    assert_eq!(loaded, None);
    assert!(damaged.iter().all(|text| text.contains("chmod 700")), "{damaged:?}");
}

#[test]
fn a_link_a_folder_and_a_huge_file_are_not_loaded() {
    let rig = Rig::new(None);
    let first = rig.write(1);
    let folder = Folder::new(&rig.path);
    std::os::unix::fs::symlink(&first, folder.file(2)).unwrap();
    fs::create_dir(folder.file(3)).unwrap();
    let huge = fs::OpenOptions::new().write(true).create_new(true).open(folder.file(4)).unwrap();
    huge.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    // It has holes, so it takes no room.
    huge.set_len((1 << 30) + 1).unwrap();
    let (loaded, damaged) = rig.load();
    assert_eq!(loaded, Some(snapshot(1).digest()));
    assert_eq!(damaged.len(), 3, "{damaged:?}");
    assert!(damaged[0].contains("more than any"), "{damaged:?}");
}

#[test]
fn a_version_of_the_future_is_named() {
    let rig = Rig::new(None);
    rig.write(1);
    let file = rig.write(2);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8..12].copy_from_slice(&9_u32.to_be_bytes());
    fs::write(&file, bytes).unwrap();
    let (loaded, damaged) = rig.load();
    assert_eq!(loaded, Some(snapshot(1).digest()));
    assert!(damaged[0].contains("version 9"), "{damaged:?}");
}

#[test]
fn secrets_are_encrypted_where_there_is_a_key_and_need_it() {
    let mut rig = Rig::new(Some(DataKey::new(&[7; 32]).unwrap()));
    let file = rig.write(1);
    let holds_secret =
        |file: &Path| fs::read(file).unwrap().windows(SECRET.len()).any(|window| window == SECRET);
    assert!(!holds_secret(&file));
    assert_eq!(rig.load(), (Some(snapshot(1).digest()), vec![]));
    for (key, word) in [(None, "--data-key-file is missing"), (Some(8), "another key")] {
        rig.key = key.map(|byte| DataKey::new(&[byte; 32]).unwrap());
        let (loaded, damaged) = rig.load();
        assert_eq!(loaded, None);
        assert!(damaged[0].contains(word), "{damaged:?}");
    }
    rig.key = None;
    assert!(holds_secret(&rig.write(2)), "the test can see it");
    rig.key = Some(DataKey::new(&[7; 32]).unwrap());
    let (loaded, damaged) = rig.load();
    assert_eq!(loaded, Some(snapshot(1).digest()), "{damaged:?}");
}

#[test]
fn who_is_asked_may_refuse_a_file() {
    let rig = Rig::new(None);
    rig.write(1);
    rig.write(2);
    let newest = snapshot(2).digest();
    let loaded = load(&rig.path, None, |saved| {
        if saved.delta.target == newest { Err("its signature is bad".to_owned()) } else { Ok(()) }
    });
    assert_eq!(loaded.saved.unwrap().delta.target, snapshot(1).digest());
    assert!(loaded.damaged[0].damage.to_string().contains("signature"));
}
