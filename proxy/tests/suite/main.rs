//! The data plane over real sockets, with real clients and small Backends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod backend_calls;
mod backend_h2;
mod backend_identity;
mod backend_limits;
mod backend_streams;
mod backend_tls;
mod bad_backends;
mod buffering;
mod changes;
mod collector_tls;
mod conformance;
mod corpus;
mod downgrade;
mod draining;
mod engines;
mod filters;
mod filters_auth;
mod filters_bodies;
mod filters_h2;
mod filters_jwks;
mod floods;
mod forwarded;
mod handshakes;
mod health;
mod hostile;
mod http1;
mod http2;
mod limits;
mod listening;
mod observe;
mod passing;
mod ports;
mod protection;
mod proxy_protocol;
mod real_clients;
mod recorder;
mod reference;
mod review;
mod scripted;
mod slow;
mod sticky;
mod streaming;
mod streams;
mod tls;
mod tls_client;
mod upgrade;
mod upgrade_refused;
mod uploads;
mod upstreams;
