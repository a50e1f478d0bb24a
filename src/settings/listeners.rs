//! Where connections are taken, and what each place asks of them.

use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail, ensure};
use ipnet::IpNet;
use kubeng_config::certificate::ClientCertificateMode;
use kubeng_config::listener::{
    CipherSuite, Listener, ListenerTls, Protocol, ProxyProtocol, TlsVersion,
};
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, ListenerId, ObjectKey, ObjectKind};
use kubeng_controller::settings::{Forward, ListenerClients};

use super::address::address;
use super::kubernetes::{Named, ServicePort, named, service_port};

/// What listeners are made of, as it was given.
#[derive(Clone, Debug)]
pub(super) struct GivenListeners {
    pub(super) http: SocketAddr,
    pub(super) https: Option<SocketAddr>,
    pub(super) tcp: Vec<String>,
    pub(super) tls_passthrough: Vec<String>,
    pub(super) proxy_protocol_from: Vec<IpNet>,
    pub(super) connections_max: Option<u32>,
    pub(super) tls_version_min: Option<String>,
    pub(super) tls_cipher_suites: Vec<String>,
    pub(super) client_certificates: Option<String>,
}

/// The listeners, and where those lead that read no requests.
#[derive(Clone, Debug)]
pub(crate) struct Listeners {
    pub(crate) all: Vec<(ListenerId, Listener)>,
    pub(crate) forwards: Vec<Forward>,
    /// What they ask of clients.
    pub(crate) clients: Vec<(ListenerId, ListenerClients)>,
}

impl GivenListeners {
    /// # Errors
    /// When something is not of its form, or two listeners cannot stand beside each other.
    pub(super) fn settle(self) -> anyhow::Result<Listeners> {
        let tls = self.tls()?;
        let clients = self.clients()?;
        let mut all = vec![("http".to_owned(), self.listener(self.http, Protocol::Http))];
        if let Some(https) = self.https {
            let listener = Listener { tls, ..self.listener(https, Protocol::Https) };
            all.push(("https".to_owned(), listener));
        } else if tls.is_some() {
            bail!("--tls-version-min and --tls-cipher-suite have no effect without --https");
        }
        let mut forwards = Vec::new();
        for text in &self.tcp {
            let (address, to) = tcp(text).map_err(|why| {
                anyhow!(
                    "--tcp {text:?} is not of the form ADDR=TARGET, such as \
                     0.0.0.0:5432=db/postgres:5432 or [::]:5432=db/erp: {why}"
                )
            })?;
            let name = format!("tcp-{address}");
            forwards.push(Forward { listener: id(&name)?, host: HostMatch::Any, to });
            all.push((name, self.listener(address, Protocol::Tcp)));
        }
        for text in &self.tls_passthrough {
            let (address, host, to) = passthrough(text).map_err(|why| {
                anyhow!(
                    "--tls-passthrough {text:?} is not of the form ADDR=HOST=TARGET, such as \
                     0.0.0.0:443=shop.example.com=shop/web:8443: {why}"
                )
            })?;
            let name = format!("tls-{address}-{host}");
            forwards.push(Forward { listener: id(&name)?, host: host.clone(), to });
            let listener = self.listener(address, Protocol::TlsPassthrough);
            all.push((name, Listener { host, ..listener }));
        }
        check(&all)?;
        let all = all.into_iter().map(|(name, listener)| Ok((id(&name)?, listener)));
        Ok(Listeners { all: all.collect::<anyhow::Result<_>>()?, forwards, clients })
    }

    /// With what all of them have in common.
    fn listener(&self, address: SocketAddr, protocol: Protocol) -> Listener {
        let from = &self.proxy_protocol_from;
        Listener {
            proxy_protocol: (!from.is_empty()).then(|| ProxyProtocol { from: from.clone() }),
            connections_max: self.connections_max,
            ..Listener::new(address, protocol)
        }
    }

