//! The context of a trace (W3C Trace Context, level 2): who called, and who is called.
//!
//! Off unless spans are exported; then what came is passed on untouched and nothing is parsed.

pub(crate) mod export;
pub(crate) mod otlp;
pub(crate) mod state;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::request::Fields;

/// One request's place in a trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Trace {
    id: u128,
    /// The span that called us; absent when the trace begins here.
    parent: Option<u64>,
    /// Our own, which is the parent of what the Backend does.
    span: u64,
    is_random: bool,
    /// Whether the span is exported.
    pub(crate) is_sampled: bool,
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Parent {
    id: u128,
    span: u64,
    is_sampled: bool,
    /// Whether the caller says that the right 56 bits of the id are random (level 2, 3.2.2.5).
    is_random: bool,
}

/// What part of all traces is exported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio(u64);

impl Ratio {
    /// A fraction of 0 to 1; what lies outside counts as the nearer end.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "it is between 0 and 2^56 after the clamp, and need not be exact"
    )]
    pub(crate) fn new(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * RANDOM_VALUES as f64) as u64)
    }

    /// Decides by the id alone, so that all who do agree about a trace.
    fn takes(self, id: u128) -> bool {
        // The low 56 bits.
        let random = u64::try_from(id & u128::from(RANDOM_VALUES - 1)).unwrap_or(0);
        random < self.0
    }
}

/// How many values 56 random bits have.
const RANDOM_VALUES: u64 = 1 << 56;

/// Whose word about sampling counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Caller {
    /// A proxy of ours: what it decided holds.
    Trusted,
    /// Anybody: its trace goes on, but how much is exported is our decision.
    Stranger,
}

impl Trace {
    /// Continues what the request came with, or begins a trace.
    pub(crate) fn of(headers: &HeaderMap, caller: Caller, ratio: Ratio) -> Self {
        let span = fastrand::u64(1..);
        match Parent::of(headers) {
            Some(Parent { id, span: parent, is_sampled, is_random }) => Self {
                id,
                parent: Some(parent),
                span,
                is_random,
                is_sampled: match caller {
                    Caller::Trusted => is_sampled,
                    Caller::Stranger => ratio.takes(id),
                },
            },
            None => {
                let id = fastrand::u128(1..);
                Self { id, parent: None, span, is_random: true, is_sampled: ratio.takes(id) }
            }
        }
    }

    pub(crate) fn trace_id(self) -> String {
        format!("{:032x}", self.id)
    }

    pub(crate) fn span_id(self) -> String {
        format!("{:016x}", self.span)
    }

    pub(crate) fn parent_id(self) -> Option<String> {
        self.parent.map(|parent| format!("{parent:016x}"))
    }

    /// `trace-flags`: bits that we do not know are zero (3.3.1).
    pub(crate) fn flags(self) -> u8 {
        (u8::from(self.is_sampled) * SAMPLED) | (u8::from(self.is_random) * RANDOM)
    }

    /// Says to the Backend that our span is its parent.
    pub(crate) fn forward(self, to: &mut impl Fields) {
        let Self { id, span, .. } = self;
        let text = format!("00-{id:032x}-{span:016x}-{:02x}", self.flags());
        if let Ok(value) = HeaderValue::try_from(text) {
            to.set(&TRACEPARENT, value);
        }
        // What belongs to no trace, or is not well formed, is not passed on (3.3, 3.4).
        if to.fields().contains_key(&TRACESTATE)
            && (self.parent.is_none() || !state::is_valid(to.fields().get_all(&TRACESTATE)))
        {
            to.remove(&TRACESTATE);
        }
    }
}

impl Parent {
    /// The parent, if there is exactly one and it is well formed (3.2).
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(&TRACEPARENT).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) => Self::parse(line.as_bytes()),
            (_, Some(_)) | (None, None) => None,
        }
    }

    /// Reads `00-TRACE-PARENT-FLAGS`; of a later version only what it begins with (3.2.4).
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(PARENT_BYTES)?;
        let mut parts = known.split(|&byte| byte == b'-');
        let mut next = |digits: usize| hex(parts.next()?, digits);
        let (version, id, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let is_whole = match version {
            0 => rest.is_empty(),
            // `ff` is forbidden.
            0xff => false,
            _ => rest.is_empty() || rest.first() == Some(&b'-'),
        };
        let flags = u8::try_from(flags).ok()?;
        let span = u64::try_from(span).ok()?;
        (is_whole && id != 0 && span != 0).then_some(Self {
            id,
            span,
            is_sampled: flags & SAMPLED != 0,
            is_random: flags & RANDOM != 0,
        })
    }
}

