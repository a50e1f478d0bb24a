//! Listeners: where a fleet takes connections.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::certificate::ClientCertificates;
use crate::matching::HostMatch;
use crate::name::CertificateId;

/// One place where connections are taken.
///
/// Several Listeners may share a socket; then the most special `host` that
/// accepts the request's (over TLS: the server name) decides.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// What is spoken.
    pub protocol: Protocol,
    /// The hosts that it serves.
    pub host: HostMatch,
    /// The certificate for names that have none of their own. Absent: the
    /// self-signed one of the replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<CertificateId>,
    /// From whom the PROXY protocol is taken; absent: from nobody. One for all Listeners of a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Open connections of its socket; what comes above is closed at once. Absent: only the limit of
    /// the replica counts. One for all Listeners of a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// How TLS is spoken; absent: as the defaults of [`ListenerTls`] say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// What is asked of clients under names that say nothing of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
}

/// What a Listener speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 by prior knowledge.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    Https,
    /// Any bytes; a connection goes to one Endpoint, whatever it carries.
    Tcp,
    /// TLS that the Endpoint ends; the server name of the client decides where to.
    TlsPassthrough,
}

/// What stands first on a connection, and so must be one for all Listeners of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// A request.
    Http,
    /// A ClientHello.
    Tls,
    /// Anything.
    Bytes,
}

/// From whom a Listener takes the PROXY protocol, version 1 or 2.
///
/// From these it is mandatory, for who may choose could forge an address; from
/// others it is not looked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// The networks of the balancers in front; at least one.
    pub from: Vec<IpNet>,
}

/// How a Listener speaks TLS.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ListenerTls {
    /// The oldest version that is spoken.
    pub version_min: TlsVersion,
    /// The cipher suites that may be agreed on; empty: all that there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<CipherSuite>,
}

/// A version of TLS. Older ones are not spoken at all (RFC 8996).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Declares the cipher suites with their names of the IANA registry.
macro_rules! suites {
    ($($name:ident $text:literal $version:ident;)*) => {
        /// A cipher suite, by its name in the IANA registry. All of them have forward secrecy.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
        pub enum CipherSuite {
            $(
                #[doc = $text]
                #[serde(rename = $text)]
                $name,
            )*
        }

        impl CipherSuite {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in the IANA registry.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The version of TLS that it belongs to.
            #[must_use]
            pub fn version(self) -> TlsVersion {
                match self {
                    $(Self::$name => TlsVersion::$version,)*
                }
            }
        }
    };
}

suites! {
    Aes128Gcm "TLS_AES_128_GCM_SHA256" V1_3;
    Aes256Gcm "TLS_AES_256_GCM_SHA384" V1_3;
    Chacha20 "TLS_CHACHA20_POLY1305_SHA256" V1_3;
    EcdsaAes128Gcm "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" V1_2;
    EcdsaAes256Gcm "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" V1_2;
    EcdsaChacha20 "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" V1_2;
    RsaAes128Gcm "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" V1_2;
    RsaAes256Gcm "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" V1_2;
    RsaChacha20 "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" V1_2;
}

impl Listener {
    /// One that serves every host, with nothing else said.
    #[must_use]
    pub fn new(address: SocketAddr, protocol: Protocol) -> Self {
        Self {
            address,
            protocol,
            host: HostMatch::Any,
            default_certificate: None,
            proxy_protocol: None,
            connections_max: None,
            tls: None,
            client_certificates: None,
        }
    }

    /// Why it cannot be served as it is; `None` when it can.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let Self { address: _, protocol, host, connections_max, .. } = self;
        let Self { default_certificate, proxy_protocol, tls, client_certificates, .. } = self;
        let ends_tls = *protocol == Protocol::Https;
        if *protocol == Protocol::Tcp && *host != HostMatch::Any {
            Some("plain TCP tells no host, so its host must be *")
        } else if !ends_tls && default_certificate.is_some() {
            Some("a certificate is presented on HTTPS only")
        } else if !ends_tls && (tls.is_some() || client_certificates.is_some()) {
            Some("TLS settings and client certificates have a meaning on HTTPS only")
        } else if proxy_protocol.as_ref().is_some_and(|proxy| proxy.from.is_empty()) {
            Some("the PROXY protocol is taken from no network")
        } else if *connections_max == Some(0) {
            Some("no connection may be open")
        } else if tls.as_ref().is_some_and(|tls| !tls.has_suites()) {
            Some("no cipher suite is left for the versions that are spoken")
        } else {
            client_certificates.as_ref().and_then(ClientCertificates::fault)
        }
    }

    /// Whether `other` can share a socket with it.
    #[must_use]
    pub fn fits_beside(&self, other: &Self) -> bool {
        self.protocol.opening() == other.protocol.opening()
            && self.proxy_protocol == other.proxy_protocol
            && self.connections_max == other.connections_max
    }
}

impl ListenerTls {
    fn has_suites(&self) -> bool {
        self.suites.is_empty()
            || self.suites.iter().any(|suite| suite.version() >= self.version_min)
    }
}

impl Protocol {
    /// What stands first on a connection.
    #[must_use]
    pub fn opening(self) -> Opening {
        match self {
            Self::Http => Opening::Http,
            Self::Https | Self::TlsPassthrough => Opening::Tls,
            Self::Tcp => Opening::Bytes,
        }
    }

    /// Whether requests are read; else connections are passed on as they are.
    #[must_use]
    pub fn reads_requests(self) -> bool {
        match self {
            Self::Http | Self::Https => true,
            Self::Tcp | Self::TlsPassthrough => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Listener), protocol: Protocol, word: Option<&str>) {
        let mut listener = Listener::new(([127, 0, 0, 1], 443).into(), protocol);
        change(&mut listener);
        let fault = listener.fault();
        assert_eq!(fault.is_some(), word.is_some(), "{fault:?}");
        assert!(fault.unwrap_or_default().contains(word.unwrap_or_default()), "{fault:?}");
    }

    #[test]
    fn what_a_listener_cannot_honour_is_a_fault() {
        let suites = |version_min, suites: &[CipherSuite]| {
            Some(ListenerTls { version_min, suites: suites.to_vec() })
        };
        for protocol in [Protocol::Http, Protocol::Https, Protocol::Tcp, Protocol::TlsPassthrough] {
            check(|_| {}, protocol, None);
            check(|l| l.connections_max = Some(0), protocol, Some("no connection"));
            let nobody = Some(ProxyProtocol { from: vec![] });
            check(|l| l.proxy_protocol = nobody, protocol, Some("no network"));
        }
        let host = || "a.example".parse().unwrap();
        check(|l| l.host = host(), Protocol::Tcp, Some("host"));
        check(|l| l.host = host(), Protocol::TlsPassthrough, None);
        let certificate = || Some("Secret/a/b".parse().unwrap());
        check(|l| l.default_certificate = certificate(), Protocol::Http, Some("HTTPS"));
        check(|l| l.tls = Some(ListenerTls::default()), Protocol::TlsPassthrough, Some("HTTPS"));
        let old = [CipherSuite::EcdsaAes128Gcm];
        check(|l| l.tls = suites(TlsVersion::V1_2, &old), Protocol::Https, None);
        check(|l| l.tls = suites(TlsVersion::V1_3, &old), Protocol::Https, Some("cipher"));
    }

    #[test]
    fn suites_are_written_as_the_registry_names_them() {
        for &suite in CipherSuite::ALL {
            assert_eq!(serde_json::to_value(suite).unwrap(), suite.name());
        }
    }
}