    fn clients(&self) -> anyhow::Result<Vec<(ListenerId, ListenerClients)>> {
        let Some(text) = &self.client_certificates else { return Ok(Vec::new()) };
        ensure!(self.https.is_some(), "--client-certificates has no effect without --https");
        let asked = client_certificates(text).with_context(|| {
            format!(
                "--client-certificates {text:?} is not of the form MODE=KIND/NAMESPACE/NAME, \
                 such as require=ConfigMap/infra/clients"
            )
        })?;
        Ok(vec![(id("https")?, asked)])
    }

    fn tls(&self) -> anyhow::Result<Option<ListenerTls>> {
        if self.tls_version_min.is_none() && self.tls_cipher_suites.is_empty() {
            return Ok(None);
        }
        let version_min = match self.tls_version_min.as_deref() {
            Some("1.2") | None => TlsVersion::V1_2,
            Some("1.3") => TlsVersion::V1_3,
            Some(other) => bail!("tls-version-min is {other:?}; write 1.2 or 1.3"),
        };
        let suites = self.tls_cipher_suites.iter().map(|text| {
            let suite = CipherSuite::ALL.iter().find(|suite| suite.name() == text);
            suite.copied().with_context(|| {
                let known: Vec<_> = CipherSuite::ALL.iter().map(|suite| suite.name()).collect();
                format!("--tls-cipher-suite {text:?} is unknown; write {}", known.join(", "))
            })
        });
        Ok(Some(ListenerTls { version_min, suites: suites.collect::<anyhow::Result<_>>()? }))
    }
}

fn check(all: &[(String, Listener)]) -> anyhow::Result<()> {
    for (at, (name, listener)) in all.iter().enumerate() {
        if let Some(fault) = listener.fault() {
            bail!("listener {name} cannot be served: {fault}");
        }
        for (other_name, other) in all.iter().take(at) {
            if other.address != listener.address {
                continue;
            }
            ensure!(
                other.fits_beside(listener),
                "{name} and {other_name} want one port and cannot share it; give one another"
            );
            ensure!(
                other.host != listener.host,
                "{name} and {other_name} want one port and one host; give one another"
            );
        }
    }
    Ok(())
}

fn client_certificates(text: &str) -> Option<ListenerClients> {
    let (mode, place) = text.split_once('=')?;
    let mode = match mode {
        "require" => ClientCertificateMode::Require,
        "request" => ClientCertificateMode::Request,
        _ => return None,
    };
    let (kind, place) = place.split_once('/')?;
    let kind = match kind {
        "ConfigMap" => ObjectKind::ConfigMap,
        "Secret" => ObjectKind::Secret,
        _ => return None,
    };
    let Named { namespace, name } = named(place)?;
    Some(ListenerClients { mode, authorities: ObjectKey::new(kind, &namespace, &name) })
}

fn tcp(text: &str) -> Result<(SocketAddr, BackendId), String> {
    let (at, to) = text.split_once('=').ok_or("no target is named")?;
    Ok((address(at)?, target(to)?))
}

fn passthrough(text: &str) -> Result<(SocketAddr, HostMatch, BackendId), String> {
    let (at, rest) = text.split_once('=').ok_or("no host and no target are named")?;
    let (host, to) = rest.split_once('=').ok_or("no target is named")?;
    let at = address(at)?;
    let host = HostMatch::from_str(host).map_err(|error| {
        format!("{host:?} is no host ({error}); write one such as shop.example.com, or *")
    })?;
    Ok((at, host, target(to)?))
}

/// `NAMESPACE/NAME:PORT` is a Service, `NAMESPACE/NAME` an Upstream.
fn target(text: &str) -> Result<BackendId, String> {
    let (kind, Named { namespace, name }, port) = match service_port(text) {
        Some(ServicePort { service, port }) => (ObjectKind::Service, service, Some(port)),
        None => {
            let upstream = named(text).ok_or_else(|| {
                format!(
                    "{text:?} is neither NAMESPACE/NAME:PORT of a Service, with the number of the \
                     port, nor NAMESPACE/NAME of an Upstream"
                )
            })?;
            (ObjectKind::Upstream, upstream, None)
        }
    };
    Ok(BackendId { object: ObjectKey::new(kind, &namespace, &name), port })
}

