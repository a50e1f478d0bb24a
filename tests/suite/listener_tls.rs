//! Versions and cipher suites are those of each Listener, as openssl sees them.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use kubeng_harness::fleet::FleetRig;

use crate::support::SOON;

/// What openssl agreed on with this Listener: the version and the suite; None where it did not agree.
fn agreed(to: SocketAddr, offers: &[&str]) -> Option<(String, String)> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-brief", "-connect", &to.to_string()]).args(offers);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let told = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let (version, suite) = (told("Protocol version: ")?, told("Ciphersuite: ")?);
    Some((version.to_owned(), suite.to_owned()))
}

/// Asks until it is agreed on: a replica may be ready before its ports are.
async fn until(to: SocketAddr, offers: &[&str], version: &str, suite: &str) {
    let began = Instant::now();
    let wanted = Some((version.to_owned(), suite.to_owned()));
    loop {
        let found = agreed(to, offers);
        if found == wanted {
            return;
        }
        assert!(began.elapsed() < SOON, "{to} {offers:?}: {found:?}, not {wanted:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_of_a_fleet_has_its_own_versions_and_cipher_suites() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let rig = FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap();
    let listeners = "  - {name: new, port: 443, protocol: HTTPS, tls: {minVersion: \"1.3\", \
                     cipherSuites: [TLS_AES_256_GCM_SHA384]}}\n\
                     \x20 - {name: old, port: 444, protocol: HTTPS, tls: {cipherSuites: \
                     [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256]}}\n\
                     \x20 - {name: usual, port: 445, protocol: HTTPS}\n";
    rig.write_fleet("prod", listeners).unwrap();
    let mut controller = rig.controller("c1", &[]).unwrap();
    controller.until_ready(SOON).await.unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = [free(), free(), free()];
    let [new, old, usual] = held.each_ref().map(|socket| socket.local_addr().unwrap());
    drop(held);
    let at = |name: &str, to: SocketAddr| format!("{name}={to}");
    let (to_new, to_old, to_usual) = (at("new", new), at("old", old), at("usual", usual));
    let given = ["--listen", &to_new, "--listen", &to_old, "--listen", &to_usual];
    let mut replica = rig.replica("r1", "prod", &[&controller], &given).await.unwrap();
    replica.until_ready(SOON).await.unwrap();

    until(new, &[], "TLSv1.3", "TLS_AES_256_GCM_SHA384").await;
    assert_eq!(agreed(new, &["-tls1_2"]), None, "an old version");
    assert_eq!(agreed(new, &["-ciphersuites", "TLS_AES_128_GCM_SHA256"]), None, "another suite");

    until(old, &["-tls1_2"], "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256").await;
    assert_eq!(agreed(old, &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"]), None);
    until(old, &[], "TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256").await;

    let other = &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"];
    until(usual, other, "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384").await;
    let one = &["-ciphersuites", "TLS_AES_128_GCM_SHA256"];
    until(usual, one, "TLSv1.3", "TLS_AES_128_GCM_SHA256").await;
}
