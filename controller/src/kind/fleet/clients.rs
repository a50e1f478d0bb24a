//! `clientCertificates` of a listener: what it asks of clients, and where the authorities stand.

use kubeng_config::certificate::ClientCertificateMode;
use kubeng_config::listener::Protocol;
use kubeng_config::name::{ObjectKey, ObjectKind};
use serde::Deserialize;

use super::listener::{Entry, Read};
use crate::settings::ListenerClients;

/// `clientCertificates` as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientsOnWire {
    mode: String,
    authorities_from: AuthoritiesRef,
}

/// A ConfigMap or Secret with the authorities in `ca.crt`.
#[derive(Debug, Deserialize)]
struct AuthoritiesRef {
    kind: Option<String>,
    namespace: String,
    name: String,
}

impl Entry<'_> {
    pub(super) fn clients(
        &self,
        protocol: Protocol,
        written: Option<ClientsOnWire>,
    ) -> Read<Option<ListenerClients>> {
        let Some(ClientsOnWire { mode, authorities_from }) = written else { return Ok(None) };
        match protocol {
            Protocol::Https => {}
            Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough => {
                let message = "clients can present a certificate on HTTPS only".to_owned();
                let remedy = "remove it, or write HTTPS";
                return Err(self.wrong("/clientCertificates", message, remedy));
            }
        }
        let mode = match mode.as_str() {
            "require" => ClientCertificateMode::Require,
            "request" => ClientCertificateMode::Request,
            other => {
                let message = format!("{other:.80?} is no way to ask for client certificates");
                let remedy = "write require or request";
                return Err(self.wrong("/clientCertificates/mode", message, remedy));
            }
        };
        let AuthoritiesRef { kind, namespace, name } = authorities_from;
        let kind = match kind.as_deref() {
            None | Some("ConfigMap") => ObjectKind::ConfigMap,
            Some("Secret") => ObjectKind::Secret,
            Some(other) => {
                let field = "/clientCertificates/authoritiesFrom/kind";
                let message = format!("a {other:.80} holds no authorities");
                return Err(self.wrong(field, message, "write ConfigMap or Secret"));
            }
        };
        if namespace.is_empty() || name.is_empty() {
            let field = "/clientCertificates/authoritiesFrom";
            let message = "it names no object".to_owned();
            return Err(self.wrong(field, message, "write namespace and name"));
        }
        let authorities = ObjectKey::new(kind, &namespace, &name);
        Ok(Some(ListenerClients { mode, authorities }))
    }
}
