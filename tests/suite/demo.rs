//! `kubeng demo`: what a new user meets first.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use kubeng_harness::client::Client;
use tokio_tungstenite::tungstenite::Message;

/// The running demo; it is ended when this is dropped.
struct Demo {
    child: Child,
    http: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> Demo {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubeng"))
        .args(["demo", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"])
        .args(["--admin", "127.0.0.1:0", "--folder"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("curl http://shop.localhost:"))
        .unwrap();
    let port: u16 = line.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    Demo { child, http: ([127, 0, 0, 1], port).into(), folder }
}

async fn until(demo: &Demo, host: &str, path: &str, status: u16) -> String {
    let began = Instant::now();
    loop {
        if let Ok(answer) = Client::plain(demo.http).get(host, path).await
            && answer.status == status
        {
            return String::from_utf8_lossy(&answer.body).into_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{host}{path} does not answer {status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_demo_serves_its_samples_and_follows_an_edit() {
    let demo = start();
    let text = until(&demo, "shop.localhost", "/cart", 200).await;
    assert!(text.starts_with("shop-") && text.contains("GET /cart"), "{text}");
    let text = until(&demo, "billing.localhost", "/", 200).await;
    assert!(text.starts_with("billing-"), "{text}");

    let stream = tokio::net::TcpStream::connect(demo.http).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async("ws://chat.localhost/", stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));

    let file = demo.folder.path().join("shop.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("path: /\n", "path: /buy\n")).unwrap();
    until(&demo, "shop.localhost", "/cart", 404).await;
    until(&demo, "shop.localhost", "/buy", 200).await;
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));

    let output = Command::new(env!("CARGO_BIN_EXE_kubeng"))
        .arg("validate")
        .arg(demo.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
