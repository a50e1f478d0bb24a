//! Names: parsed once, valid ever after.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("the name is empty")]
    Empty,
    /// The text, or one of its labels, is too long.
    #[error("{text:?} is longer than {characters_max} characters")]
    TooLong {
        /// The text, or the label of it that is too long.
        text: String,
        /// How long it may be.
        characters_max: usize,
    },
    /// A character stands where it may not.
    #[error("{text:?} has {character:?} where it may not stand")]
    Character {
        /// The whole text.
        text: String,
        /// The first wrong character.
        character: char,
    },
    /// The text does not have the form of such a name.
    #[error("{text:?} is not of the form {form}")]
    Form {
        /// The whole text.
        text: String,
        /// What was expected.
        form: &'static str,
    },
}

/// A DNS name in lower case, without a trailing dot and without a wildcard.
///
/// Wildcards are a property of a match, not of a name: see
/// [`HostMatch`](crate::matching::HostMatch). At most 253 characters, each
/// label at most 63 of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// Parses `text`; upper case is folded and one trailing dot removed.
    ///
    /// # Errors
    /// When a label is empty, too long, begins or ends with `-`, or holds
    /// another character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 253 {
            return Err(NameError::TooLong { text: text.into(), characters_max: 253 });
        }
        for label in text.split('.') {
            check_label(text, label)?;
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label, if one is left.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, parent)| parent)
    }
}

fn check_label(text: &str, label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::Character { text: text.into(), character: '.' });
    }
    if label.len() > 63 {
        return Err(NameError::TooLong { text: label.into(), characters_max: 63 });
    }
    let wrong = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-' && *c != '_');
    if let Some(character) = wrong {
        return Err(NameError::Character { text: text.into(), character });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Character { text: text.into(), character: '-' });
    }
    Ok(())
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every kind of Object that is read.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ObjectKind {
    /// `networking.k8s.io/v1` Ingress.
    Ingress,
    /// `networking.k8s.io/v1` IngressClass, cluster-scoped.
    IngressClass,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Secret.
    Secret,
    /// `kubeng.io/v1alpha1` Upstream.
    Upstream,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `kubeng.io/v1alpha1` RouteOverride.
    RouteOverride,
    /// `kubeng.io/v1alpha1` Fleet, cluster-scoped.
    Fleet,
}

impl ObjectKind {
    /// All kinds, in the order in which they are declared.
    pub const ALL: [Self; 9] = [
        Self::Ingress,
        Self::IngressClass,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::Upstream,
        Self::ConfigMap,
        Self::RouteOverride,
        Self::Fleet,
    ];

    /// The name as it stands in `kind:`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::Upstream => "Upstream",
            Self::ConfigMap => "ConfigMap",
            Self::RouteOverride => "RouteOverride",
            Self::Fleet => "Fleet",
        }
    }

    /// Whether Objects of this kind are looked for only where another one names them.
    #[must_use]
    pub fn is_referenced(self) -> bool {
        match self {
            Self::Secret | Self::ConfigMap => true,
            Self::Ingress
            | Self::IngressClass
            | Self::Service
            | Self::EndpointSlice
            | Self::Upstream
            | Self::RouteOverride
            | Self::Fleet => false,
        }
    }

    /// Whether Objects of this kind live in a namespace.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        match self {
            Self::IngressClass | Self::Fleet => false,
            Self::Ingress
            | Self::Service
            | Self::EndpointSlice
            | Self::Secret
            | Self::Upstream
            | Self::ConfigMap
            | Self::RouteOverride => true,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ObjectKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(NameError::Form {
            text: text.into(),
            form: "a kind that is read, such as Ingress or Upstream",
        })
    }
}

/// Identifies one Object: kind, namespace and name.
///
/// Written `Ingress/shop/web`, or `IngressClass/kubeng` where there is no
/// namespace. Ordered by kind, namespace, name. A clone is a pointer, for every
/// map and every Part of an Object names it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey(Arc<KeyParts>);

/// What an [`ObjectKey`] consists of.
#[derive(Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyParts {
    /// The kind.
    pub kind: ObjectKind,
    /// The namespace; empty for a cluster-scoped kind.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Deref for ObjectKey {
    type Target = KeyParts;

    fn deref(&self) -> &KeyParts {
        &self.0
    }
}

impl ObjectKey {
    /// Names an Object. `namespace` is dropped for a cluster-scoped kind.
    #[must_use]
    pub fn new(kind: ObjectKind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        Self(Arc::new(KeyParts { kind, namespace: namespace.into(), name: name.into() }))
    }

    /// The same key, with this text, which must be equal, as its namespace.
    #[must_use]
    pub(crate) fn sharing(&self, namespace: Arc<str>) -> Self {
        debug_assert_eq!(namespace, self.namespace);
        Self(Arc::new(KeyParts { kind: self.kind, namespace, name: Arc::clone(&self.name) }))
    }

