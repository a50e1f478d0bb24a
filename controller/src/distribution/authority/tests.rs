use std::os::unix::fs::PermissionsExt as _;

use super::token::{CreateTokenError, JoinToken, TokenError};
use super::*;

fn key(nth: u8) -> Digest {
    Digest::of([[nth].as_slice()])
}

#[test]
fn two_that_start_at_once_end_with_one_authority() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("authority");
    let opened: Vec<Authority> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Authority::open(&shared).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for one in &opened {
        assert_eq!(one.fingerprint(), opened[0].fingerprint());
        assert_eq!(one.signing_public_key(), opened[0].signing_public_key());
    }
    let mut names: Vec<_> = std::fs::read_dir(&shared)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["ca.crt", "ca.key", "signing.key", "signing.pub"], "nothing is left over");
    for name in ["ca.key", "signing.key"] {
        let mode = std::fs::metadata(shared.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(&shared).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_key_that_is_gone_is_not_replaced_by_another() {
    for (key, of) in [("ca.key", "ca.crt"), ("signing.key", "signing.pub")] {
        let folder = tempfile::tempdir().unwrap();
        drop(Authority::open(folder.path()).unwrap());
        let (aside, path) = (folder.path().join("aside"), folder.path().join(key));
        std::fs::rename(&path, &aside).unwrap();
        let error = Authority::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("{key} is gone")) && error.contains(of), "{error}");
        assert!(!path.exists());
        std::fs::rename(&aside, &path).unwrap();
        Authority::open(folder.path()).unwrap();
    }
}

#[test]
fn keys_that_others_may_read_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    drop(Authority::open(folder.path()).unwrap());
    let path = folder.path().join("ca.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Authority::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("chmod go= "), "{error}");
}

#[test]
fn files_that_do_not_go_together_are_refused_by_name() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(Authority::open(one.path()).unwrap());
    drop(Authority::open(other.path()).unwrap());
    let at = |name: &str| one.path().join(name);
    let foreign = other.path().join("ca.key");
    let opened =
        Authority::from_files(&at("ca.crt"), Some(&foreign), &at("signing.key"), one.path());
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("ca.key") && error.contains("of another key"), "{error}");
    std::fs::write(at("signing.key"), "no key").unwrap();
    let error = Authority::open(one.path()).err().unwrap().to_string();
    assert!(error.contains("signing.key holds no Ed25519 key"), "{error}");
    let missing = Authority::from_files(&at("none.crt"), None, &at("signing.key"), one.path());
    assert!(matches!(missing, Err(AuthorityError::File { .. })));
}

#[test]
fn an_authority_without_its_key_certifies_nobody() {
    let folder = tempfile::tempdir().unwrap();
    drop(Authority::open(folder.path()).unwrap());
    let at = |name: &str| folder.path().join(name);
    let authority =
        Authority::from_files(&at("ca.crt"), None, &at("signing.key"), folder.path()).unwrap();
    let issued = authority.issue_server(&["a.example".into()], SystemTime::now());
    assert!(matches!(issued, Err(IssueError::Elsewhere)));
}

#[test]
fn a_token_is_used_as_often_as_it_says_whoever_comes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let other = Authority::open(folder.path()).unwrap();
    let (fleet, now) = ("prod".parse().unwrap(), SystemTime::now());
    let token = authority.create_token(&fleet, token::TOKEN_LIFE, 3, now).unwrap();
    let redeemed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|nth| {
                let at = if nth % 2 == 0 { &authority } else { &other };
                let (token, fleet) = (&token, &fleet);
                scope.spawn(move || at.redeem(token, fleet, key(nth), now).is_ok())
            })
            .collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    });
    assert_eq!(redeemed, 3);
    let again = (0..16).filter(|nth| authority.redeem(&token, &fleet, key(*nth), now).is_ok());
    assert_eq!(again.count(), 3, "the same keys may come again, and no others");
}

#[test]
fn no_character_of_a_token_can_be_altered() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let (fleet, now) = ("prod".parse().unwrap(), SystemTime::now());
    let token = authority.create_token(&fleet, token::TOKEN_LIFE, 1, now).unwrap();
    assert_eq!(token.parse::<JoinToken>().unwrap().fleet(), &fleet);
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        let refused = authority.redeem(&altered, &fleet, key(1), now);
        assert!(
            matches!(refused, Err(TokenError::Form | TokenError::Altered { .. })),
            "character {at}: {refused:?}"
        );
    }
    authority.redeem(&format!(" {token}\n"), &fleet, key(1), now).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open(elsewhere.path()).unwrap();
    let refused = other.redeem(&token, &fleet, key(1), now);
    assert!(matches!(refused, Err(TokenError::Altered { .. })), "{refused:?}");
}

#[test]
fn tokens_are_made_within_limits_only() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let (fleet, now) = ("prod".parse().unwrap(), SystemTime::now());
    let (life, long) = (Duration::from_secs(60), Duration::from_secs(24 * 3600 + 1));
    let create = |fleet, life, uses| authority.create_token(fleet, life, uses, now);
    assert!(matches!(create(&fleet, long, 1), Err(CreateTokenError::Life)));
    assert!(matches!(create(&fleet, Duration::ZERO, 1), Err(CreateTokenError::Life)));
    assert!(matches!(create(&fleet, life, 0), Err(CreateTokenError::Uses)));
    let odd = "../x".parse().unwrap();
    let error = create(&odd, life, 1).unwrap_err().to_string();
    assert!(error.contains("the fleet is named \"../x\""), "{error}");
}

#[test]
fn the_certificate_says_whom_the_controller_meant_and_nothing_of_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["victim.example".into()]).unwrap();
    let uri = "kubeng://fleet/other/replica/r-9";
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let request = params.serialize_request(&key).unwrap();
    let to = Identified { fleet: "prod".parse().unwrap(), replica: "r-1".parse().unwrap() };
    let made =
        authority.issue_replica(&to, &BTreeMap::new(), request.der(), SystemTime::now()).unwrap();
    let facts = super::super::identity::certificate::Facts::read(&made).unwrap();
    assert_eq!(facts.replica, Some(to.clone()));
    let (_, parsed) = x509_parser::parse_x509_certificate(&made).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let usages = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usages.client_auth && !usages.server_auth);

    let mut bytes = request.der().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    let refused = authority.issue_replica(&to, &BTreeMap::new(), &bytes, SystemTime::now());
    assert!(matches!(refused, Err(IssueError::Request(_))), "it is not signed by its key");
}
