//! The server name that a client asks for, looked at before its handshake.

use rustls::server::Acceptor;

/// What the first bytes of a TLS connection are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Hello {
    /// The begin of a ClientHello.
    Partial,
    /// A whole one, with the name it asks for as hosts are compared.
    Whole(Option<Box<str>>),
}

/// The bytes are no ClientHello, or one that no server would take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NoHello;

/// Looks at a ClientHello that comes in pieces. Nothing is taken away: the handshake reads it again.
#[derive(Default)]
pub(crate) struct Peek {
    acceptor: Acceptor,
    fed: usize,
}

impl Peek {
    /// Looks at `early`, which is all that came so far. It is not to be asked again once it has
    /// answered [`Hello::Whole`] or an error.
    ///
    /// # Errors
    /// See [`NoHello`].
    pub(crate) fn look(&mut self, early: &[u8]) -> Result<Hello, NoHello> {
        while let Some(mut rest) = early.get(self.fed..).filter(|rest| !rest.is_empty()) {
            let count = self.acceptor.read_tls(&mut rest).map_err(|_| NoHello)?;
            if count == 0 {
                break;
            }
            self.fed += count;
        }
        match self.acceptor.accept() {
            Ok(Some(accepted)) => {
                Ok(Hello::Whole(accepted.client_hello().server_name().map(plain)))
            }
            Ok(None) => Ok(Hello::Partial),
            Err(_) => Err(NoHello),
        }
    }
}

/// A server name as hosts are compared.
pub(crate) fn plain(name: &str) -> Box<str> {
    name.trim_end_matches('.').to_ascii_lowercase().into()
}

/// A ClientHello, with the heads of the records that it comes in.
pub(crate) const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;
