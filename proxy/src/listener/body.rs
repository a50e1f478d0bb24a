//! The body of an HTTP/1 request while it arrives: its framing (RFC 9112 section 7.1) and its pace.
//!
//! A chunked body is judged before the engine sees it, and what the engine sees
//! is canonical: sizes and data. Extensions and trailers are judged and dropped.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::refusal::Rule;

/// Where the framing of a chunked body stands. Takes any pieces, keeps none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Chunks {
    state: State,
    /// The size of the current chunk, then what of it is still to come.
    size: u64,
    /// Digits of the current size.
    digits: u8,
    /// Bytes of extensions so far, of all chunks.
    extension_bytes: usize,
    /// Bytes of trailers so far.
    trailer_bytes: usize,
    /// Trailer fields so far.
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size,
    /// White space behind a size, which only an extension may follow.
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The begin of a trailer line, or the end of all.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// What became of a piece of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Passed {
    /// How many bytes the engine gets: they stand at the begin of the piece.
    pub(crate) kept: usize,
    /// How many bytes belong to this body.
    pub(crate) taken: usize,
    /// Whether the body has ended.
    pub(crate) is_end: bool,
}

impl Chunks {
    /// Nothing has arrived.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size,
            size: 0,
            digits: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailers: 0,
        }
    }

    /// Judges `piece`, and moves what the engine gets to its begin.
    pub(crate) fn pass(&mut self, piece: &mut [u8]) -> Result<Passed, Rule> {
        let (mut kept, mut at) = (0, 0);
        while let Some(&byte) = piece.get(at) {
            if self.state == State::End {
                break;
            }
            if self.state == State::Data {
                let here = usize::try_from(self.size).unwrap_or(usize::MAX).min(piece.len() - at);
                piece.copy_within(at..at + here, kept);
                (kept, at) = (kept + here, at + here);
                self.size -= here as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            at += 1;
            for &out in self.step(byte)? {
                if let Some(place) = piece.get_mut(kept) {
                    *place = out;
                    kept += 1;
                }
            }
        }
        Ok(Passed { kept, taken: at, is_end: self.state == State::End })
    }

    /// Takes one byte that is not data, and gives what stands for it: one byte or none.
    fn step(&mut self, byte: u8) -> Result<&'static [u8], Rule> {
        let (next, out): (State, &[u8]) = match self.state {
            State::Size => return self.size_byte(byte),
            State::SizeSpace => match byte {
                b' ' | b'\t' => (self.extension()?, b""),
                b';' => (State::Extension, b""),
                _ => return Err(Rule::ChunkSize),
            },
            State::Extension => match byte {
                b'\r' => (State::SizeLf, b"\r"),
                b'\t' | b' '..=b'~' | 0x80.. => (self.extension()?, b""),
                _ => return Err(Rule::ChunkExtension),
            },
            State::SizeLf => match byte {
                b'\n' if self.size == 0 => (State::Trailer, b"\n"),
                b'\n' => (State::Data, b"\n"),
                _ => return Err(Rule::ChunkSize),
            },
            State::DataCr => (after(byte, b'\r', State::DataLf, Rule::ChunkEnd)?, b"\r"),
            State::DataLf => {
                (self.digits, self.size) = (0, 0);
                (after(byte, b'\n', State::Size, Rule::ChunkEnd)?, b"\n")
            }
            State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                let next = self.trailer_byte(byte)?;
                (next, if next == State::EndLf { b"\r" } else { b"" })
            }
            State::EndLf => (after(byte, b'\n', State::End, Rule::Trailer)?, b"\n"),
            // Bytes of these states are not taken one by one.
            State::Data | State::End => (self.state, b""),
        };
        self.state = next;
        Ok(out)
    }

    fn size_byte(&mut self, byte: u8) -> Result<&'static [u8], Rule> {
        if let Some(value) = char::from(byte).to_digit(16) {
            self.digits += 1;
            self.size = (self.size << 4) | u64::from(value);
            if self.digits > DIGITS_MAX || i64::try_from(self.size).is_err() {
                return Err(Rule::ChunkSize);
            }
            return Ok(DIGITS.get(usize::from(value as u8)).map_or(&[][..], |digit| *digit));
        }
        if self.digits == 0 {
            return Err(Rule::ChunkSize);
        }
        let (next, out): (State, &[u8]) = match byte {
            b'\r' => (State::SizeLf, b"\r"),
            b';' => (State::Extension, b""),
            b' ' | b'\t' => (State::SizeSpace, b""),
            _ => return Err(Rule::ChunkSize),
        };
        self.state = next;
        Ok(out)
    }

    fn extension(&mut self) -> Result<State, Rule> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Rule::ChunkExtension);
        }
        Ok(if self.state == State::SizeSpace { State::SizeSpace } else { State::Extension })
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, Rule> {
        if (self.state, byte) == (State::Trailer, b'\r') {
            return Ok(State::EndLf);
        }
        self.trailer_bytes += 1;
        self.trailers += usize::from(self.state == State::Trailer);
        if self.trailer_bytes > TRAILER_BYTES_MAX || self.trailers > TRAILERS_MAX {
            return Err(Rule::Trailer);
        }
        match (self.state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::Trailer | State::TrailerName, _) if super::head::is_token_byte(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::Trailer),
            _ => Err(Rule::Trailer),
        }
    }
}

fn after(byte: u8, wanted: u8, next: State, rule: Rule) -> Result<State, Rule> {
    if byte == wanted { Ok(next) } else { Err(rule) }
}

/// Watches that a body arrives at no less than [`RATE_BYTES`] in each period of waiting for it.
///
/// Nothing runs while bytes are there, so a fast body costs no timer.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes since the timer was set.
    bytes: usize,
}

impl Pace {
    /// Bytes arrived.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// None is there: true when too few came within `period`.
    pub(crate) fn is_too_slow(&mut self, period: Duration, cx: &mut Context<'_>) -> bool {
        loop {
            let timer =
                self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + period)));
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if std::mem::take(&mut self.bytes) < RATE_BYTES {
                return true;
            }
            self.timer = None;
        }
    }
}

/// The rule that the body of a request broke, told by the connection to whoever answers.
#[derive(Debug, Default)]
pub(crate) struct BodyFault(AtomicU8);

impl BodyFault {
    /// Notes the rule. The connection ends with it, so it is never taken back.
    pub(crate) fn set(&self, rule: Rule) {
        self.0.store(rule as u8 + 1, Ordering::Relaxed);
    }

    /// The rule that was broken.
    pub(crate) fn rule(&self) -> Option<Rule> {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        number.checked_sub(1).and_then(|at| Rule::ALL.get(at)).copied()
    }
}

/// A size that fits 2^63-1 has no more, but for leading zeros.
const DIGITS_MAX: u8 = 16;
/// Of all extensions of a request.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
const TRAILER_BYTES_MAX: usize = 8 * 1024;
const TRAILERS_MAX: usize = 32;
/// The least that has to arrive in each period.
pub(crate) const RATE_BYTES: usize = 1024;
const DIGITS: [&[u8]; 16] = [
    b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"a", b"b", b"c", b"d", b"e", b"f",
];

#[cfg(test)]
mod tests;
