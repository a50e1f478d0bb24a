//! One case of a corpus, and what has to become of it.

use crate::reference::Arrived;

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) class: &'static str,
    pub(crate) name: String,
    /// Sent one after the other; the second waits until the first has reached the Backend.
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) verdict: Verdict,
}

/// What has to happen on the connection.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// In this order.
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// This request arrives, no other, and is answered.
    Arrives(Arrived),
    /// The proxy answers with this status itself.
    Own(u16),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The connection stays open.
    Open,
    /// The end, in order.
    Closed,
    /// One more answer with this status, then the end. Nothing of that request arrives.
    Refused(u16),
    /// The end without an answer. Nothing of that request arrives.
    Silent,
    /// As refused, but the begin of the request may arrive, never the whole.
    Cut(u16),
}

impl Verdict {
    /// The column in the table: served, refused, cut.
    pub(crate) fn column(&self) -> usize {
        match self.end {
            End::Open | End::Closed => 0,
            End::Refused(_) | End::Silent => 1,
            End::Cut(_) => 2,
        }
    }
}

pub(crate) fn refused(status: u16) -> Verdict {
    Verdict { steps: Vec::new(), end: End::Refused(status) }
}

pub(crate) fn silent() -> Verdict {
    Verdict { steps: Vec::new(), end: End::Silent }
}

pub(crate) fn cut(status: u16) -> Verdict {
    Verdict { steps: Vec::new(), end: End::Cut(status) }
}

pub(crate) fn own(status: u16) -> Verdict {
    Verdict { steps: vec![Step::Own(status)], end: End::Open }
}

pub(crate) fn serves(arrived: Arrived) -> Verdict {
    serves_then(vec![arrived], End::Open)
}

pub(crate) fn serves_then(arrived: Vec<Arrived>, end: End) -> Verdict {
    Verdict { steps: arrived.into_iter().map(Step::Arrives).collect(), end }
}

/// A request for the host `a` as it has to arrive.
pub(crate) fn arrived(line: &str, fields: &[(&str, &str)], body: &str) -> Arrived {
    let mut fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    fields.sort();
    Arrived { line: line.to_owned(), host: "a".to_owned(), fields, body: body.into() }
}

/// The whole request `POST /` with `body`.
pub(crate) fn posted(body: &str) -> Verdict {
    serves(arrived("POST /", &[], body))
}

/// The whole request `GET /`.
pub(crate) fn got() -> Verdict {
    serves(arrived("GET /", &[], ""))
}

pub(crate) struct Class<'a>(pub(crate) &'static str, pub(crate) &'a mut Vec<Case>);

impl Class<'_> {
    /// One case whose bytes are sent at once.
    pub(crate) fn add(&mut self, bytes: impl AsRef<[u8]>, verdict: Verdict) {
        self.add_pieces(&[bytes.as_ref()], verdict);
    }

    /// One case whose bytes are sent in pieces.
    pub(crate) fn add_pieces(&mut self, pieces: &[&[u8]], verdict: Verdict) {
        let shown: String = pieces.concat().escape_ascii().to_string();
        let name = if shown.len() > 200 {
            format!("{}... ({} bytes)", &shown[..200], shown.len())
        } else {
            shown
        };
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        self.1.push(Case { class: self.0, name, pieces, verdict });
    }
}

/// `GET /` with `lines` behind Host, each with its line end.
pub(crate) fn get_with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", lines.as_ref(), b"\r\n"].concat()
}

/// `POST /` with `lines` behind Host, each with its line end, and `body`.
pub(crate) fn post_with(lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", lines.as_ref(), b"\r\n", body.as_ref()].concat()
}

/// `text` with `{}` replaced by one byte.
pub(crate) fn with_byte(text: &str, byte: u8) -> Vec<u8> {
    let (before, behind) = text.split_once("{}").unwrap();
    [before.as_bytes(), &[byte], behind.as_bytes()].concat()
}