fn id(name: &str) -> anyhow::Result<ListenerId> {
    name.parse().with_context(|| format!("{name:?} is no name of a listener"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> GivenListeners {
        GivenListeners {
            http: "127.0.0.1:80".parse().unwrap(),
            https: Some("127.0.0.1:443".parse().unwrap()),
            tcp: vec![],
            tls_passthrough: vec![],
            proxy_protocol_from: vec![],
            connections_max: None,
            tls_version_min: None,
            tls_cipher_suites: vec![],
            client_certificates: None,
        }
    }

    #[test]
    fn everything_that_is_given_becomes_a_listener() {
        let listeners = GivenListeners {
            tcp: vec!["127.0.0.1:5432=db/pg:5432".into(), "[::1]:5432=db/erp".into()],
            tls_passthrough: vec!["127.0.0.1:443=a.example=shop/web:8443".into()],
            proxy_protocol_from: vec!["10.0.0.0/8".parse().unwrap()],
            connections_max: Some(7),
            tls_version_min: Some("1.3".into()),
            client_certificates: Some("require=Secret/infra/clients".into()),
            ..given()
        };
        let Listeners { all, forwards, clients } = listeners.settle().unwrap();
        let names: Vec<_> = all.iter().map(|(id, _)| id.as_str()).collect();
        let tls = "tls-127.0.0.1:443-a.example";
        assert_eq!(names, ["http", "https", "tcp-127.0.0.1:5432", "tcp-[::1]:5432", tls]);
        for (id, listener) in &all {
            assert_eq!(listener.connections_max, Some(7), "{id}");
            assert!(listener.proxy_protocol.is_some(), "{id}");
        }
        assert_eq!(all[1].1.tls.as_ref().unwrap().version_min, TlsVersion::V1_3);
        let [(on, asked)] = &clients[..] else { panic!("{clients:?}") };
        assert_eq!((on.as_str(), asked.mode), ("https", ClientCertificateMode::Require));
        assert_eq!(asked.authorities.to_string(), "Secret/infra/clients");
        let to: Vec<_> = forwards.iter().map(|forward| forward.to.to_string()).collect();
        assert_eq!(to, ["Service/db/pg:5432", "Upstream/db/erp", "Service/shop/web:8443"]);
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut GivenListeners), word: &str) {
        let mut given = given();
        change(&mut given);
        let error = format!("{:#}", given.settle().unwrap_err());
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        check(|g| g.tcp = vec!["127.0.0.1:1".into()], "ADDR=TARGET");
        check(|g| g.tcp = vec!["localhost:1=a/b:1".into()], "ADDR=TARGET");
        check(|g| g.tcp = vec!["127.0.0.1:80=a/b:1".into()], "cannot share it");
        check(|g| g.tcp = vec!["127.0.0.1:1=a/b:1".into(); 2], "one host");
        check(|g| g.tls_passthrough = vec!["127.0.0.1:1=a/b:1".into()], "ADDR=HOST=TARGET");
        check(|g| g.tls_passthrough = vec!["127.0.0.1:1=a b=a/b:1".into()], "ADDR=HOST=TARGET");
        check(|g| g.tls_passthrough = vec!["127.0.0.1:443=*=a/b:1".into()], "one host");
        check(|g| g.tls_passthrough = vec!["127.0.0.1:80=a=a/b:1".into()], "cannot share it");
        check(|g| g.tls_version_min = Some("1.1".into()), "1.2 or 1.3");
        check(|g| g.tls_cipher_suites = vec!["RC4".into()], "TLS_AES_128_GCM_SHA256");
        check(|g| g.connections_max = Some(0), "no connection");
        for bad in
            ["require", "must=ConfigMap/a/b", "require=a/b", "request=Secret/b", "=ConfigMap/a/b"]
        {
            check(|g| g.client_certificates = Some(bad.into()), "MODE=KIND/NAMESPACE/NAME");
        }
        check(
            |g| {
                g.https = None;
                g.client_certificates = Some("require=Secret/infra/clients".into());
            },
            "without --https",
        );
        check(
            |g| {
                g.https = None;
                g.tls_version_min = Some("1.3".into());
            },
            "without --https",
        );
    }
}
