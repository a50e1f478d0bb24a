//! The upstream of the benchmark: answers every request head with the same 1 KiB body.
//!
//! Std only, so that `rustc -O upstream.rs` is the whole build. One blocking thread per
//! connection: on one core this costs about as much per request as an epoll loop, and it
//! needs no unsafe code. Request bodies are not understood; send GET.
//!
//! usage: upstream PORT

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::Builder;

const BODY: usize = 1024;

fn serve(mut conn: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    conn.set_nodelay(true)?;
    let mut buf = [0u8; 8192];
    // how much of CR LF CR LF has been seen; a head may end in any read, and one read may end several
    let mut seen = 0u8;
    loop {
        let n = conn.read(&mut buf)?;
        if n == 0 {
            return Ok(());
        }
        for &byte in &buf[..n] {
            seen = match (seen, byte) {
                (0 | 2, b'\r') | (1 | 3, b'\n') => seen + 1,
                (_, b'\r') => 1,
                _ => 0,
            };
            if seen == 4 {
                seen = 0;
                conn.write_all(answer)?;
            }
        }
    }
}

/// Answers every connection of `listener`, for ever.
pub(crate) fn answer_all(listener: &TcpListener) -> std::io::Result<()> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + BODY, b'x');
    let answer: Arc<[u8]> = answer.into();
    for conn in listener.incoming().flatten() {
        let answer = answer.clone();
        let _ = Builder::new().stack_size(64 * 1024).spawn(move || serve(conn, &answer));
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let port: u16 =
        std::env::args().nth(1).and_then(|p| p.parse().ok()).expect("usage: upstream PORT");
    answer_all(&TcpListener::bind(("127.0.0.1", port))?)
}
