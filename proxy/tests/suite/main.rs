//! The data plane over real sockets, with real clients and small Backends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod backend_tls;
mod bad_backends;
mod changes;
mod draining;
mod health;
mod hostile;
mod http1;
mod http2;
mod protection;
mod scripted;
mod sticky;
mod tls;
mod upgrade;
