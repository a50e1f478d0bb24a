//! The chunks of an answer, found one after the other (RFC 9112 section 7.1).

use bytes::{Buf, Bytes, BytesMut};

use super::answer::Fault;

/// Where in a chunked body its reader stands.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// Bytes of extensions and trailers so far.
    extra: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// In the digits of a size.
    Size { size: u64, digits: u8 },
    /// Behind the digits, before the end of the line.
    Extension { size: u64 },
    /// Before the line feed that ends the line of a size.
    SizeEnd { size: u64 },
    /// In the bytes of a chunk.
    Data { left: u64 },
    /// Before the CR behind a chunk.
    DataEnd,
    /// Before the LF behind a chunk.
    DataLf,
    /// At the beginning of a trailer line, or of the empty line that ends all.
    Line,
    /// In a trailer line.
    Trailer,
    /// Behind the CR of a trailer line.
    TrailerLf,
    /// Behind the CR of the last line.
    LastLf,
    /// Behind the end.
    Done,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, extra: 0 }
    }

    /// Whether the end was found.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next bytes of the body out of `input`. None: more must be read, or
    /// [`is_done`](Self::is_done).
    ///
    /// # Errors
    /// When the framing is broken: the answer ends visibly incomplete.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Fault> {
        loop {
            if let State::Data { left } = self.state {
                if input.is_empty() {
                    return Ok(None);
                }
                let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                let data = input.split_to(count).freeze();
                let left = left - count as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                return Ok(Some(data));
            }
            if self.is_done() {
                return Ok(None);
            }
            let Some(&byte) = input.first() else { return Ok(None) };
            input.advance(1);
            self.state = self.after(byte)?;
        }
    }

    /// The state behind one byte that is none of a chunk.
    fn after(&mut self, byte: u8) -> Result<State, Fault> {
        let next = match (self.state, byte) {
            (State::Size { size, digits }, digit) if digit.is_ascii_hexdigit() => {
                if digits == DIGITS_MAX {
                    return Err(Fault::Chunk);
                }
                let value = char::from(digit).to_digit(16).map_or(0, u64::from);
                let size = size << 4 | value;
                if i64::try_from(size).is_err() {
                    return Err(Fault::Chunk);
                }
                State::Size { size, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Fault::Chunk),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => {
                State::SizeEnd { size }
            }
            (State::Size { size, .. }, b';' | b' ' | b'\t') => State::Extension { size },
            (State::Extension { size }, other) if is_text(other) => {
                self.count_extra()?;
                State::Extension { size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Line,
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataEnd, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Line, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::Done,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Line,
            (State::Line | State::Trailer, other) if is_text(other) => {
                self.count_extra()?;
                State::Trailer
            }
            (
                State::Size { .. }
                | State::Extension { .. }
                | State::SizeEnd { .. }
                | State::Data { .. }
                | State::DataEnd
                | State::DataLf
                | State::Line
                | State::Trailer
                | State::TrailerLf
                | State::LastLf
                | State::Done,
                _,
            ) => return Err(Fault::Chunk),
        };
        Ok(next)
    }

    fn count_extra(&mut self) -> Result<(), Fault> {
        self.extra += 1;
        if self.extra > EXTRA_BYTES_MAX { Err(Fault::Chunk) } else { Ok(()) }
    }
}

/// What may stand in extensions and trailers, which are not passed on.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A size that fits into 63 bits has no more, but for leading zeros.
const DIGITS_MAX: u8 = 16;
/// Extensions and trailers of one answer.
const EXTRA_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body, fed `step` bytes at a time, and what is left behind its end.
    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), Fault> {
        let mut chunks = Chunks::new();
        let (mut body, mut input) = (Vec::new(), BytesMut::new());
        for part in bytes.chunks(step) {
            input.extend_from_slice(part);
            while let Some(data) = chunks.next(&mut input)? {
                body.extend_from_slice(&data);
            }
        }
        Ok((body, input.len(), chunks.is_done()))
    }

    #[test]
    fn a_body_is_found_however_it_arrives() {
        let bytes = b"5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\nZ: w\r\n\r\nrest";
        for step in 1..bytes.len() {
            let (body, left, is_done) = read(bytes, step).unwrap();
            assert_eq!((body.as_slice(), left, is_done), (&b"hello0123456789"[..], 4, true));
        }
        assert_eq!(read(b"0\r\n\r\n", 5).unwrap(), (Vec::new(), 0, true));
        assert_eq!(read(b"3\r\nab", 5).unwrap(), (b"ab".to_vec(), 0, false));
    }

    #[test]
    fn what_is_no_framing_is_refused() {
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\na\r\n",
            b"0x1\r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1;a\0\r\n",
            b"0\r\n\n",
            b"0\r\nA\nb\r\n",
            b"8000000000000000\r\n",
            b"00000000000000001\r\na\r\n",
        ] {
            assert!(read(bytes, 64).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        let long = [b"1;".as_slice(), &[b'a'; 20_000], b"\r\n"].concat();
        assert!(read(&long, 100).is_err());
    }

    proptest! {
        #[test]
        fn whatever_was_chunked_comes_out(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            step in 1..64_usize,
        ) {
            let mut bytes = Vec::new();
            for part in &parts {
                bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&bytes, step), Ok((parts.concat(), 0, true)));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 7);
        }
    }
}
