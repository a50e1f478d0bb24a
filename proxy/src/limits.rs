//! Limits and deadlines of what clients may do. Each has a documented answer when it is reached.

use std::time::Duration;

/// Every bound on a connection and on a request, with its default.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of the replica; what comes above is closed at once.
    /// Default: 80 % of the limit of open files.
    pub connections_max: usize,
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
    /// Requests on one HTTP/1 connection; then it is closed behind the answer. Default: 10,000.
    pub requests_max: u32,
    /// The longest silence within a request body; then 408. Default: 30 s.
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: open_files_max() / 10 * 8,
            handshakes_max: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            head: Duration::from_secs(10),
            head_bytes_max: 64 * 1024,
            target_bytes_max: 16 * 1024,
            field_bytes_max: 32 * 1024,
            fields_max: 100,
            requests_max: 10_000,
            body_read: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            h2_streams_max: 100,
            h2_stream_window: 64 * 1024,
            h2_connection_window: 1024 * 1024,
            h2_header_list_bytes_max: 64 * 1024,
            pool_max: 1024,
            pool_idle: Duration::from_secs(60),
            backend_handshake: Duration::from_secs(10),
        }
    }
}

/// The soft limit of open files of this process; a cautious guess where it cannot be read.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|rest| rest.split_whitespace().next()) {
        Some("unlimited") => 1 << 20,
        Some(number) => number.parse().unwrap_or(OPEN_FILES_GUESS),
        None => OPEN_FILES_GUESS,
    }
}

const OPEN_FILES_GUESS: usize = 1024;
