//! Who may follow, and with which certificate.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_the_replica_of_the_certificate_follows() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let who = name("test", "r-1");
    let identity = controller.certify(&folders.data, &who, SystemTime::now());
    let urls = vec![controller.url.clone()];
    for said in [name("prod", "r-1"), name("test", "r-2")] {
        let mut replica = Replica::saying(urls.clone(), identity.clone(), hello(&said));
        replica.state("the certificate is for replica r-1 of fleet test").await;
        replica.end().await;
    }
    assert!(controller.taken.try_recv().is_err());
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nobody_follows() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let tracker = TaskTracker::new();
    let tls = tls::joining(controller.authority.fingerprint()).unwrap();
    let connection =
        crate::distribution::connection::Connection::open(&controller.url, tls, &tracker)
            .await
            .unwrap();
    let outgoing = futures::stream::pending();
    let followed = soon(connection.delivery().follow(tonic::Request::new(outgoing))).await;
    let status = followed.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(status.message().contains("join with a token"), "{status:?}");
    let request = crate::distribution::wire::proto::RenewRequest::default();
    let renewed = soon(connection.joining().renew(tonic::Request::new(request))).await;
    assert_eq!(renewed.unwrap_err().code(), tonic::Code::Unauthenticated);
    assert!(controller.taken.try_recv().is_err());
    drop(connection);
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_side_believes_another_authority() {
    let (folders, strange) = (folders(), folders());
    let mut controller = Controller::start(&folders.authority).await;
    let other = Authority::open(&strange.authority).unwrap();
    let who = name("prod", "r-1");

    // The replica does not believe the controller.
    let identity = certify(&other, &strange.data, &who, SystemTime::now());
    let mut replica = Replica::start(vec![controller.url.clone()], identity.clone());
    replica.state("invalid peer certificate").await;
    replica.end().await;

    // It does, but the controller does not believe it.
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let certified = Certified {
        key_pem: Zeroizing::new(key.serialize_pem()),
        certificate: other
            .issue_replica(&who, &BTreeMap::new(), request.der(), SystemTime::now())
            .unwrap(),
        authorities: vec![controller.authority.certificate().clone()],
        signing_keys: vec![other.signing_public_key()],
    };
    let identity = Identity::store(&strange.data, certified).unwrap();
    let mut replica = Replica::start(vec![controller.url.clone()], identity);
    replica.state("the controller does not take the certificate of this replica").await;
    replica.end().await;

    // Nor does somebody with a token for another one.
    let fleet: FleetName = "prod".parse().unwrap();
    let token = other.create_token(&fleet, Duration::from_secs(60), 1, SystemTime::now()).unwrap();
    let urls = [controller.url.clone()];
    let joined = join(&urls, &token.parse().unwrap(), &who, &folders.data).await;
    assert!(matches!(joined, Err(JoinError::Unreachable { .. })), "{:?}", joined.map(|_| ()));
    assert!(controller.taken.try_recv().is_err());
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_in_time_without_breaking_the_stream() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let who = name("prod", "r-1");
    let long_ago = SystemTime::now() - Duration::from_secs(20 * 3600);
    let identity = controller.certify(&folders.data, &who, long_ago);
    let before = identity.ends();
    let mut replica = Replica::start(vec![controller.url.clone()], identity.clone());
    let mut taken = controller.taken().await;
    soon(async {
        while identity.ends() == before {
            sleep_a_little().await;
        }
    })
    .await;
    assert_eq!(Identity::open(&folders.data).unwrap().unwrap().ends(), identity.ends());
    taken.to.send(offer(1, 1)).await.unwrap();
    let offer = replica.offered().await;
    replica.says(ack(offer.nonce)).await;
    assert_eq!(acknowledged(&mut taken).await, 1, "the same connection goes on");
    replica.end().await;
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_certificate_renews_itself_within_a_week_and_does_nothing_else() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let who = name("prod", "r-1");
    let hours = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);

    let identity = controller.certify(&folders.data, &who, hours(30));
    let tracker = TaskTracker::new();
    let tls = tls::client(&identity.credentials()).unwrap();
    let connection =
        crate::distribution::connection::Connection::open(&controller.url, tls, &tracker)
            .await
            .unwrap();
    let outgoing = futures::stream::pending();
    let followed = soon(connection.delivery().follow(tonic::Request::new(outgoing))).await;
    let status = followed.map(|_| ()).unwrap_err();
    assert!(status.message().contains("has ended"), "{status:?}");
    drop(connection);
    let replica = Replica::start(vec![controller.url.clone()], identity);
    let _taken = controller.taken().await;
    replica.end().await;

    let identity = controller.certify(&folders.data, &who, hours(24 * 9));
    let mut replica = Replica::start(vec![controller.url.clone()], identity);
    let said = replica.state("could not be renewed").await;
    assert!(said.contains("join again with a new token"), "{said}");
    replica.end().await;
    assert!(controller.taken.try_recv().is_err());
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_something_else_are_taken_and_read_again() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let who = name("prod", "r-1");
    let at = |name: &str| folders.data.join(name);
    let write = |name: &str, certified: &Authority| {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let now = SystemTime::now() - Duration::from_secs(fastrand::u64(1..9_000));
        let der =
            certified.issue_replica(&name_of(name), &BTreeMap::new(), request.der(), now).unwrap();
        std::fs::write(at("tls.key"), key.serialize_pem()).unwrap();
        std::fs::write(at("tls.crt"), crate::distribution::identity::pem(&der)).unwrap();
    };
    write("r-1", &controller.authority);
    let authorities = crate::distribution::identity::pem(controller.authority.certificate());
    std::fs::write(at("ca.crt"), authorities).unwrap();
    std::fs::write(at("signing.pub"), controller.authority.signing_public_key() + "\n").unwrap();
    let files = crate::distribution::identity::Files {
        certificate: at("tls.crt"),
        key: at("tls.key"),
        authorities: at("ca.crt"),
        signing_keys: at("signing.pub"),
    };
    let identity = Identity::from_files(files).unwrap();
    assert_eq!((identity.identified(), identity.renew_at()), (who, None));
    let before = identity.ends();
    write("r-1", &controller.authority);
    identity.reread().unwrap();
    assert_ne!(identity.ends(), before);
    // Half-written files leave everything as it was.
    std::fs::write(at("tls.crt"), "-----BEGIN").unwrap();
    let error = identity.reread().unwrap_err().to_string();
    assert!(error.contains("tls.crt"), "{error}");

    let replica = Replica::start(vec![controller.url.clone()], identity);
    controller.taken().await;
    replica.end().await;
    controller.end().await;
}

fn name_of(replica: &str) -> Identified {
    name("prod", replica)
}
