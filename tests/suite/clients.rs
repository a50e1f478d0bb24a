//! Clients that people really use, where the machine has them; and bodies larger than any buffer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kubeng_harness::backend::Backend;
use kubeng_harness::process::Kubeng;
use tempfile::TempDir;

use crate::support::{SOON, ingress, launch, secret, serve_with, service};

const HOST: &str = "web.example.com";

async fn start(web: &Backend) -> (Kubeng, TempDir) {
    let files = [
        ("a.yaml", service("web", &[web])),
        ("b.yaml", ingress("web", HOST, &[("/", "Prefix", "web")])),
        ("c.yaml", secret("cert", HOST)),
    ];
    serve_with(|| launch().arg("--default-certificate").arg("shop/cert"), &files).await
}

/// Runs a client with these arguments; None where the machine does not have it.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    // A client that wants no input has closed it.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(text(&output.stdout) + &text(&output.stderr))
}

#[track_caller]
fn check(program: &str, arguments: &[&str], input: &[u8], wanted: &[&str]) {
    let Some(output) = run(program, arguments, input) else { return };
    for word in wanted {
        assert!(output.contains(word), "{program} {arguments:?}: no {word:?} in {output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_content_with_every_version() {
    let web = Backend::start("web").await.unwrap();
    let (kubeng, folder) = start(&web).await;
    let (http, https) = (kubeng.http.port(), kubeng.https.port());
    let plain = format!("http://{HOST}:{http}/");
    let tls = format!("https://{HOST}:{https}/");
    let resolve = [http, https].map(|port| format!("{HOST}:{port}:127.0.0.1"));
    let common =
        ["-sS", "-m", "20", "-w", "\n%{http_code} HTTP/%{http_version} %{size_download}", "-k"];
    let large = folder.path().join("large.bin");
    std::fs::write(&large, vec![7; 3_000_000]).unwrap();
    let large = format!("@{}", large.display());
    let body = "1024";
    for (url, arguments, wanted) in [
        (&plain, &["--http1.0"][..], ["200 HTTP/1.1", body]),
        (&plain, &["--http1.1"], ["200 HTTP/1.1", body]),
        (&plain, &["--http2-prior-knowledge"], ["200 HTTP/2", body]),
        (&tls, &["--http1.1", "--tls-max", "1.2"], ["200 HTTP/1.1", body]),
        (&tls, &["--http1.1", "--tlsv1.3"], ["200 HTTP/1.1", body]),
        (&tls, &["--http2"], ["200 HTTP/2", body]),
        (&plain, &["-I"], ["200 HTTP/1.1", "Content-Length: 1024"]),
        (&tls, &["-I", "--http2"], ["200 HTTP/2", "content-length: 1024"]),
        // curl waits for 100 Continue by itself, and when it is told to.
        (&plain, &["--data-binary", &large, "-H", "Expect: 100-continue"], ["200 HTTP/1.1", body]),
        (&tls, &["--data-binary", &large, "--http2"], ["200 HTTP/2", body]),
        (&plain, &["-H", "Transfer-Encoding: chunked", "-d", "abc"], ["200 HTTP/1.1", body]),
    ] {
        let mut all = common.to_vec();
        for one in &resolve {
            all.extend(["--resolve", one]);
        }
        all.extend(arguments);
        all.push(url);
        check("curl", &all, b"", &wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_clients_are_content() {
    let web = Backend::start("web").await.unwrap();
    let (kubeng, _folder) = start(&web).await;
    let (http, https) = (kubeng.http, kubeng.https);
    let authority = format!(":authority: {HOST}");
    let url = format!("http://{http}/");
    let tls_url = format!("https://{https}/");
    check("nghttp", &["-v", "-n", "-H", &authority, &url], b"", &[":status: 200"]);
    check(
        "nghttp",
        &["-v", "-n", "-H", &authority, &tls_url],
        b"",
        &["negotiated protocol: h2", ":status: 200"],
    );
    let load = ["-n", "200", "-c", "4", "-m", "20", "-H", &authority, &tls_url];
    check("h2load", &load, b"", &["200 succeeded, 0 failed, 0 errored"]);
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let to = https.to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let arguments = ["s_client", "-connect", &to, "-servername", HOST, version, "-ign_eof"];
        check("openssl", &arguments, request.as_bytes(), &["HTTP/1.1 200 OK"]);
    }
    let script = format!(
        "import http.client\nc = http.client.HTTPConnection('{}', {}, timeout=20)\n\
         for _ in range(3):\n  c.request('GET', '/', headers={{'Host': '{HOST}'}})\n  \
         r = c.getresponse()\n  print(r.status, len(r.read()))\n",
        http.ip(),
        http.port()
    );
    check("python3", &["-c", &script], b"", &["200 1024\n200 1024\n200 1024\n"]);
}

/// A Backend that takes uploads of any size, and sends [`LARGE`] bytes to whoever asks with GET.
fn serve_large() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            thread::spawn(move || drop(answer_large(&mut tcp)));
        }
    });
    address
}

