//! The data plane over real sockets, with real clients and small Backends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod changes;
mod draining;
mod hostile;
mod http1;
mod http2;
mod observe;
mod tls;
mod upgrade;
