//! The data plane over real sockets, with real clients and small Backends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod changes;
mod conformance;
mod corpus;
mod downgrade;
mod draining;
mod floods;
mod hostile;
mod http1;
mod http2;
mod recorder;
mod reference;
mod slow;
mod tls;
mod upgrade;
mod upstreams;
