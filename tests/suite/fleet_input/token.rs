//! Join tokens that are no good.

use std::time::Duration;

use kubeng_harness::fleet::{FleetRig, Member};

use crate::fleet_faults::rig::{HOST, SOON, Site, in_state, served, shows};

/// A replica that tries to join with this token ends, and says why.
#[track_caller]
fn refused<'a>(
    site: &'a Site,
    (controller, name): (&'a Member, &'a str),
    token: &'a str,
    words: &'a [&'a str],
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let member =
            site.rig.replica_at(("prod", name), &[controller.address], Some(token), &[]).unwrap();
        let mut member = member;
        let ended = member.until_end(SOON).await.unwrap();
        assert!(!ended.success(), "{caller}: {ended}");
        let log = member.log().join("\n");
        for word in words {
            assert!(log.contains(word), "{caller}: {word:?} is not said:\n{log}");
        }
        // The prefix of all tokens is none.
        let is_told = token.len() > "kng1.".len() && log.contains(token);
        assert!(!is_told, "{caller}: a token is a secret");
    }
}

const MAKE_ANOTHER: &str = "kubeng token create";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_good_is_refused_with_what_to_do() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    served([&good], HOST).await;

    let form = ["this is no join token", "copy it as a whole", MAKE_ANOTHER];
    for token in ["garbage", "kng1.", "kng1.e30.AA", "kng1.x.y"] {
        refused(&site, (&controller, "bad"), token, &form).await;
    }
    let token = site.rig.token("prod").await.unwrap();
    // Base64 of 85 characters is none.
    let cut = &token[..token.len() - 1];
    refused(&site, (&controller, "bad"), cut, &form).await;
    let (content, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let altered = format!("{content}.{first}{}", &signature[1..]);
    let words = ["the join token was altered", MAKE_ANOTHER];
    refused(&site, (&controller, "bad"), &altered, &words).await;

    let expired = site.rig.token_with("prod", &["--for", "1s"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let words = ["the join token ended", MAKE_ANOTHER, "--fleet prod"];
    refused(&site, (&controller, "bad"), &expired, &words).await;

    let first = site.rig.replica_at(("prod", "r1"), &[controller.address], Some(&token), &[]);
    let mut first = first.unwrap();
    first.until_ready(SOON).await.unwrap();
    let words = ["the join token has been used 1 of 1 times", MAKE_ANOTHER];
    refused(&site, (&controller, "bad"), &token, &words).await;
    controller.until_said(SOON, &["a replica may not join", "used 1 of 1 times"]).await.unwrap();

    let other = site.rig.token_with("test", &[]).await.unwrap();
    let words = ["the join token is for fleet test, not for prod", "mend --fleet", MAKE_ANOTHER];
    refused(&site, (&controller, "bad"), &other, &words).await;

    // Whoever has joined needs no token any more, whatever stands in its settings.
    first.kill().await.unwrap();
    first.exchange("--join-token", &expired).unwrap();
    first.start_again().unwrap();
    first.until_ready(SOON).await.unwrap();
    site.serve("after.example");
    served([&good, &first], "after.example").await;
    in_state(&[&controller], &["good", "r1"], "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_lets_in_as_many_replicas_as_it_says() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let token = site.rig.token_with("prod", &["--uses", "2"]).await.unwrap();
    let mut joined = Vec::new();
    for name in ["r1", "r2"] {
        let member = site.rig.replica_at(("prod", name), &[controller.address], Some(&token), &[]);
        joined.push(member.unwrap());
    }
    for member in &mut joined {
        member.until_ready(SOON).await.unwrap();
    }
    refused(&site, (&controller, "r3"), &token, &["used 2 of 2 times"]).await;
    in_state(&[&controller], &["r1", "r2"], "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_authority_is_told_from_a_controller_that_is_away() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let elsewhere = FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap();
    elsewhere.write_fleet("prod", "").unwrap();
    let mut other = elsewhere.controller("other", &[]).unwrap();
    other.until_ready(SOON).await.unwrap();
    let token = elsewhere.token("prod").await.unwrap();
    let lost = site.rig.replica_at(("prod", "lost"), &[controller.address], Some(&token), &[]);
    let lost = lost.unwrap();
    let words =
        ["cannot join the fleet yet", "no authority that this replica believes", MAKE_ANOTHER];
    lost.until_said(SOON, &words).await.unwrap();
    site.serve("after.example");
    served([&good], "after.example").await;
    in_state(&[&controller], &["good"], "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_an_unknown_fleet_says_so_and_is_served_when_the_fleet_is_there() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let token = site.rig.token("later").await.unwrap();
    let early = site.rig.replica_at(("later", "early"), &[controller.address], Some(&token), &[]);
    let mut early = early.unwrap();
    let words = ["there is no fleet later", "write a Fleet object of this name, or mend --fleet"];
    shows(&early, &words).await;
    assert_eq!(early.admin("/readyz").await.unwrap().status, 503);
    site.serve("after.example");
    served([&good], "after.example").await;
    in_state(&[&controller], &["good"], "InSync").await;

    let other_class = "apiVersion: kubeng.io/v1alpha1\nkind: Fleet\nmetadata: { name: later }\nspec:\n  \
                       serves: { ingressClasses: [other] }\n  listeners:\n  \
                       - { name: http, port: 80, protocol: HTTP }\n";
    crate::support::save(&site.rig.manifests(), "fleet-later.yaml", other_class);
    early.until_ready(SOON).await.unwrap();
}
