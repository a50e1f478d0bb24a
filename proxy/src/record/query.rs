//! What of the recent requests is asked for.

use std::time::SystemTime;

use http::StatusCode;

use super::Record;

/// Which recent requests are wanted: all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct RecordQuery {
    /// Not over before this moment.
    pub since: Option<SystemTime>,
    /// Begun at this moment or before it.
    pub until: Option<SystemTime>,
    /// The host in lower case, without port.
    pub host: Option<String>,
    /// The status, or its class.
    pub status: Option<StatusQuery>,
    /// The tenant: the namespace of the Route's Object.
    pub namespace: Option<String>,
    /// The Route, as its id is written.
    pub route: Option<String>,
    /// The most records to give, the newest first.
    pub limit: usize,
}

/// Which statuses are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusQuery {
    /// Exactly this one.
    Code(u16),
    /// The hundred that begins with this digit.
    Class(u8),
    /// None: the client was gone before an answer.
    Unanswered,
}

impl StatusQuery {
    fn accepts(self, status: Option<StatusCode>) -> bool {
        let code = status.map(|status| status.as_u16());
        match self {
            Self::Code(wanted) => code == Some(wanted),
            Self::Class(class) => code.is_some_and(|code| code / 100 == u16::from(class)),
            Self::Unanswered => code.is_none(),
        }
    }

    /// The bit of the class in the summary of a segment.
    fn class_bit(self) -> u8 {
        match self {
            Self::Code(code) => bit_of(Some(code)),
            Self::Class(class) => bit_of(Some(u16::from(class) * 100)),
            Self::Unanswered => bit_of(None),
        }
    }
}

/// Bit 0 stands for no status at all.
fn bit_of(code: Option<u16>) -> u8 {
    1 << code.map_or(0, |code| (code / 100).min(7))
}

/// What a run of records has in common, so that most of them need not be looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    /// The first begin and the last end.
    pub(crate) span: (SystemTime, SystemTime),
    classes: u8,
    /// One of 64 bits for each namespace.
    namespaces: u64,
}

impl Summary {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            span: (record.began, record.ended()),
            classes: bit_of(record.status.map(|status| status.as_u16())),
            namespaces: record.route_use.as_ref().map_or(0, |route| route.namespace_bit),
        }
    }

    pub(crate) fn join(&mut self, other: Self) {
        let Self { span: (first, last), classes, namespaces } = other;
        self.span = (self.span.0.min(first), self.span.1.max(last));
        self.classes |= classes;
        self.namespaces |= namespaces;
    }
}

/// One of 64 bits, the same for everybody.
pub(crate) fn namespace_bit(namespace: &str) -> u64 {
    // FNV-1a: the same for everybody, and short names are spread.
    let hash = namespace.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    1 << (hash >> 58)
}

impl RecordQuery {
    /// False when no record of the run can fit.
    pub(crate) fn may_fit(&self, run: &Summary) -> bool {
        self.since.is_none_or(|since| run.span.1 >= since)
            && self.until.is_none_or(|until| run.span.0 <= until)
            && self.status.is_none_or(|status| run.classes & status.class_bit() != 0)
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| run.namespaces & namespace_bit(namespace) != 0)
    }

    /// Whether `record` is wanted.
    pub(crate) fn fits(&self, record: &Record) -> bool {
        let Self { since, until, host, status, namespace, route, limit: _ } = self;
        since.is_none_or(|since| record.ended() >= since)
            && until.is_none_or(|until| record.began <= until)
            && status.is_none_or(|status| status.accepts(record.status))
            && namespace.as_deref().is_none_or(|wanted| {
                record.namespace().is_some_and(|namespace| **namespace == *wanted)
            })
            && host.as_deref().is_none_or(|wanted| {
                record.host.as_ref().is_some_and(|host| host.as_str() == wanted)
            })
            && route
                .as_deref()
                .is_none_or(|wanted| record.route().is_some_and(|route| is_written(route, wanted)))
    }
}

fn is_written(route: &kubeng_config::name::RouteId, wanted: &str) -> bool {
    // The rule first: it needs no text.
    wanted.ends_with(&*route.rule) && route.to_string() == wanted
}
