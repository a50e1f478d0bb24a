//! Limits and deadlines of what clients may do. Each has a documented answer when it is reached.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Every bound on a connection and on a request, with its default.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of the replica; what comes above is closed at once.
    /// Default: 80 % of the limit of open files.
    pub connections_max: usize,
    /// Open connections of one client address; what comes above is closed at once. Trusted proxies
    /// and balancers have no such limit. Default: 1,024; None: no limit.
    pub connections_per_address_max: Option<u32>,
    /// Descriptors in use, of whatever kind, from which on connections are closed at once.
    /// Default: the limit of open files without 64, which are kept for everything else.
    pub descriptors_max: usize,
    /// A header of the PROXY protocol, all of it; then the connection is closed. Default: 5 s.
    pub proxy_header: Duration,
    /// A ClientHello, where it must be known first; then the connection is closed. Default: 10 s.
    pub client_hello: Duration,
    /// TLS handshakes at a time for each worker; what comes above is closed at once. Default: 256.
    pub handshakes_max: usize,
    /// A TLS handshake, all of it; then the connection is closed. Default: 10 s.
    pub handshake: Duration,
    /// The wait for a request, the first one included; then the connection is closed. Default: 75 s.
    pub idle: Duration,
    /// A request head from its first to its last byte; then 408. Default: 10 s.
    pub head: Duration,
    /// Size of a request head in bytes; then 431. Default: 64 KiB.
    pub head_bytes_max: usize,
    /// Size of a request target in bytes; then 414. Default: 16 KiB.
    pub target_bytes_max: usize,
    /// Size of one header field in bytes; then 431. Default: 32 KiB.
    pub field_bytes_max: usize,
    /// Header fields of a request; then 431. Default: 100.
    pub fields_max: usize,
    /// Requests on one connection; then it is closed behind the answer, by GOAWAY on HTTP/2. Default: 10,000.
    pub requests_max: u32,
    /// How long a connection may serve, a tenth more or less; then it is closed behind the answer,
    /// by GOAWAY on HTTP/2. Default: 1 h.
    pub age: Duration,
    /// The longest silence within a request body, and the time in which 1 KiB of it has to arrive;
    /// then 408. On HTTP/2 only until the answer begins, and not of gRPC. Default: 30 s.
    pub body_read: Duration,
    /// The longest time without progress while writing to a client; then it is cut. Default: 30 s.
    pub write_stall: Duration,
    /// Streams of one HTTP/2 connection; then REFUSED_STREAM. Default: 100.
    pub h2_streams_max: u32,
    /// Receive window of one HTTP/2 stream in bytes. Default: 64 KiB.
    pub h2_stream_window: u32,
    /// Receive window of one HTTP/2 connection in bytes. Default: 1 MiB.
    pub h2_connection_window: u32,
    /// Decoded header list of one HTTP/2 request in bytes. Default: 64 KiB.
    pub h2_header_list_bytes_max: u32,
    /// Idle connections to Backends kept by each worker; then the oldest is closed. Default: 1,024.
    pub pool_max: usize,
    /// How long an idle connection to a Backend is kept. Default: 60 s.
    pub pool_idle: Duration,
    /// A TLS handshake with a Backend; then another Endpoint is tried. Default: 10 s.
    pub backend_handshake: Duration,
    /// How long nothing comes on a connection to a Backend over HTTP/2 that carries requests; then it is
    /// sent a ping. Servers of gRPC allow one in five minutes. Default: 330 s.
    pub backend_ping_after: Duration,
    /// The answer to such a ping; then the connection is closed, and with it what it carries.
    /// Default: 20 s.
    pub backend_ping_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let open_files = raise_open_files();
        Self {
            connections_max: open_files / 100 * 80,
            connections_per_address_max: Some(1024),
            descriptors_max: open_files.saturating_sub(DESCRIPTORS_RESERVED),
            proxy_header: Duration::from_secs(5),
            client_hello: Duration::from_secs(10),
            handshakes_max: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            head: Duration::from_secs(10),
            head_bytes_max: 64 * 1024,
            target_bytes_max: 16 * 1024,
            field_bytes_max: 32 * 1024,
            fields_max: 100,
            requests_max: 10_000,
            age: Duration::from_secs(3600),
            body_read: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            h2_streams_max: 100,
            h2_stream_window: 64 * 1024,
            h2_connection_window: 1024 * 1024,
            h2_header_list_bytes_max: 64 * 1024,
            pool_max: 1024,
            pool_idle: Duration::from_secs(60),
            backend_handshake: Duration::from_secs(10),
            backend_ping_after: Duration::from_secs(330),
            backend_ping_within: Duration::from_secs(20),
        }
    }
}

/// Raises the limit of open files of this process to what it may be, and gives it.
fn raise_open_files() -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(OPEN_FILES_MAX);
    usize::try_from(open_files.min(OPEN_FILES_MAX)).unwrap_or(usize::MAX)
}

/// For the admin listener, the link to the controller, files and names.
const DESCRIPTORS_RESERVED: usize = 64;
/// As many as are ever counted on, also without a limit.
const OPEN_FILES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_room_below_the_hard_limit() {
        let limits = Limits::default();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        let max = now.current.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX);
        let clients = limits.connections_max as u64;
        assert!(clients > max / 2 && clients <= max / 10 * 8, "{clients} of {max}");
        assert_eq!(limits.descriptors_max as u64, max - 64);
    }
}
