//! One HTTP/1.1 connection without anything around it: as little load as can be.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kubeng_harness::backend::BACKEND;

/// A keep-alive connection of a thread that blocks.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What is looked at in an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// The name of the backend that answered.
    pub(crate) backend: Option<&'a str>,
}

impl Connection {
    pub(crate) fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        Ok(Self { stream, buffer: vec![0; 64 * 1024] })
    }

    /// Sends a request that [`request`] made and reads the whole answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        let mut whole = usize::MAX;
        while filled < whole {
            let rest = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(rest)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let seen = self.buffer.get(..filled).unwrap_or_default();
            if whole == usize::MAX
                && let Some(end) = end_of_head(seen)
            {
                let body = field(head(seen), "content-length").and_then(|n| n.parse().ok());
                let body: usize = body.ok_or(io::ErrorKind::InvalidData)?;
                whole = end + body;
            }
        }
        let head = head(&self.buffer);
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Answer { status, backend: field(head, BACKEND.as_str()) })
    }
}

/// The bytes of `GET path` for `host`.
pub(crate) fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn head(bytes: &[u8]) -> &str {
    let head = bytes.get(..end_of_head(bytes).unwrap_or(0)).unwrap_or_default();
    str::from_utf8(head).unwrap_or_default()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use kubeng_harness::backend::Backend;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_are_read_whole() {
        let backend = Backend::start("one").await.unwrap();
        let mut connection = Connection::open(backend.address).unwrap();
        for _ in 0..3 {
            let answer = connection.ask(&request("any.example", "/")).unwrap();
            assert_eq!(answer, Answer { status: 200, backend: Some("one") });
        }
        assert_eq!((backend.requests(), backend.connections()), (3, 1));
    }
}
