//! What a client of HTTP/2 has done on one connection, and what it may do.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Header, PRIORITY, RST_STREAM,
    WINDOW_UPDATE,
};
use crate::listener::refusal::Rule;

/// A frame from the client, as far as it costs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Inbound {
    /// A stream is opened, or its trailers come; with content.
    Stream,
    /// Content.
    Content,
    /// DATA, HEADERS or CONTINUATION without content that ends nothing.
    Empty,
    Priority,
    Reset,
    Window,
    /// SETTINGS, PING, GOAWAY, and types that we do not know.
    Control,
}

impl Inbound {
    pub(super) fn of(header: &Header) -> Self {
        let is_empty = header.length <= header.padding;
        match header.kind {
            DATA | HEADERS if is_empty && header.flags & END_STREAM == 0 => Self::Empty,
            CONTINUATION if is_empty && header.flags & END_HEADERS == 0 => Self::Empty,
            HEADERS => Self::Stream,
            DATA | CONTINUATION => Self::Content,
            PRIORITY => Self::Priority,
            RST_STREAM => Self::Reset,
            WINDOW_UPDATE => Self::Window,
            _ => Self::Control,
        }
    }
}

/// A frame to the client, as far as it matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outbound {
    Data,
    /// A reset that the client has caused.
    Caused,
    Other,
}

impl Outbound {
    pub(super) fn of(header: &Header) -> Self {
        match (header.kind, header.code) {
            (DATA, _) => Self::Data,
            // What a Backend or a deadline has caused is NO_ERROR, INTERNAL_ERROR or CANCEL.
            (RST_STREAM, 0 | 2 | 8) => Self::Other,
            (RST_STREAM, _) => Self::Caused,
            _ => Self::Other,
        }
    }
}

/// What has been done so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    streams: u32,
    data_sent: u64,
    windows: u64,
    priorities: u64,
    empty_in_a_row: u32,
    control: Window,
    resets: Window,
    resets_total: u32,
    /// Resets of ours that are not yet in the two above.
    resets_caused: u32,
}

impl Account {
    /// Streams that were opened. Trailers count as one more: they are as dear.
    pub(super) fn streams(&self) -> u32 {
        self.streams
    }

    /// Counts a frame of the client.
    pub(super) fn take(
        &mut self,
        frame: Inbound,
        now: &mut impl FnMut() -> Instant,
    ) -> Result<(), Rule> {
        for _ in 0..std::mem::take(&mut self.resets_caused) {
            self.reset(now)?;
        }
        match frame {
            Inbound::Stream => {
                self.streams = self.streams.saturating_add(1);
                self.empty_in_a_row = 0;
            }
            Inbound::Content => self.empty_in_a_row = 0,
            Inbound::Empty => {
                self.empty_in_a_row += 1;
                within(self.empty_in_a_row.into(), EMPTY_IN_A_ROW_MAX, Rule::EmptyFrames)?;
            }
            Inbound::Priority => {
                self.priorities += 1;
                let may = PRIORITIES_PER_STREAM * u64::from(self.streams.max(1));
                within(self.priorities, may, Rule::PriorityFlood)?;
            }
            Inbound::Reset => self.reset(now)?,
            Inbound::Window => {
                self.windows += 1;
                // Some clients grant a window with each stream, also for answers without a body.
                let may = WINDOWS_PER_DATA * (self.data_sent + u64::from(self.streams));
                within(self.windows, may + WINDOWS_BESIDE, Rule::WindowFlood)?;
            }
            Inbound::Control => {
                within(self.control.count(now()).into(), CONTROL_MAX, Rule::ControlFlood)?;
            }
        }
        Ok(())
    }

    /// Counts a frame of ours.
    pub(super) fn gave(&mut self, frame: &Outbound) {
        match frame {
            Outbound::Data => self.data_sent += 1,
            Outbound::Caused => self.resets_caused = self.resets_caused.saturating_add(1),
            Outbound::Other => {}
        }
    }

    fn reset(&mut self, now: &mut impl FnMut() -> Instant) -> Result<(), Rule> {
        self.resets_total = self.resets_total.saturating_add(1);
        within(self.resets.count(now()).into(), RESETS_MAX, Rule::ResetFlood)?;
        let total = u64::from(self.resets_total);
        // The first ones are for free: a person who leaves a page early.
        let may = RESETS_MAX.max(u64::from(self.streams) / 2);
        within(total, may, Rule::ResetFlood)
    }
}

fn within(count: u64, may: u64, rule: Rule) -> Result<(), Rule> {
    if count > may { Err(rule) } else { Ok(()) }
}

/// Counts events in periods of ten seconds, one after the other.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    count: u32,
}

impl Window {
    fn count(&mut self, now: Instant) -> u32 {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

const PERIOD: Duration = Duration::from_secs(10);
const CONTROL_MAX: u64 = 1_000;
const RESETS_MAX: u64 = 100;
const WINDOWS_PER_DATA: u64 = 10;
const WINDOWS_BESIDE: u64 = 100;
const PRIORITIES_PER_STREAM: u64 = 100;
const EMPTY_IN_A_ROW_MAX: u64 = 1;
