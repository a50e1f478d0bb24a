//! What translation is told by whoever runs it: pure values, fixed for the life of a World.

use kubeng_config::address::Reserved;
use kubeng_config::backend::balance::Balance;
use kubeng_config::certificate::ClientCertificateMode;
use kubeng_config::filter::Filter;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, FleetName, ListenerId, ObjectKey, ObjectKind, PolicyId};
use kubeng_config::policy::Policy;
use serde_json::Value;

use crate::kind::fleet::Fleet;
use crate::kind::ingress::PortName;

/// `spec.controller` of the IngressClasses that are ours, unless told otherwise.
pub const CONTROLLER: &str = "kubeng.io/ingress-controller";

/// The class that is served without an IngressClass object, unless told otherwise.
pub const CLASS: &str = "kubeng";

/// What translation is told by whoever runs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TranslateSettings {
    /// The fleet that everything is served by.
    pub fleet: FleetName,
    /// Whether the fleet is described by these settings, or by a Fleet Object.
    pub described_by: DescribedBy,
    /// The fleet that settings describe, if there is one. The classes whose parameters name no Fleet are
    /// its own.
    pub home: Option<FleetName>,
    /// The only namespaces that the fleet allows; empty: all.
    pub allowed: Vec<String>,
    /// What the Routes of the fleet have unless somebody says otherwise.
    pub defaults: Policy,
    /// What is done with their requests and answers unless somebody says otherwise.
    pub default_filters: Vec<Filter>,
    /// The Patch that these Filters stand for, which overrides change member by member.
    pub default_patch: Value,
    /// How an Endpoint is chosen unless somebody says otherwise.
    pub default_balance: Balance,
    /// Its Listeners. A default certificate is put in by translation.
    pub listeners: Vec<(ListenerId, Listener)>,
    /// The Secrets of default certificates that are those of one Listener.
    pub certificates: Vec<(ListenerId, ObjectKey)>,
    /// What Listeners ask of clients under names that say nothing of their own.
    pub clients: Vec<(ListenerId, ListenerClients)>,
    /// Where those Listeners lead that read no requests.
    pub forwards: Vec<Forward>,
    /// `spec.controller` of the IngressClasses that are ours.
    pub controller: String,
    /// The class that is ours as long as no IngressClass has its name.
    pub class: String,
    /// The classes that are served; empty: all that are ours.
    pub classes: Vec<String>,
    /// The namespaces whose Ingresses are served; empty: all.
    pub namespaces: Vec<String>,
    /// What becomes of Ingresses that name no class where no class is the default.
    pub without_class: WithoutClass,
    /// What takes the requests that no Ingress takes; without one they get 404.
    pub default_backend: Option<DefaultBackend>,
    /// The Secret of the certificate for names that have none of their own.
    pub default_certificate: Option<ObjectKey>,
    /// Whether Services of type ExternalName lead anywhere.
    pub external_names: ExternalNames,
    /// Sockets of the control plane, which tenants may not name as endpoints.
    pub reserved: Reserved,
    policy: PolicyId,
}

impl TranslateSettings {
    /// The defaults: every class of ours, every namespace, nothing that opens a hole.
    #[must_use]
    pub fn new(fleet: FleetName, listeners: Vec<(ListenerId, Listener)>) -> Self {
        let policy = format!("fleet/{fleet}").parse();
        Self {
            policy: policy.expect("it begins with a text that is not empty"),
            described_by: DescribedBy::Settings,
            home: Some(fleet.clone()),
            allowed: Vec::new(),
            defaults: Policy::default(),
            default_filters: Vec::new(),
            default_patch: Value::Null,
            default_balance: Balance::default(),
            fleet,
            listeners,
            certificates: Vec::new(),
            clients: Vec::new(),
            forwards: Vec::new(),
            controller: CONTROLLER.to_owned(),
            class: CLASS.to_owned(),
            classes: Vec::new(),
            namespaces: Vec::new(),
            without_class: WithoutClass::Ignore,
            default_backend: None,
            default_certificate: None,
            external_names: ExternalNames::Refuse,
            reserved: Reserved::default(),
        }
    }

