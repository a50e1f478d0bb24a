//! The facts about a connection, which its requests read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use http::HeaderValue;
use ipnet::IpNet;
use kubeng_config::canonical::Digest;
use kubeng_config::request::Scheme;
use rustls::{CipherSuite, ProtocolVersion, ServerConnection};

use super::alarm::Alarm;
use super::body::BodyFault;
use crate::tls::client::ClientCertificate;

/// What is known about a connection from the moment it was taken.
#[derive(Debug)]
pub(crate) struct ConnFacts {
    /// The socket it came through, by the address that its Listeners were given.
    pub(crate) socket: SocketAddr,
    /// Who connected.
    pub(crate) client: SocketAddr,
    /// The address of `client` as text, for headers.
    pub(crate) client_text: HeaderValue,
    /// The proxies whose word about other clients counts; present when `client` is one of them.
    pub(crate) trusted_proxies: Option<Arc<[IpNet]>>,
    /// What was connected to, as a balancer in front saw it where one tells.
    pub(crate) local: SocketAddr,
    /// The port that was connected to.
    pub(crate) local_port: u16,
    /// `local_port` as text, for headers.
    pub(crate) port_text: HeaderValue,
    /// What the TLS handshake told; absent on a plain connection.
    pub(crate) tls: Option<TlsFacts>,
    /// Set by the engine when the connection has become a tunnel.
    pub(crate) is_tunnel: AtomicBool,
    /// Set by the engine while a Backend decides whether it becomes a tunnel: how long that may take,
    /// in milliseconds; 0 at all other times.
    pub(crate) switch_millis: AtomicU64,
    /// Set by the engine when the request in progress has a deadline; HTTP/1 only.
    pub(crate) alarm: Alarm,
    /// Set by the engine when the connection has to end behind the current answer.
    pub(crate) is_last: AtomicBool,
    /// The rule that the body of the current request broke.
    pub(crate) body_fault: BodyFault,
    /// Set by the engine when an answer was cut off whose framing does not tell.
    pub(crate) is_cut: AtomicBool,
}

impl ConnFacts {
    /// How whoever connected asks: a proxy that stands in front may have been asked otherwise.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

#[cfg(test)]
impl ConnFacts {
    /// A plain connection from 192.0.2.7 to this port of the socket 127.0.0.1:80.
    pub(crate) fn for_tests(local_port: u16) -> Self {
        Self {
            socket: SocketAddr::from(([127, 0, 0, 1], 80)),
            client: SocketAddr::from(([192, 0, 2, 7], 5000)),
            client_text: HeaderValue::from_static("192.0.2.7"),
            trusted_proxies: None,
            local: SocketAddr::from(([127, 0, 0, 1], local_port)),
            local_port,
            port_text: HeaderValue::from(local_port),
            tls: None,
            is_tunnel: AtomicBool::new(false),
            switch_millis: AtomicU64::new(0),
            alarm: Alarm::default(),
            is_last: AtomicBool::new(false),
            body_fault: BodyFault::default(),
            is_cut: AtomicBool::new(false),
        }
    }
}

/// What the TLS handshake of a connection told.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// What the handshake came to.
    pub(crate) session: TlsSession,
    /// What was asked of the client: the digest of its policy.
    pub(crate) policy: Option<Digest>,
    /// The certificate of the client, if it has one; it was verified.
    pub(crate) client: Option<Box<ClientCertificate>>,
}

/// What a TLS handshake came to.
#[derive(Clone, Debug)]
pub(crate) struct TlsSession {
    /// The name that the client asked for, as hosts are compared.
    pub(crate) server_name: Option<Arc<str>>,
    version: Option<ProtocolVersion>,
    cipher: Option<CipherSuite>,
}

impl TlsSession {
    /// What can be told of a handshake that is done, for `server_name`.
    pub(crate) fn of(session: &ServerConnection, server_name: Option<Arc<str>>) -> Self {
        Self {
            server_name,
            version: session.protocol_version(),
            cipher: session.negotiated_cipher_suite().map(|suite| suite.suite()),
        }
    }

    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) fn version_name(&self) -> Option<&'static str> {
        let name = self.version?.as_str()?;
        Some(match name {
            "TLSv1_2" => "TLSv1.2",
            "TLSv1_3" => "TLSv1.3",
            other => other,
        })
    }

    /// The name that IANA gave the cipher suite.
    pub(crate) fn cipher_name(&self) -> Option<&'static str> {
        let name = self.cipher?.as_str()?;
        Some(match name {
            "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
            other => other,
        })
    }
}
