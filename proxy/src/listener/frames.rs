//! Counts the frames of an HTTP/2 connection, and tells when a client costs more than it may.
//!
//! Only the nine bytes in front of each frame are read, in both directions; the
//! memory is constant. What frames mean is for the engine to judge: this bounds
//! what is cheap to send and endless to answer.

mod account;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::refusal::Rule;
use account::{Account, Inbound, Outbound};

/// What the owner of an HTTP/2 connection is told about it while the engine has it.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Woken when as many streams were opened as one connection may have.
    pub(crate) is_spent: Notify,
    broken: AtomicU8,
}

impl Course {
    /// The rule that the client broke, for which it was cut.
    pub(crate) fn broken(&self) -> Option<Rule> {
        let number = usize::from(self.broken.load(Ordering::Relaxed));
        number.checked_sub(1).and_then(|at| Rule::ALL.get(at)).copied()
    }
}

/// The accountant of one connection.
#[derive(Debug)]
pub(crate) struct Frames {
    inbound: Headers,
    outbound: Headers,
    account: Account,
    /// Whether the first frame has come.
    is_begun: bool,
    streams_max: u32,
    pub(crate) course: Arc<Course>,
}

impl Frames {
    /// Of a connection whose preface is still to come, and that may open `streams_max` streams.
    pub(crate) fn new(streams_max: u32) -> Self {
        Self {
            // The preface passes as what it is: bytes in front of the first frame.
            inbound: Headers { skip: PREFACE_BYTES, ..Headers::default() },
            outbound: Headers::default(),
            account: Account::default(),
            is_begun: false,
            streams_max,
            course: Arc::default(),
        }
    }

    /// Counts bytes from the client.
    ///
    /// # Errors
    /// The rule that it has broken.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Rule> {
        let Self { inbound, account, is_begun, streams_max, course, outbound: _ } = self;
        // Of a batch of frames all have come at once, so one look at the clock does.
        let mut now = None;
        let read = inbound.feed(bytes, Padding::Read, &mut |header| {
            // RFC 9113 section 3.4; the engine waits for it among others.
            let is_settings = (header.kind, header.flags & ACK) == (SETTINGS, 0);
            if !std::mem::replace(is_begun, true) && !is_settings {
                return Err(Rule::FirstFrame);
            }
            let frame = Inbound::of(&header);
            account.take(frame, &mut || *now.get_or_insert_with(Instant::now))
        });
        if account.streams() >= *streams_max {
            course.is_spent.notify_one();
        }
        read.inspect_err(|&rule| course.broken.store(rule as u8 + 1, Ordering::Relaxed))
    }

    /// Counts bytes to the client.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        let account = &mut self.account;
        // Nothing that we send breaks a rule at once: resets count when the client goes on.
        let _ = self.outbound.feed(bytes, Padding::Skip, &mut |header| {
            account.gave(&Outbound::of(&header));
            Ok(())
        });
    }

    /// Whether the client has sent a frame.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether the next byte to the client begins a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.outbound.skip == 0 && self.outbound.have == 0
    }
}

/// GOAWAY with an error code (RFC 9113 sections 6.8 and 7).
///
/// It names the highest possible stream: what was begun may have been carried out.
pub(crate) fn goaway(code: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, code]
}

/// What stands in front of a frame, with the length of padding that it tells.
#[derive(Clone, Copy, Debug)]
struct Header {
    length: usize,
    kind: u8,
    flags: u8,
    padding: usize,
    /// The first four bytes of the payload, where they are read: the error code of a RST_STREAM.
    code: u32,
}

/// Which bytes of a payload are read beside the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Padding {
    /// The length of padding.
    Read,
    /// Error codes of RST_STREAM.
    Skip,
}

/// Finds the headers of frames in a stream of bytes that comes in any pieces.
#[derive(Debug, Default)]
struct Headers {
    /// Bytes of payload until the next header.
    skip: usize,
    have: usize,
    bytes: [u8; HEADER_BYTES_MAX],
}

impl Headers {
    fn feed(
        &mut self,
        mut bytes: &[u8],
        padding: Padding,
        found: &mut impl FnMut(Header) -> Result<(), Rule>,
    ) -> Result<(), Rule> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let here = self.skip.min(bytes.len());
                self.skip -= here;
                bytes = bytes.get(here..).unwrap_or_default();
                continue;
            }
            let wanted = self.wanted(padding);
            let here = (wanted - self.have).min(bytes.len());
            let (part, rest) = bytes.split_at(here);
            if let Some(place) = self.bytes.get_mut(self.have..self.have + here) {
                place.copy_from_slice(part);
            }
            self.have += here;
            bytes = rest;
            // The first nine bytes may tell that more are wanted.
            if self.have == self.wanted(padding) {
                let header = self.header(padding);
                self.skip = (FRAME_BYTES + header.length).saturating_sub(self.have);
                self.have = 0;
                found(header)?;
            }
        }
        Ok(())
    }

    /// How many bytes make this header, as far as is known.
    fn wanted(&self, padding: Padding) -> usize {
        if self.have < FRAME_BYTES {
            return FRAME_BYTES;
        }
        let [a, b, c, kind, flags, ..] = self.bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let more = match padding {
            Padding::Read if matches!(kind, DATA | HEADERS) && flags & PADDED != 0 => 1,
            Padding::Skip if kind == RST_STREAM => 4,
            Padding::Read | Padding::Skip => 0,
        };
        FRAME_BYTES + more.min(length)
    }

    fn header(&self, padding: Padding) -> Header {
        let [a, b, c, kind, flags, _, _, _, _, first, second, third, fourth] = self.bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let is_padded = padding == Padding::Read && self.have > FRAME_BYTES;
        Header {
            length,
            kind,
            flags,
            padding: if is_padded { 1 + usize::from(first) } else { 0 },
            code: u32::from_be_bytes([first, second, third, fourth]),
        }
    }
}

pub(crate) const NO_ERROR: u8 = 0;
pub(crate) const PROTOCOL_ERROR: u8 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u8 = 11;
const PREFACE_BYTES: usize = 24;
const FRAME_BYTES: usize = 9;
/// A frame header and an error code.
const HEADER_BYTES_MAX: usize = 13;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// On SETTINGS.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

#[cfg(test)]
mod tests;
