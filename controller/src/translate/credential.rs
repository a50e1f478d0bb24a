//! Secrets that filters need: lists of users, keys of signatures, sets of public keys.

use std::collections::BTreeMap;

use kubeng_config::canonical::Digest;
use kubeng_config::certificate::Secret;
use kubeng_config::name::{ObjectKey, SecretId};
use kubeng_config::problem::SECRET_NOT_FOUND;

use super::refusal::Refused;
use crate::kind::Body;
use crate::world::view::View;

/// The entries of a Secret that filters need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Credentials {
    key: ObjectKey,
    entries: BTreeMap<&'static str, (SecretId, Secret)>,
}

impl Credentials {
    /// The entry called `name`, and what stands for it where it may be seen.
    pub(crate) fn entry(&self, name: &str) -> Result<&(SecretId, Secret), Refused> {
        self.entries.get(name).ok_or_else(|| {
            let secret = &self.key.name;
            let message = format!(
                "Secret {secret:?} does not exist in this namespace, or has no entry {name:?}"
            );
            let remedy = format!("create it with the entry {name:?}, or name another one");
            Refused::new(SECRET_NOT_FOUND, message, remedy)
        })
    }

    /// The bytes that `id` stands for.
    pub(crate) fn of(&self, id: &SecretId) -> Option<&Secret> {
        self.entries.values().find(|(known, _)| known == id).map(|(_, secret)| secret)
    }
}

/// What the Secret of `key` holds for filters.
pub(crate) fn credentials(view: &mut View<'_>, key: &ObjectKey) -> Credentials {
    let object = view.object(key);
    let written = object.as_deref().and_then(|object| match &object.body {
        Body::Secret(written) => Some(&written.credentials),
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => None,
    });
    let entries = written.into_iter().flatten();
    let entries = entries.map(|(name, secret)| (*name, (id(key, name, secret), secret.clone())));
    Credentials { key: key.clone(), entries: entries.collect() }
}

/// The Secret that `id` was made from.
pub(crate) fn key_of(id: &SecretId) -> Option<ObjectKey> {
    id.as_str().split_once('#')?.0.parse().ok()
}

/// Other contents have another id, so that a change takes effect. The hash tells nothing that could
/// be guessed with less than the salts of a list of users, or than a token that the key has signed.
fn id(key: &ObjectKey, name: &str, secret: &Secret) -> SecretId {
    let digest = Digest::of([b"kubeng.io/credential\0".as_slice(), secret.expose()]);
    format!("{key}#{name}@{digest}").parse().expect("it holds signs of its own")
}
