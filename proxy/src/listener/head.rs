//! The head gate: reads one request head of HTTP/1 and judges it before anything else sees it.
//!
//! One deadline for the whole head, a cap in bytes, each byte searched once,
//! then one strict pass over the lines. Nothing goes to a Backend before.

mod judge;
mod nominations;

use bytes::{Buf, BytesMut};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Conn, Left};
use super::refusal::Rule;
use crate::limits::Limits;
use crate::reply::Asked;
pub(crate) use judge::is_token_byte;
use judge::{Verdict, judge};

/// A request head that may go on, with what is known about its body.
pub(crate) struct Head {
    /// The head, and the bytes of the body that came along.
    pub(crate) bytes: BytesMut,
    /// What of the body is still to come.
    pub(crate) left: Left,
    /// Bytes of the next request that came early.
    pub(crate) early: BytesMut,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// The client went away, or said nothing for too long.
    Closed,
    /// What arrived is no HTTP: nothing is answered.
    Silent,
    /// The client speaks HTTP/2; these are its first bytes.
    Http2(BytesMut),
    /// A rule was broken: answer as it was asked, then close.
    Refuse(Rule, Asked),
}

/// Where a head stands on its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// The first of its connection, which may turn out to be HTTP/2.
    First,
    /// A later one.
    Later,
}

/// Waits for the first bytes of a request. `bytes` came early, behind the request before.
pub(crate) async fn read_first(
    conn: &mut Conn,
    mut bytes: BytesMut,
    limits: &Limits,
) -> Result<BytesMut, NoHead> {
    if bytes.is_empty() {
        let read = timeout(limits.idle, conn.fill(&mut bytes)).await;
        if !matches!(read, Ok(Ok(1..))) {
            return Err(NoHead::Closed);
        }
    }
    Ok(bytes)
}

/// Reads a head whose first bytes are there.
pub(crate) async fn read_head(
    conn: &mut Conn,
    mut bytes: BytesMut,
    turn: Turn,
    limits: &Limits,
) -> Result<Head, NoHead> {
    let mut search = Search::default();
    if let Some(end) = search.go_on(&mut bytes, limits).map_err(|rule| refuse(rule, &bytes))? {
        return finish(bytes, end, turn, limits);
    }
    let deadline = Instant::now() + limits.head;
    loop {
        if bytes.first().is_some_and(|&first| !is_token_byte(first)) {
            return Err(NoHead::Silent);
        }
        match timeout_at(deadline, conn.fill(&mut bytes)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Err(NoHead::Closed),
            Err(_) => return Err(refuse(Rule::SlowHead, &bytes)),
        }
        if let Some(end) = search.go_on(&mut bytes, limits).map_err(|rule| refuse(rule, &bytes))? {
            return finish(bytes, end, turn, limits);
        }
    }
}

/// What the gate makes of bytes that are all there: the head and what of its body came along.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn gate(mut bytes: BytesMut, limits: &Limits) -> Option<BytesMut> {
    let end = Search::default().go_on(&mut bytes, limits).ok()??;
    finish(bytes, end, Turn::Later, limits).ok().map(|head| head.bytes)
}

fn refuse(rule: Rule, head: &[u8]) -> NoHead {
    NoHead::Refuse(rule, Asked::of_head(head))
}

/// The search for the end of a head; it goes on where it stopped, so dribbling stays linear.
#[derive(Default)]
struct Search {
    /// Bytes that have been searched.
    at: usize,
    /// Where the current line begins.
    line: usize,
    /// Whether an empty line before the request line was skipped.
    skipped: bool,
}

impl Search {
    /// The length of the head, once it is complete.
    fn go_on(&mut self, bytes: &mut BytesMut, limits: &Limits) -> Result<Option<usize>, Rule> {
        while let Some(found) = bytes.get(self.at..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let end = self.at + found;
            if end == 0 || bytes.get(end - 1) != Some(&b'\r') {
                return Err(Rule::BareLf);
            }
            if end == 1 && self.line == 0 {
                if self.skipped {
                    return Err(Rule::EmptyLines);
                }
                bytes.advance(2);
                *self = Self { skipped: true, ..Self::default() };
                continue;
            }
            self.at = end + 1;
            if self.line == 0 && end > limits.target_bytes_max + REQUEST_LINE_EXTRA {
                return Err(Rule::TargetLength);
            }
            if end - self.line == 1 {
                return if self.at > limits.head_bytes_max {
                    Err(Rule::HeadLength)
                } else {
                    Ok(Some(self.at))
                };
            }
            self.line = end + 1;
        }
        self.at = bytes.len();
        // Method, version and line end are allowed for beside the target.
        if self.line == 0 && self.at > limits.target_bytes_max + REQUEST_LINE_EXTRA {
            return Err(Rule::TargetLength);
        }
        if self.at > limits.head_bytes_max {
            return Err(Rule::HeadLength);
        }
        Ok(None)
    }
}

/// Judges the complete head of `end` bytes and cuts `bytes` into its three parts.
fn finish(mut bytes: BytesMut, end: usize, turn: Turn, limits: &Limits) -> Result<Head, NoHead> {
    if turn == Turn::First && bytes.starts_with(PREFACE_HEAD) {
        return Err(NoHead::Http2(bytes));
    }
    let head = bytes.get(..end).unwrap_or_default();
    if head.first().is_some_and(|&first| !is_token_byte(first)) {
        return Err(NoHead::Silent);
    }
    let Verdict { body, rewritten } = judge(head, limits).map_err(|rule| refuse(rule, head))?;
    let mut head_bytes = end;
    if let Some(rewritten) = rewritten {
        let rest = bytes.split_off(end);
        head_bytes = rewritten.len();
        bytes = rewritten;
        bytes.unsplit(rest);
    }
    let here = bytes.len() - head_bytes;
    Ok(match body {
        Left::Chunked(mut chunks) => {
            // What arrived with the head is judged with it: then nothing of a bad body is sent on.
            let piece = bytes.get_mut(head_bytes..).unwrap_or_default();
            let passed = chunks.pass(piece).map_err(|rule| refuse(rule, &bytes))?;
            let early = bytes.split_off(head_bytes + passed.taken);
            bytes.truncate(head_bytes + passed.kept);
            let left = if passed.is_end { Left::Bytes(0) } else { Left::Chunked(chunks) };
            Head { bytes, left, early }
        }
        Left::Open => Head { bytes, left: Left::Open, early: BytesMut::new() },
        Left::Bytes(0) if here == 0 => Head { bytes, left: Left::Bytes(0), early: BytesMut::new() },
        Left::Bytes(length) => {
            let with_head = usize::try_from(length).map_or(here, |length| length.min(here));
            let early = bytes.split_off(head_bytes + with_head);
            Head { bytes, left: Left::Bytes(length - with_head as u64), early }
        }
    })
}

/// The part of the HTTP/2 preface that has the form of a head (RFC 9113 section 3.4).
const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
const REQUEST_LINE_EXTRA: usize = 64;

#[cfg(test)]
mod tests;
