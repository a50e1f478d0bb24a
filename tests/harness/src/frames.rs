//! A client of HTTP/2 that sends whatever frames it is told (RFC 9113, RFC 7541).

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One frame, which may break any rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What follows its nine bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of any type.
    #[must_use]
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// The frame as it is sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[self.kind, self.flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The error code of a RST_STREAM or a GOAWAY.
    #[must_use]
    pub fn error_code(&self) -> Option<u32> {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }

    /// The status that a block of fields begins with. The client takes care that no table is used.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let mut block = self.payload.as_slice();
        // A change of the size of the table (RFC 7541 section 6.3).
        while block.first()? >> 5 == 1 {
            block = &block[1..];
        }
        let first = *block.first()?;
        if first >= 0x80 {
            return [200, 204, 206, 304, 400, 404, 500].get(usize::from(first & 0x7F) - 8).copied();
        }
        let length = *block.get(1)?;
        let text = block.get(2..2 + usize::from(length & 0x7F))?;
        let digits = if length & 0x80 == 0 { text.to_vec() } else { digits_of(text) };
        String::from_utf8(digits).ok()?.parse().ok()
    }
}

/// Three digits in the code of Huffman (RFC 7541 appendix B).
fn digits_of(text: &[u8]) -> Vec<u8> {
    let bits: String = text.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut rest = bits.as_str();
    let mut digits = Vec::new();
    while digits.len() < 3 {
        let short = ["00000", "00001", "00010"].iter().position(|code| rest.starts_with(code));
        let long = rest.get(..6).and_then(|code| u8::from_str_radix(code, 2).ok());
        match (short, long) {
            (Some(digit), _) => {
                digits.push(b"012"[digit]);
                rest = &rest[5..];
            }
            (None, Some(code @ 0x19..=0x1F)) => {
                digits.push(b'3' + code - 0x19);
                rest = &rest[6..];
            }
            (None, _) => break,
        }
    }
    digits
}

/// A field as a literal that enters no table (RFC 7541 section 6.2.2).
#[must_use]
pub fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name.as_ref(), value.as_ref()] {
        integer(text.len(), 7, 0, &mut bytes);
        bytes.extend_from_slice(text);
    }
    bytes
}

/// A number with a prefix of `bits` (RFC 7541 section 5.1), its first byte or-ed with `first`.
pub fn integer(number: usize, bits: u32, first: u8, out: &mut Vec<u8>) {
    let max = (1 << bits) - 1;
    if number < max {
        return out.push(first | number as u8);
    }
    out.push(first | max as u8);
    let mut rest = number - max;
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A block of literal fields.
#[must_use]
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// A connection to a server of HTTP/2 without TLS.
pub struct RawClient {
    tcp: TcpStream,
    read: Vec<u8>,
}

impl RawClient {
    /// Connects and sends nothing.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(to: SocketAddr) -> Result<Self> {
        let tcp = TcpStream::connect(to).await.with_context(|| format!("{to}"))?;
        tcp.set_nodelay(true)?;
        Ok(Self { tcp, read: Vec::new() })
    }

    /// Connects, sends the preface and settings that keep answers out of tables, and `settings`.
    ///
    /// # Errors
    /// When nobody listens, or the connection ends.
    pub async fn open(to: SocketAddr, settings: &[(u16, u32)]) -> Result<Self> {
        let mut this = Self::connect(to).await?;
        let mut bytes = PREFACE.to_vec();
        bytes.extend(self::settings(&[&[(1, 0)], settings].concat()).bytes());
        this.send(&bytes).await?;
        Ok(this)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.tcp.write_all(bytes).await?)
    }

    /// Sends frames, one after the other.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_frames(&mut self, frames: &[Frame]) -> Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.send(&bytes).await
    }

    /// Ends its own direction.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.tcp.shutdown().await?)
    }

    /// The next frame; None at the end of the connection, however it came about.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.read.first_chunk::<9>() {
                let [a, b, c, kind, flags, stream @ ..] = *head;
                let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                if self.read.len() >= end {
                    let payload = self.read.drain(..end).skip(9).collect();
                    let stream = u32::from_be_bytes(stream) & 0x7FFF_FFFF;
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            match self.tcp.read_buf(&mut self.read).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

/// SETTINGS.
#[must_use]
pub fn settings(values: &[(u16, u32)]) -> Frame {
    let mut payload = Vec::new();
    for (id, value) in values {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    Frame::new(SETTINGS, 0, 0, payload)
}

/// The bytes with which a client begins (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of frames with content.
pub const DATA: u8 = 0;
/// The type of frames that open a stream.
pub const HEADERS: u8 = 1;
/// The type of frames that once ordered streams.
pub const PRIORITY: u8 = 2;
/// The type of frames that end a stream early.
pub const RST_STREAM: u8 = 3;
/// The type of frames that set parameters.
pub const SETTINGS: u8 = 4;
/// The type of frames that promise an answer.
pub const PUSH_PROMISE: u8 = 5;
/// The type of frames that ask for an echo.
pub const PING: u8 = 6;
/// The type of frames that end a connection.
pub const GOAWAY: u8 = 7;
/// The type of frames that allow more to be sent.
pub const WINDOW_UPDATE: u8 = 8;
/// The type of frames that go on with a block of fields.
pub const CONTINUATION: u8 = 9;
/// On DATA and HEADERS: the stream ends. On SETTINGS and PING: an acknowledgement.
pub const END_STREAM: u8 = 1;
/// On HEADERS and CONTINUATION: the block ends.
pub const END_HEADERS: u8 = 4;
/// On DATA and HEADERS: there is padding.
pub const PADDED: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_form() {
        let check = |payload: &[u8], expected| {
            assert_eq!(Frame::new(HEADERS, 0, 1, payload).status(), expected, "{payload:x?}");
        };
        check(&[0x88], Some(200));
        check(&[0x20, 0x8D], Some(404));
        check(&[0x08, 3, b'5', b'0', b'2'], Some(502));
        // "302" in the example of RFC 7541 appendix C.6.1; "307" in C.6.2.
        check(&[0x48, 0x82, 0x64, 0x02], Some(302));
        check(&[0x48, 0x83, 0x64, 0x0E, 0xFF], Some(307));
    }

    #[test]
    fn numbers_have_prefixes() {
        // RFC 7541 appendix C.1.
        let check = |number, bits, expected: &[u8]| {
            let mut out = Vec::new();
            integer(number, bits, 0, &mut out);
            assert_eq!(out, expected);
        };
        check(10, 5, &[10]);
        check(1337, 5, &[31, 154, 10]);
        check(42, 8, &[42]);
    }
}
