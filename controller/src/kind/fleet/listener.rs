//! `spec.listeners`: where the replicas of a fleet take connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use kubeng_config::listener::{
    CipherSuite, Listener, ListenerTls, Protocol, ProxyProtocol, TlsVersion,
};
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, ObjectKey, ObjectKind};
use kubeng_config::problem::Problem;
use serde::Deserialize;

use super::clients::ClientsOnWire;
use super::{FleetListener, Wrong, is_label};

/// One entry as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListenerOnWire {
    name: String,
    port: i64,
    protocol: String,
    address: Option<String>,
    hostname: Option<String>,
    #[serde(default)]
    certificate_refs: Vec<SecretRef>,
    proxy_protocol: Option<String>,
    #[serde(default)]
    proxy_protocol_from: Vec<String>,
    connections_max: Option<i64>,
    tls: Option<TlsOnWire>,
    client_certificates: Option<ClientsOnWire>,
    forward_to: Option<ForwardRef>,
}

#[derive(Debug, Deserialize)]
struct SecretRef {
    namespace: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TlsOnWire {
    min_version: Option<String>,
    #[serde(default)]
    cipher_suites: Vec<String>,
}

/// A Service with its port, or an Upstream.
#[derive(Debug, Deserialize)]
struct ForwardRef {
    kind: Option<String>,
    namespace: String,
    name: String,
    port: Option<i64>,
}

/// Reads one entry and names its fields.
pub(super) struct Entry<'a> {
    at: usize,
    wrong: &'a Wrong<'a>,
}

pub(super) type Read<T> = Result<T, Box<Problem>>;

/// # Errors
/// When an entry is not of its form, or two cannot stand beside each other.
pub(super) fn all(written: Vec<ListenerOnWire>, wrong: &Wrong<'_>) -> Read<Vec<FleetListener>> {
    let mut all: Vec<FleetListener> = Vec::new();
    let mut names = BTreeSet::new();
    for (at, listener) in written.into_iter().enumerate() {
        let entry = Entry { at, wrong };
        if !is_label(&listener.name) || !names.insert(listener.name.clone()) {
            let message = format!("{:.80?} is no name, or stands there twice", listener.name);
            let remedy = "write a name of its own of a-z, 0-9 and -, at most 63 characters";
            return Err(entry.wrong("/name", message, remedy));
        }
        let read = entry.read(listener)?;
        for other in &all {
            entry.beside(&read, other)?;
        }
        all.push(read);
    }
    Ok(all)
}

