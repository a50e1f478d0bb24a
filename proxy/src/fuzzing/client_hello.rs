//! ClientHellos.

use crate::listener::client_hello::{CLIENT_HELLO_BYTES_MAX, Hello, NoHello, Peek};

/// The look at a ClientHello. The name does not depend on how the bytes come, and it is the one
/// that stands in the extension, as another reader finds it there.
pub fn client_hello(bytes: &[u8]) {
    let Some((&step, text)) = bytes.split_first() else { return };
    let text = text.get(..CLIENT_HELLO_BYTES_MAX).unwrap_or(text);
    let found = look(text, usize::from(step).max(1));
    let at_once = look(text, text.len().max(1));
    if let (Ok(Hello::Whole(_)), _) | (_, Ok(Hello::Whole(_))) = (&found, &at_once) {
        assert_eq!(found, at_once, "pieces make no difference");
    }
    let Ok(Hello::Whole(name)) = found else { return };
    let message = message(text).expect("who passes sent a whole message");
    let asked = asked(&message).expect("whose lengths fit");
    let plain = asked.map(|name| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        name.trim_end_matches('.').to_owned()
    });
    match (&name, &plain) {
        (Some(name), plain) => {
            assert_eq!(Some(&**name), plain.as_deref(), "the name that was sent");
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            assert!(name.bytes().all(is_host) && name.len() <= 253, "{name:?}");
        }
        // An address is no name (RFC 6066 section 3), and asks for nothing.
        (None, Some(plain)) => {
            assert!(plain.parse::<std::net::IpAddr>().is_ok(), "{plain:?} was not seen");
        }
        (None, None) => {}
    }
}

fn look(text: &[u8], step: usize) -> Result<Hello, NoHello> {
    let mut peek = Peek::default();
    let mut end = 0;
    while end < text.len() {
        end = text.len().min(end + step);
        match peek.look(text.get(..end).unwrap_or_default()) {
            Ok(Hello::Partial) => {}
            told => return told,
        }
    }
    Ok(Hello::Partial)
}

/// The body of the first handshake message, put together from its records; None when it is not whole.
fn message(text: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut joined) = (Bytes(text), Vec::new());
    loop {
        if let Some([1, a, b, c]) = joined.first_chunk() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if let Some(message) = joined.get(4..4 + length) {
                return Some(message.to_vec());
            }
        }
        (rest.number(1)? == 22).then_some(())?;
        rest.number(2)?;
        joined.extend_from_slice(rest.counted(2)?);
    }
}

/// The host name that a ClientHello asks for, read from its bytes (RFC 8446 section 4.1.2, RFC 6066
/// section 3). The outer None: its lengths do not fit.
fn asked(message: &[u8]) -> Option<Option<&[u8]>> {
    let mut rest = Bytes(message);
    rest.take(2 + 32)?;
    rest.counted(1)?;
    rest.counted(2)?;
    rest.counted(1)?;
    if rest.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Bytes(rest.counted(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut extension = Bytes(extensions.counted(2)?);
        if kind == 0 {
            let mut names = Bytes(extension.counted(2)?);
            let is_host = names.number(1)? == 0;
            return Some(if is_host { Some(names.counted(2)?) } else { None });
        }
    }
    Some(None)
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// Bytes behind their count, which is `width` bytes wide.
    fn counted(&mut self, width: usize) -> Option<&'a [u8]> {
        let count = self.number(width)?;
        self.take(count)
    }
}