fn answer_large(tcp: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if tcp.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let mut space = vec![b'x'; 64 * 1024];
    if head.starts_with(b"GET") {
        write!(tcp, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n")?;
        for _ in 0..LARGE / space.len() {
            tcp.write_all(&space)?;
        }
    } else {
        let mut left = LARGE;
        while left > 0 {
            left -= tcp.read(&mut space)?.min(left);
        }
        tcp.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone")?;
    }
    Ok(())
}

fn download(to: SocketAddr, pause: Duration) -> std::io::Result<usize> {
    let mut tcp = TcpStream::connect(to)?;
    tcp.set_read_timeout(Some(SOON))?;
    write!(tcp, "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")?;
    let mut space = vec![0; 64 * 1024];
    // A reader that is slow at first must not make the proxy read on.
    thread::sleep(pause);
    let mut all = 0;
    loop {
        match tcp.read(&mut space)? {
            0 => return Ok(all),
            count => all += count,
        }
    }
}

fn upload(to: SocketAddr) -> std::io::Result<String> {
    let mut tcp = TcpStream::connect(to)?;
    tcp.set_read_timeout(Some(SOON))?;
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n");
    write!(tcp, "{head}Content-Length: {LARGE}\r\n\r\n")?;
    let space = vec![b'y'; 64 * 1024];
    for _ in 0..LARGE / space.len() {
        tcp.write_all(&space)?;
    }
    let mut answer = String::new();
    tcp.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_256_mib_pass_without_being_kept() {
    let backend = serve_large();
    let endpoint = format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: Upstream\nmetadata: {{name: large, namespace: shop}}\n\
         spec:\n  endpoints:\n  - {{address: {}, port: {}}}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: large, namespace: shop}}\nspec:\n  ingressClassName: kubeng\n\
         \x20 defaultBackend: {{resource: {{apiGroup: kubeng.io, kind: Upstream, name: large}}}}\n",
        backend.ip(),
        backend.port()
    );
    let (kubeng, _folder) = serve_with(launch, &[("large.yaml", endpoint)]).await;
    let to = kubeng.http;
    let before = kubeng.usage().unwrap().rss_kib;
    let most = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(before));
    let mut work = tokio::task::JoinSet::new();
    work.spawn_blocking(move || assert!(download(to, Duration::ZERO).unwrap() > LARGE));
    work.spawn_blocking(move || assert!(download(to, Duration::from_secs(1)).unwrap() > LARGE));
    work.spawn_blocking(move || assert!(upload(to).unwrap().ends_with("done")));
    while !work.is_empty() {
        let now = kubeng.usage().unwrap().rss_kib;
        most.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
        if let Ok(Some(done)) =
            tokio::time::timeout(Duration::from_millis(20), work.join_next()).await
        {
            done.unwrap();
        }
    }
    let growth = most.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert!(growth < 24 * 1024, "it grew by {growth} KiB");
}

const LARGE: usize = 256 * 1024 * 1024;
