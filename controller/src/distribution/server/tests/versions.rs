//! Replicas and controllers of other versions: what one says and the other does not know.

use super::*;
use crate::distribution::connection::Connection;
use crate::distribution::wire::proto::{self, from_replica::Said};
use crate::distribution::wire::to_replica::{Heard, Reader};

/// What a hand-made replica says of itself, as `alter` has it.
fn hello_frame(of: &Identified, alter: impl FnOnce(&mut proto::Hello)) -> proto::FromReplica {
    let message = FromReplica::Hello(Box::new(hello(of)));
    let mut frame = crate::distribution::wire::from_replica::write(message).next().unwrap();
    let Some(Said::Hello(hello)) = &mut frame.said else { panic!("{frame:?}") };
    alter(hello);
    frame
}

/// Follows with these frames, one after the other, and gives what the controller ends it with.
async fn ended(
    url: &ControllerUrl,
    identity: &Identity,
    frames: Vec<proto::FromReplica>,
) -> tonic::Status {
    let tracker = TaskTracker::new();
    let tls = tls::client(&identity.credentials()).unwrap();
    let connection = Connection::open(url, tls, &tracker).await.unwrap();
    // The end of what it says would end the line, too, without a reason.
    let outgoing =
        futures::StreamExt::chain(futures::stream::iter(frames), futures::stream::pending());
    let mut client = connection.delivery();
    let mut incoming = match soon(client.follow(tonic::Request::new(outgoing))).await {
        Err(status) => return status,
        Ok(answer) => answer.into_inner(),
    };
    loop {
        match soon(incoming.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends without a reason"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_says_what_is_not_known_here_is_told_so_and_others_go_on() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let good = controller.certify(&folders.data, &name("prod", "good"), SystemTime::now());
    let mut good = Replica::start(vec![controller.url.clone()], good);
    let mut line = controller.taken().await;

    let who = name("prod", "newer");
    let newer_data = folders.data.join("newer");
    std::fs::create_dir(&newer_data).unwrap();
    let newer = controller.certify(&newer_data, &who, SystemTime::now());
    let as_it_is = || hello_frame(&who, |_| {});
    let with_build = |build: &'static str| {
        hello_frame(&who, |hello| hello.build = bytes::Bytes::from_static(build.as_bytes()))
    };
    let heartbeat = proto::FromReplica { said: Some(Said::Heartbeat(b"{\"a\":1}"[..].into())) };
    for (frames, words) in [
        // A field that it has and this version has not, and one that it lacks.
        (vec![with_build("{\"cores\":8}")], "the build of a hello cannot be read"),
        (vec![with_build("{}")], "the build of a hello cannot be read"),
        // A message of a kind that is not known, which is how protobuf reads it.
        (vec![as_it_is(), proto::FromReplica { said: None }], "which this version does not know"),
        (vec![as_it_is(), heartbeat], "a heartbeat cannot be read"),
        (vec![as_it_is(), as_it_is()], "a second Hello"),
    ] {
        let status = ended(&controller.url, &newer, frames).await;
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(words), "{status:?}");
        let remedy = status.message().contains("of one version");
        assert!(remedy || words == "a second Hello", "{status:?}");
        while controller.taken.try_recv().is_ok() {}
    }

    line.to.send(offer(1, 1)).await.unwrap();
    let offered = good.offered().await;
    good.says(ack(offered.nonce)).await;
    assert_eq!(acknowledged(&mut line).await, 1, "nobody else has noticed");
    good.end().await;
    controller.end().await;
}

#[test]
fn what_a_newer_controller_says_is_shown_and_the_rest_is_heard() {
    let now = std::time::Instant::now();
    let mut reader = Reader::default();
    let unknown = proto::ToReplica { said: None };
    let Ok(Heard::Unreadable { why, answer: None }) = reader.read(unknown, now) else {
        panic!("it is not passed over silently");
    };
    assert!(why.contains("this version does not know"), "{why}");
    let ask = proto::Ask { id: 7, question: None };
    let ask = proto::ToReplica { said: Some(proto::to_replica::Said::Ask(ask)) };
    let Ok(Heard::Unreadable { why: _, answer: Some(FromReplica::Reply { id: 7, reply }) }) =
        reader.read(ask, now)
    else {
        panic!("whoever asks wants an answer");
    };
    assert!(reply.is_err_and(|why| why.contains("does not know")));
    let known = proto::ToReplica { said: Some(proto::to_replica::Said::Replicas(3)) };
    assert!(matches!(reader.read(known, now), Ok(Heard::Message(ToReplica::Replicas(_)))));
}
