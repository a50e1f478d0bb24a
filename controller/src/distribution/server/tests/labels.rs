//! Labels that a replica has by its token, and cannot choose.

use super::*;
use crate::distribution::authority::token::CreateTokenError;

fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn token(authority: &Authority, labels: BTreeMap<String, String>) -> String {
    let (fleet, life) = ("prod".parse().unwrap(), Duration::from_secs(600));
    authority.create_labelled_token(&fleet, labels, life, 1, SystemTime::now()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_a_token_stand_in_the_certificate_and_go_on_when_it_is_renewed() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let wanted = labels(&[("topology.kubernetes.io/zone", "a"), ("canary", "")]);
    let token = token(&controller.authority, wanted.clone()).parse().unwrap();
    let (who, urls) = (name("prod", "r-1"), vec![controller.url.clone()]);
    let identity = join(&urls, &token, &who, &folders.data).await.unwrap();
    // What it says of itself is told apart from what it is certified.
    let said = Hello { labels: labels(&[("canary", "no"), ("rack", "7")]), ..hello(&who) };
    let replica = Replica::saying(urls.clone(), identity.clone(), said.clone());
    let taken = controller.taken().await;
    assert_eq!((&taken.hello.labels, &taken.hello.certified), (&said.labels, &wanted));
    replica.end().await;

    let before = identity.credentials().facts.clone();
    let tracker = TaskTracker::new();
    crate::distribution::join::renew(&controller.url, &identity, &tracker).await.unwrap();
    let renewed = Identity::open(&folders.data).unwrap().unwrap();
    assert_eq!(renewed.credentials().facts.labels, wanted);
    assert_eq!(renewed.credentials().facts.replica, before.replica);
    let replica = Replica::start(urls, renewed);
    assert_eq!(controller.taken().await.hello.certified, wanted);
    replica.end().await;
    controller.end().await;
}

#[test]
fn a_token_has_labels_that_can_be_read_and_not_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let (fleet, now) = ("prod".parse().unwrap(), SystemTime::now());
    let create =
        |labels| authority.create_labelled_token(&fleet, labels, Duration::from_secs(60), 1, now);
    for wrong in [labels(&[("a b", "c")]), labels(&[("a", "b c")]), labels(&[("", "a")])] {
        assert!(matches!(create(wrong.clone()), Err(CreateTokenError::Labels)), "{wrong:?}");
    }
    let many = |count: usize, length: usize| {
        let name = |nth: usize| format!("{}.example/l{nth}", "a".repeat(length));
        (0..count).map(|nth| (name(nth), "b".repeat(63))).collect::<BTreeMap<_, _>>()
    };
    assert!(matches!(create(many(33, 1)), Err(CreateTokenError::Labels)));
    assert!(matches!(create(many(32, 240)), Err(CreateTokenError::Labels)), "too long");
    let labelled = create(many(32, 60)).unwrap();
    assert_eq!(authority.labels_of(&labelled, &fleet, now).unwrap(), many(32, 60));
    let plain = authority.create_token(&fleet, Duration::from_secs(60), 1, now).unwrap();
    assert!(authority.labels_of(&plain, &fleet, now).unwrap().is_empty());
    let other = "test".parse().unwrap();
    assert!(authority.labels_of(&labelled, &other, now).is_err(), "it is for another fleet");
}
