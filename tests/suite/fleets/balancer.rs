//! A balancer of layer 4 in front of replicas, as docs/bare-metal.md writes it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::HeaderName;
use kubeng_harness::backend::{Backend, canned};
use kubeng_harness::fleet::Member;
use kubeng_harness::fleet::placed::Place;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::rig::{CLOSELY, Rig, WAIT, host};
use crate::support::{save, service};

/// Where the page says that replicas are; here they are on loopback.
const IN_THE_PAGE: &str = "10.0.1.1";
const ON_LOOPBACK: &str = "127.0.1.1";

/// What the backend tells of the client.
const SEEN: HeaderName = HeaderName::from_static("x-seen");

/// The block of a page that begins with this fence.
fn block(page: &str, fence: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("{fence}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// HAProxy as the page has it, but for addresses; none where it is not installed.
fn haproxy(folder: &Path, front: SocketAddr, places: &[Place]) -> Option<Child> {
    let (http, admin) = (places[0].address.port(), places[0].admin.port());
    let text = block("bare-metal.md", "```haproxy")
        .replace("192.0.2.80:443", &front.to_string())
        .replace(":443", &format!(":{http}"))
        .replace("port 9180", &format!("port {admin}"))
        .replace(IN_THE_PAGE, ON_LOOPBACK);
    let more =
        "defaults\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\n";
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, more.to_owned() + &text).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(&path).kill_on_drop(true);
    match command.stdin(Stdio::null()).spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("skipped: haproxy cannot be started ({error}); install it");
            None
        }
    }
}

/// One request over a connection of its own, from `client`; gives the whole answer.
async fn fetch(front: SocketAddr, client: [u8; 4], target: &str) -> std::io::Result<String> {
    let exchange = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::from(client), 0).into())?;
        let mut stream = socket.connect(front).await?;
        let host = host("prod");
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(30), exchange).await?
}

/// How many requests a replica has answered.
async fn answered(replica: &Member) -> u64 {
    let text = replica.admin("/metrics").await.unwrap().body;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| line.starts_with("kubeng_requests_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Asks until it is told to stop; gives the answers that were not as they should be, and how many were.
async fn ask_on(
    front: SocketAddr,
    client: [u8; 4],
    target: &'static str,
    is_over: Arc<AtomicBool>,
) -> (Vec<String>, u64) {
    let (mut wrong, mut good) = (Vec::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        match fetch(front, client, target).await {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => good += 1,
            Ok(answer) => wrong.push(answer),
            Err(error) => wrong.push(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (wrong, good)
}

/// Three replicas as on machines of their own, that take the word of a balancer for the client.
async fn replicas(rig: &Rig, places: &[Place]) -> Vec<Member> {
    let path = rig.fleet.manifests().join("fleet-prod.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let behind = "protocol: HTTP, proxyProtocol: require, proxyProtocolFrom: [127.0.0.0/8] }";
    save(&rig.fleet.manifests(), "fleet-prod.yaml", &text.replace("protocol: HTTP }", behind));
    let controllers: Vec<&Member> = rig.controllers.iter().collect();
    let more = ["--heartbeat", "1", "--drain", "20", "--drain-delay", "8"];
    let mut members = Vec::new();
    for (place, name) in places.iter().zip(["edge1", "edge2", "edge3"]) {
        let member = rig.fleet.replica_placed(("prod", name), &controllers, place, &more);
        members.push(member.await.unwrap());
    }
    for member in &mut members {
        member.until_ready(WAIT).await.unwrap();
    }
    members
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_spreads_requests_and_a_replica_that_is_drained_loses_none() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let says_who = |request: http::Request<bytes::Bytes>| {
        let seen = request.headers().get("x-forwarded-for").cloned();
        let mut reply = canned(request);
        reply.response.headers_mut().extend(seen.map(|seen| (SEEN, seen)));
        reply
    };
    let web = Backend::start_with("web", ([127, 0, 0, 1], 0).into(), says_who).await.unwrap();
    save(&rig.fleet.manifests(), "service.yaml", &service("web", &[&web]));
    let hosts = [11, 12, 13].map(|last| IpAddr::from([127, 0, 1, last]));
    let places = Place::alike(&hosts).unwrap();
    let mut replicas = replicas(&rig, &places).await;
    let front = Place::anywhere().unwrap().address;
    let Some(_haproxy) = haproxy(&rig.scratch(), front, &places) else { return };

    // Until the balancer is there, and the fleet takes its word.
    let began = Instant::now();
    let wanted = format!("{SEEN}: 127.0.0.7\r\n");
    let mut last = BTreeSet::new();
    let mut good = 0;
    while good < 30 {
        match fetch(front, [127, 0, 0, 7], "/").await {
            Ok(answer) if answer.to_lowercase().contains(&wanted) => good += 1,
            other => drop(last.insert(format!("{other:?}"))),
        }
        assert!(began.elapsed() < WAIT, "{good} are good, others: {last:#?}");
    }
    for replica in &replicas {
        assert!(answered(replica).await >= 5, "{} got its part", replica.name);
    }

    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for (last, target) in [(21, "/"), (22, "/"), (23, "/?after=1500")] {
        clients.spawn(ask_on(front, [127, 0, 0, last], target, Arc::clone(&is_over)));
    }
    let mut leaving = replicas.remove(0);
    leaving.stop(WAIT).await.unwrap();
    let before = answered(&replicas[0]).await;
    let began = Instant::now();
    while answered(&replicas[0]).await < before + 5 {
        assert!(began.elapsed() < WAIT, "the others serve");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut all = 0;
    while let Some(done) = clients.join_next().await {
        let (wrong, good) = done.unwrap();
        assert!(wrong.is_empty(), "{} of {good}: {wrong:#?}", wrong.len());
        all += good;
    }
    assert!(all > 100, "only {all} were asked");
    // The list tells who has left.
    rig.until("prod/edge1", "Unreachable").await;
    rig.until("prod/edge2", "InSync").await;
}