    /// Names another Object of the same namespace.
    #[must_use]
    pub fn beside(&self, kind: ObjectKind, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { Arc::clone(&self.namespace) } else { "".into() };
        Self(Arc::new(KeyParts { kind, namespace, name: name.into() }))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl FromStr for ObjectKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form { text: text.into(), form: "Kind/namespace/name" };
        let (kind, rest) = text.split_once('/').ok_or_else(form)?;
        let kind: ObjectKind = kind.parse()?;
        let (namespace, name) = match (kind.is_namespaced(), rest.split_once('/')) {
            (true, Some((namespace, name))) => (namespace, name),
            (false, None) => ("", rest),
            (true, None) | (false, Some(_)) => return Err(form()),
        };
        if name.is_empty() || name.contains('/') || (kind.is_namespaced() && namespace.is_empty()) {
            return Err(form());
        }
        Ok(Self::new(kind, namespace, name))
    }
}

/// Identifies a Route: its Object and the key of the Rule within it.
///
/// The key of an Ingress path is its host and path, with `=` between them for
/// an exact path and `~` for an implementation specific one, so it stays the
/// same when paths are put in another order: `Ingress/shop/web#a.example/buy`.
/// A default backend has the key `default`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteId {
    /// The Object that holds the Rule.
    pub object: ObjectKey,
    /// The key of the Rule; it may hold any character.
    pub rule: Arc<str>,
}

impl RouteId {
    /// Names the Route of one Rule.
    #[must_use]
    pub fn new(object: ObjectKey, rule: &str) -> Self {
        Self { object, rule: rule.into() }
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.object, self.rule)
    }
}

impl FromStr for RouteId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (object, rule) = text
            .split_once('#')
            .ok_or(NameError::Form { text: text.into(), form: "Kind/namespace/name#rule" })?;
        Ok(Self::new(object.parse()?, rule))
    }
}

/// Identifies a Backend: a Service and one of its ports, or an Upstream.
///
/// Written `Service/shop/web:80` or `Upstream/fin/erp`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BackendId {
    /// The Service or Upstream.
    pub object: ObjectKey,
    /// The Service port; `None` for an Upstream, whose endpoints have ports of their own.
    pub port: Option<u16>,
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.object),
            None => write!(f, "{}", self.object),
        }
    }
}

impl FromStr for BackendId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.rsplit_once(':') {
            None => Ok(Self { object: text.parse()?, port: None }),
            Some((object, port)) => {
                let port = port.parse().map_err(|_| NameError::Form {
                    text: text.into(),
                    form: "Kind/namespace/name:port",
                })?;
                Ok(Self { object: object.parse()?, port: Some(port) })
            }
        }
    }
}

/// Declares names that are any non-empty text.
macro_rules! text_name {
    ($($(#[$doc:meta])+ $name:ident,)*) => {$(
        $(#[$doc])+
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if text.is_empty() { Err(NameError::Empty) } else { Ok(Self(text.into())) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_name! {
    /// Identifies a Listener within its fleet: `http`, `https`.
    ListenerId,
    /// Identifies a Policy: the scope that it belongs to.
    PolicyId,
    /// Identifies a fleet.
    FleetName,
    /// Identifies a replica within its fleet: the name of its machine, unless it was given another.
    ReplicaName,
    /// Identifies a Certificate: the Object that holds it, as text.
    CertificateId,
    /// Identifies a private key: the SHA-256 of its public half, in hexadecimal.
    ///
    /// It reveals nothing about the private half and is the same on every controller.
    SecretId,
}

/// Serialises names as the text that they are written as.
macro_rules! serde_as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;

serde_as_text! {
    Hostname ObjectKind ObjectKey RouteId BackendId
    ListenerId PolicyId FleetName ReplicaName CertificateId SecretId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_lower_case_without_a_trailing_dot() {
        assert_eq!(Hostname::parse("Shop.Example.COM.").unwrap().as_str(), "shop.example.com");
    }

    #[test]
    fn what_is_no_hostname_is_refused() {
        for text in ["", ".", "a..b", "-a.b", "a-.b", "*.a", "a b", "a/b", "ä.de", "a:80"] {
            assert!(Hostname::parse(text).is_err(), "{text:?}");
        }
        assert!(Hostname::parse(&"a".repeat(64)).is_err());
        assert!(Hostname::parse(&["abcd"; 51].join(".")).is_err());
    }

    #[test]
    fn keys_are_read_back_from_their_text() {
        for text in ["Ingress/shop/web", "IngressClass/kubeng"] {
            assert_eq!(text.parse::<ObjectKey>().unwrap().to_string(), text);
        }
        for text in ["Ingress/web", "IngressClass/a/b", "Ingress//web", "Pod/a/b", "Ingress/a/b/c"]
        {
            assert!(text.parse::<ObjectKey>().is_err(), "{text:?}");
        }
        for text in ["Ingress/shop/web#a.example=/x#y", "Upstream/fin/erp#default"] {
            assert_eq!(text.parse::<RouteId>().unwrap().to_string(), text);
        }
        for text in ["Service/shop/web:80", "Upstream/fin/erp"] {
            assert_eq!(text.parse::<BackendId>().unwrap().to_string(), text);
        }
    }
}
