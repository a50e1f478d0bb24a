//! Services: their ports, what is spoken there, and ExternalName.

use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::tls::{BackendTls, Roots};
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource, HostOrIp, WrittenEndpoint};
use kubeng_config::name::{BackendId, Hostname, ObjectKey};
use kubeng_config::problem::{
    ADDRESS_FORBIDDEN, BAD_VALUE, EXTERNAL_NAME_OFF, PORT_NOT_FOUND, TLS_NAME_MISSING,
};

use super::backend::{Target, address_rule, forbids, not_found};
use super::refusal::Refused;
use crate::kind::ingress::PortName;
use crate::kind::service::{Service, ServicePort};
use crate::object::{Author, Object};
use crate::settings::{ExternalNames, TranslateSettings};
use crate::world::view::View;

/// The number of the port called `name`.
pub(crate) fn port_number(
    view: &mut View<'_>,
    key: &ObjectKey,
    name: &str,
) -> Result<u16, Refused> {
    let Some((_, service)) = view.service(key) else {
        return Err(not_found(key.kind, &key.name));
    };
    let found = service.ports.iter().find(|port| port.name.as_deref() == Some(name));
    let wanted = PortName::Name(name.to_owned());
    found.map(|port| port.port).ok_or_else(|| port_not_found(key, &service, &wanted))
}

/// What one port of a Service became.
pub(crate) fn target(
    settings: &TranslateSettings,
    object: &Object,
    service: &Service,
    id: &BackendId,
    number: u16,
) -> Target {
    let port = service.ports.iter().find(|port| port.port == number);
    if let Some(name) = &service.external_name {
        return external_name(settings, object, service, id, (name, number, port));
    }
    let Some(port) = port else {
        let wanted = PortName::Number(number);
        return Target::refused(port_not_found(&object.key, service, &wanted));
    };
    let (protocol, tls) = match spoken(port, None) {
        Ok(spoken) => spoken,
        Err(refused) => return Target::refused(refused),
    };
    let backend = Backend {
        protocol,
        tls,
        balance: Balance::default(),
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: address_rule(object.author),
        proxy_protocol: None,
    };
    Target::usable(id, backend, Vec::new())
}

/// A Service that stands for a name outside. It may have no ports at all.
fn external_name(
    settings: &TranslateSettings,
    object: &Object,
    service: &Service,
    id: &BackendId,
    (written, number, port): (&str, u16, Option<&ServicePort>),
) -> Target {
    let name = &object.key.name;
    match settings.external_names {
        ExternalNames::Allow => {}
        ExternalNames::Refuse => {
            let message = format!("Service {name:?} is of type ExternalName, which is off");
            let remedy = "use an Upstream, or allow it with --allow-external-name";
            return Target::refused(Refused::new(EXTERNAL_NAME_OFF, message, remedy));
        }
    }
    if port.is_none() && !service.ports.is_empty() {
        let wanted = PortName::Number(number);
        return Target::refused(port_not_found(&object.key, service, &wanted));
    }
    let address = match external_address(settings, object.author, written, number) {
        Ok(address) => address,
        Err(refused) => return Target::refused(refused),
    };
    let server_name = match &address {
        HostOrIp::Name(name) => Some(name),
        HostOrIp::Ip(_) => None,
    };
    let spoken = match port {
        Some(port) => spoken(port, server_name),
        None => Ok((BackendProtocol::Http1, None)),
    };
    let (protocol, tls) = match spoken {
        Ok(spoken) => spoken,
        Err(refused) => return Target::refused(refused),
    };
    let endpoint = WrittenEndpoint::new(address, number);
    let backend = Backend {
        protocol,
        tls,
        balance: Balance::default(),
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Written(vec![endpoint]),
        resolve: None,
        addresses: address_rule(object.author),
        proxy_protocol: None,
    };
    Target::usable(id, backend, Vec::new())
}

fn external_address(
    settings: &TranslateSettings,
    author: Author,
    written: &str,
    port: u16,
) -> Result<HostOrIp, Refused> {
    let address: HostOrIp = written.parse().map_err(|error| {
        let message = format!("externalName cannot be used: {error}");
        Refused::new(BAD_VALUE, message, "write a DNS name into externalName")
    })?;
    let why = match (&address, author) {
        (HostOrIp::Ip(_), Author::Tenant) => Some("an address instead of a name"),
        (HostOrIp::Ip(_) | HostOrIp::Name(_), author) => forbids(settings, author, &address, port),
    };
    match why {
        None => Ok(address),
        Some(why) => {
            let message = format!("externalName {written:?} is {why}");
            Err(Refused::new(
                ADDRESS_FORBIDDEN,
                message,
                "name the service outside by its DNS name",
            ))
        }
    }
}

/// What `appProtocol` says is spoken. What it does not know is HTTP/1.1, as without it.
///
/// TLS needs a name to verify. Kubernetes gives none, so it is refused unless
/// the Service itself stands for one.
fn spoken(
    port: &ServicePort,
    server_name: Option<&Hostname>,
) -> Result<(BackendProtocol, Option<BackendTls>), Refused> {
    let written = port.app_protocol.as_deref().unwrap_or_default();
    let protocol = match written.to_ascii_lowercase().as_str() {
        "kubernetes.io/h2c" | "h2c" | "http2" => BackendProtocol::Http2,
        "grpc" | "grpcs" => BackendProtocol::Grpc,
        _ => BackendProtocol::Http1,
    };
    match (written.to_ascii_lowercase().as_str(), server_name) {
        ("https" | "kubernetes.io/wss" | "wss" | "tls" | "grpcs", Some(name)) => {
            let tls = BackendTls::new(name.clone(), Roots::System);
            Ok((protocol, Some(tls)))
        }
        ("https" | "kubernetes.io/wss" | "wss" | "tls" | "grpcs", None) => {
            let message = format!(
                "port {} speaks {written}, but it is not known which name its certificate must cover",
                port.port
            );
            let remedy = "use an Upstream with tls.serverName, or let the port speak plain HTTP";
            Err(Refused::new(TLS_NAME_MISSING, message, remedy))
        }
        _ => Ok((protocol, None)),
    }
}

fn port_not_found(key: &ObjectKey, service: &Service, wanted: &PortName) -> Refused {
    let known: Vec<String> = service
        .ports
        .iter()
        .map(|port| match &port.name {
            Some(name) => format!("{} ({name})", port.port),
            None => port.port.to_string(),
        })
        .collect();
    let message = format!("Service {:?} has no port {wanted}", key.name);
    let remedy = if known.is_empty() {
        "give the Service a TCP port".to_owned()
    } else {
        format!("name one of its ports: {}", known.join(", "))
    };
    Refused::new(PORT_NOT_FOUND, message, remedy)
}