/// A number of exactly so many digits in lower case.
fn hex(text: &[u8], digits: usize) -> Option<u128> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if text.len() != digits || !text.iter().all(is_digit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// The length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[track_caller]
    fn check(text: &str, expected: Option<(bool, bool)>) {
        let parsed = Parent::parse(text.as_bytes());
        assert_eq!(parsed.map(|parent| (parent.is_sampled, parent.is_random)), expected, "{text}");
        if let Some(parent) = parsed {
            assert_eq!(format!("{:032x}", parent.id), ID);
            assert_eq!(format!("{:016x}", parent.span), SPAN);
        }
    }

    #[test]
    fn parents_are_read_strictly() {
        check(&format!("00-{ID}-{SPAN}-00"), Some((false, false)));
        check(&format!("00-{ID}-{SPAN}-01"), Some((true, false)));
        check(&format!("00-{ID}-{SPAN}-03"), Some((true, true)));
        check(&format!("00-{ID}-{SPAN}-fe"), Some((false, true)));
        // Later versions may say more, behind a dash.
        check(&format!("cc-{ID}-{SPAN}-01"), Some((true, false)));
        check(&format!("cc-{ID}-{SPAN}-01-what.ever"), Some((true, false)));
        check(&format!("cc-{ID}-{SPAN}-01.what"), None);
        check(&format!("00-{ID}-{SPAN}-01-what"), None);
        check(&format!("00-{ID}-{SPAN}-01-"), None);
        check(&format!("ff-{ID}-{SPAN}-01"), None);
        check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
        check(&format!("00-{ID}-{}-01", "0".repeat(16)), None);
        check(&format!("00-{}-{SPAN}-01", ID.to_uppercase()), None);
        check(&format!("00-{ID}-{SPAN}-1"), None);
        check(&format!("00-{ID}-{SPAN}-0g"), None);
        check(&format!(" 00-{ID}-{SPAN}-01"), None);
        check(&format!("00-{ID}-{SPAN}_01"), None);
        check(&format!("0-{ID}-{SPAN}-01-"), None);
        check(&format!("00-+{}-{SPAN}-01", &ID[1..]), None);
        check("", None);
    }

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    /// What the Backend is told.
    fn forwarded(
        pairs: &[(&HeaderName, &str)],
        caller: Caller,
        ratio: f64,
    ) -> (String, Option<String>) {
        let mut headers = headers(pairs);
        Trace::of(&headers, caller, Ratio::new(ratio)).forward(&mut headers);
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text(&TRACEPARENT).unwrap(), text(&TRACESTATE))
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_its_own() {
        let parent = format!("00-{ID}-{SPAN}-01");
        let pairs = [(&TRACEPARENT, parent.as_str()), (&TRACESTATE, "a=1,b=2")];
        let (line, state) = forwarded(&pairs, Caller::Trusted, 0.0);
        assert!(line.starts_with(&format!("00-{ID}-")) && line.ends_with("-01"), "{line}");
        assert!(!line.contains(SPAN), "{line}");
        assert_eq!(state.as_deref(), Some("a=1,b=2"));
        let (line, _) = forwarded(&pairs, Caller::Stranger, 0.0);
        assert!(line.ends_with("-00"), "a stranger cannot make us export: {line}");
        let (line, _) = forwarded(&pairs, Caller::Stranger, 1.0);
        assert!(line.ends_with("-01"), "{line}");
    }

    #[test]
    fn what_is_not_well_formed_begins_anew() {
        let parent = format!("00-{ID}-{SPAN}-01");
        for pairs in [
            &[(&TRACEPARENT, "00-x"), (&TRACESTATE, "a=1")][..],
            &[(&TRACESTATE, "a=1")],
            &[(&TRACEPARENT, &parent), (&TRACEPARENT, &parent), (&TRACESTATE, "a=1")],
        ] {
            let (line, state) = forwarded(pairs, Caller::Trusted, 1.0);
            assert!(Parent::parse(line.as_bytes()).is_some() && !line.contains(ID), "{line}");
            assert!(line.ends_with("-03"), "sampled and random: {line}");
            assert_eq!(state, None, "a state without its parent means nothing");
        }
    }

    #[test]
    fn the_ratio_is_kept() {
        let count = |ratio: f64| {
            let empty = HeaderMap::new();
            let of = |_: &u32| Trace::of(&empty, Caller::Stranger, Ratio::new(ratio)).is_sampled;
            (0..4000).filter(of).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 4000));
        // Outside of this once in far more runs than will ever be.
        assert!((600..1400).contains(&count(0.25)), "{}", count(0.25));
    }
}