    /// What concerns the process, where it serves the fleet of this name that an Object describes: what
    /// the settings say of a fleet is not in it.
    #[must_use]
    pub fn only_of(&self, fleet: FleetName) -> Self {
        let mut settings = Self::new(fleet, Vec::new());
        settings.home = None;
        settings.take_process(self);
        settings
    }

    /// Those of a fleet that is described by an Object. What concerns the process as a whole is as
    /// here.
    #[must_use]
    pub fn of_fleet(&self, key: &ObjectKey, fleet: &Fleet) -> Self {
        let listeners = fleet.listeners.iter();
        let mut settings = Self::new(
            fleet.name.clone(),
            listeners.clone().map(|of| (of.id.clone(), of.listener.clone())).collect(),
        );
        settings.described_by = DescribedBy::Object(key.clone());
        settings.home.clone_from(&self.home);
        settings.allowed.clone_from(&fleet.namespaces);
        settings.defaults.clone_from(&fleet.defaults);
        settings.default_filters.clone_from(&fleet.default_filters);
        settings.default_patch.clone_from(&fleet.default_patch);
        settings.default_balance.clone_from(&fleet.default_balance);
        let certificates = listeners.clone();
        settings.certificates =
            certificates.filter_map(|of| Some((of.id.clone(), of.certificate.clone()?))).collect();
        let clients = listeners.clone();
        settings.clients =
            clients.filter_map(|of| Some((of.id.clone(), of.clients.clone()?))).collect();
        let forward = |(listener, host, to)| Forward { listener, host, to };
        settings.forwards = listeners
            .filter_map(|of| Some((of.id.clone(), of.listener.host.clone(), of.forward.clone()?)))
            .map(forward)
            .collect();
        settings.take_process(self);
        settings
    }

    /// Takes over what concerns the process as a whole.
    fn take_process(&mut self, from: &Self) {
        self.controller.clone_from(&from.controller);
        self.class.clone_from(&from.class);
        self.namespaces.clone_from(&from.namespaces);
        self.external_names = from.external_names;
        self.reserved.clone_from(&from.reserved);
    }

    /// The Object that describes the fleet of `name`, whether there is one or not.
    #[must_use]
    pub fn fleet_key(name: &str) -> ObjectKey {
        ObjectKey::new(ObjectKind::Fleet, "", name)
    }

    /// The Policy of every Route that sets nothing itself.
    #[must_use]
    pub fn policy(&self) -> &PolicyId {
        &self.policy
    }

    /// Whether any Listener presents certificates.
    #[must_use]
    pub fn has_https(&self) -> bool {
        self.https_listeners().next().is_some()
    }

    /// The Listeners that present certificates.
    pub fn https_listeners(&self) -> impl Iterator<Item = &ListenerId> {
        self.listeners.iter().filter_map(|(id, listener)| match listener.protocol {
            Protocol::Https => Some(id),
            Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough => None,
        })
    }
}

/// What a Listener asks of clients, and where the authorities stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerClients {
    /// What becomes of clients without a certificate.
    pub mode: ClientCertificateMode,
    /// A ConfigMap or Secret with the authorities in `ca.crt`.
    pub authorities: ObjectKey,
}

/// What describes a fleet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DescribedBy {
    /// The settings of the process.
    Settings,
    /// A Fleet Object.
    Object(ObjectKey),
}

impl std::fmt::Display for DescribedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Settings => f.write_str("the settings"),
            Self::Object(key) => write!(f, "{key}"),
        }
    }
}

/// Where the connections of a Listener go that reads no requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward {
    /// The Listener; it passes connections on as they are.
    pub listener: ListenerId,
    /// The server names; every host on plain TCP.
    pub host: HostMatch,
    /// The Service port or Upstream.
    pub to: BackendId,
}

/// What becomes of an Ingress that names no class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WithoutClass {
    /// It is somebody else's.
    Ignore,
    /// It is ours.
    Serve,
}

/// What becomes of a Service of type ExternalName.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExternalNames {
    /// Its Routes are refused: the name could be one that only the proxy can reach.
    Refuse,
    /// It is a Backend with one DNS name.
    Allow,
}

/// The Service behind everything that no Ingress takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DefaultBackend {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Its port.
    pub port: PortName,
}