impl Entry<'_> {
    pub(super) fn wrong(&self, field: &str, message: String, remedy: &str) -> Box<Problem> {
        self.wrong.at(&format!("/spec/listeners/{}{field}", self.at), message, remedy)
    }

    fn read(&self, written: ListenerOnWire) -> Read<FleetListener> {
        let port = u16::try_from(written.port).ok().filter(|port| *port != 0).ok_or_else(|| {
            self.wrong("/port", format!("{} is not a port", written.port), "write 1 to 65535")
        })?;
        let address = match written.address.as_deref() {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(text) => text.parse().map_err(|_| {
                let message = format!("{text:.80?} is no IP address");
                self.wrong("/address", message, "write one, such as 192.0.2.10 or ::")
            })?,
        };
        let protocol = self.protocol(&written.protocol)?;
        let connections_max = written.connections_max.map(|count| {
            let usable = u32::try_from(count).ok().filter(|count| *count > 0);
            let message = format!("{count} is out of range");
            usable.ok_or_else(|| self.wrong("/connectionsMax", message, "write at least 1"))
        });
        let listener = Listener {
            host: self.host(written.hostname.as_deref())?,
            proxy_protocol: self
                .proxy_protocol(written.proxy_protocol.as_deref(), &written.proxy_protocol_from)?,
            connections_max: connections_max.transpose()?,
            tls: written.tls.map(|tls| self.tls(&tls)).transpose()?,
            ..Listener::new(SocketAddr::new(address, port), protocol)
        };
        if let Some(fault) = listener.fault() {
            return Err(self.wrong(
                "",
                format!("it cannot be served: {fault}"),
                "mend or remove it",
            ));
        }
        Ok(FleetListener {
            id: written
                .name
                .parse()
                .map_err(|_| self.wrong("/name", "the name is empty".to_owned(), "write a name"))?,
            certificate: self.certificate(protocol, &written.certificate_refs)?,
            clients: self.clients(protocol, written.client_certificates)?,
            forward: self.forward(protocol, written.forward_to)?,
            listener,
        })
    }

    fn protocol(&self, written: &str) -> Read<Protocol> {
        match written {
            "HTTP" => Ok(Protocol::Http),
            "HTTPS" => Ok(Protocol::Https),
            "TLS" => Ok(Protocol::TlsPassthrough),
            "TCP" => Ok(Protocol::Tcp),
            other => {
                let message = format!("protocol {other:.80?} is unknown");
                Err(self.wrong("/protocol", message, "write HTTP, HTTPS, TLS or TCP"))
            }
        }
    }

    /// As Gateway API means it: `*.example.com` is one or more labels below.
    fn host(&self, written: Option<&str>) -> Read<HostMatch> {
        let Some(written) = written else { return Ok(HostMatch::Any) };
        let read = match written.strip_prefix("*.") {
            Some(name) => name.parse().map(HostMatch::AnyLabelsBelow),
            None => written.parse().map(HostMatch::Exact),
        };
        read.map_err(|error| {
            let remedy = "write a DNS name such as shop.example.com or *.example.com";
            self.wrong("/hostname", error.to_string(), remedy)
        })
    }

    /// One that may be left out could be forged, so it is required from some, or from everybody.
    fn proxy_protocol(
        &self,
        written: Option<&str>,
        from: &[String],
    ) -> Read<Option<ProxyProtocol>> {
        match written {
            None | Some("off") if from.is_empty() => Ok(None),
            Some("require") => {
                let everybody = ["0.0.0.0/0".to_owned(), "::/0".to_owned()];
                let from = if from.is_empty() { &everybody[..] } else { from };
                let read = from.iter().enumerate().map(|(at, text)| {
                    text.parse::<IpNet>().map_err(|_| {
                        let message = format!("{text:.80?} is no network");
                        let remedy = "write a CIDR such as 10.0.0.0/8";
                        self.wrong(&format!("/proxyProtocolFrom/{at}"), message, remedy)
                    })
                });
                Ok(Some(ProxyProtocol { from: read.collect::<Read<_>>()? }))
            }
            None | Some("off") => {
                let message = "it has no effect where proxyProtocol is off".to_owned();
                let remedy = "write proxyProtocol: require, or remove it";
                Err(self.wrong("/proxyProtocolFrom", message, remedy))
            }
            Some(other) => {
                let message = format!("proxyProtocol {other:.80?} is unknown");
                Err(self.wrong("/proxyProtocol", message, "write off or require"))
            }
        }
    }

    fn tls(&self, written: &TlsOnWire) -> Read<ListenerTls> {
        let version_min = match written.min_version.as_deref() {
            None | Some("1.2") => TlsVersion::V1_2,
            Some("1.3") => TlsVersion::V1_3,
            Some(other) => {
                let message = format!("version {other:.80?} is not spoken");
                return Err(self.wrong("/tls/minVersion", message, "write \"1.2\" or \"1.3\""));
            }
        };
        let suites = written.cipher_suites.iter().enumerate().map(|(at, text)| {
            let suite = CipherSuite::ALL.iter().find(|suite| suite.name() == text);
            suite.copied().ok_or_else(|| {
                let known: Vec<_> = CipherSuite::ALL.iter().map(|suite| suite.name()).collect();
                let message = format!("cipher suite {text:.80?} is unknown");
                let remedy = format!("write one of {}", known.join(", "));
                self.wrong(&format!("/tls/cipherSuites/{at}"), message, &remedy)
            })
        });
        Ok(ListenerTls { version_min, suites: suites.collect::<Read<_>>()? })
    }

    fn certificate(&self, protocol: Protocol, refs: &[SecretRef]) -> Read<Option<ObjectKey>> {
        match (refs, protocol) {
            ([], _) => Ok(None),
            ([SecretRef { namespace, name }], Protocol::Https) => {
                Ok(Some(ObjectKey::new(ObjectKind::Secret, namespace, name)))
            }
            (_, Protocol::Https) => {
                let message = "a listener presents one certificate by default".to_owned();
                let remedy =
                    "leave the first one, and name the others in tls sections of Ingresses";
                Err(self.wrong("/certificateRefs/1", message, remedy))
            }
            (_, Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough) => {
                let message = "a certificate is presented on HTTPS only".to_owned();
                Err(self.wrong("/certificateRefs", message, "remove it, or write HTTPS"))
            }
        }
    }

    fn forward(&self, protocol: Protocol, written: Option<ForwardRef>) -> Read<Option<BackendId>> {
        let wrong = |message: &str, remedy: &str| self.wrong("/forwardTo", message.into(), remedy);
        let Some(ForwardRef { kind, namespace, name, port }) = written else {
            return if protocol.reads_requests() {
                Ok(None)
            } else {
                Err(wrong(
                    "its connections lead nowhere",
                    "name a Service with its port, or an Upstream",
                ))
            };
        };
        if protocol.reads_requests() {
            let remedy = "remove it, or write protocol TLS or TCP";
            return Err(wrong("requests go where Ingresses and Upstreams say", remedy));
        }
        match (kind.as_deref(), port.map(u16::try_from)) {
            (None | Some("Service"), Some(Ok(port @ 1..))) => {
                let object = ObjectKey::new(ObjectKind::Service, &namespace, &name);
                Ok(Some(BackendId { object, port: Some(port) }))
            }
            (Some("Upstream"), None) => {
                let object = ObjectKey::new(ObjectKind::Upstream, &namespace, &name);
                Ok(Some(BackendId { object, port: None }))
            }
            _ => Err(wrong(
                "it names neither a Service with a port from 1 to 65535 nor an Upstream without one",
                "write kind, namespace, name, and for a Service port",
            )),
        }
    }

    /// Whether it can share its socket with another one, where both are of one.
    fn beside(&self, listener: &FleetListener, other: &FleetListener) -> Read<()> {
        let (own, before) = (&listener.listener, &other.listener);
        if own.address != before.address {
            return Ok(());
        }
        let name = &other.id;
        if !own.fits_beside(before) {
            let message = format!("it wants the port of {name} and cannot share it");
            return Err(self.wrong("/port", message, "give one of them another port"));
        }
        if own.host == before.host {
            let message = format!("it wants the port and the host of {name}");
            return Err(self.wrong("/hostname", message, "give one of them another host"));
        }
        Ok(())
    }
}
