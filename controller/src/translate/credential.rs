//! What filters need of Secrets and ConfigMaps: lists of users, keys of signatures, sets of public keys.

use std::collections::BTreeMap;

use kubeng_config::canonical::Digest;
use kubeng_config::certificate::Secret;
use kubeng_config::name::{ObjectKey, ObjectKind, SecretId};
use kubeng_config::problem::{CONFIG_MAP_NOT_FOUND, SECRET_NOT_FOUND};

use super::refusal::Refused;
use crate::kind::Body;
use crate::kind::secret::{Access, KEY_SET, denied};
use crate::world::view::View;

/// The entries of a Secret or ConfigMap that filters need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Credentials {
    key: ObjectKey,
    access: Access,
    entries: BTreeMap<&'static str, (SecretId, Secret)>,
}

impl Credentials {
    /// The entry called `name`, and what stands for it where it may be seen.
    pub(crate) fn entry(&self, name: &str) -> Result<&(SecretId, Secret), Refused> {
        self.entries.get(name).ok_or_else(|| {
            let is_map = self.key.kind == ObjectKind::ConfigMap;
            let code = if is_map { CONFIG_MAP_NOT_FOUND } else { SECRET_NOT_FOUND };
            if self.access == Access::Denied {
                let (message, remedy) = denied(&self.key);
                return Refused::new(code, message, remedy);
            }
            let (kind, held) = (self.key.kind, &self.key.name);
            let message = format!(
                "{kind} {held:?} does not exist in this namespace, or has no entry {name:?}"
            );
            let remedy = format!("create it with the entry {name:?}, or name another one");
            Refused::new(code, message, remedy)
        })
    }

    /// The bytes that `id` stands for.
    pub(crate) fn of(&self, id: &SecretId) -> Option<&Secret> {
        self.entries.values().find(|(known, _)| known == id).map(|(_, secret)| secret)
    }
}

/// What the Secret or ConfigMap of `key` holds for filters.
pub(crate) fn credentials(view: &mut View<'_>, key: &ObjectKey) -> Credentials {
    let object = view.object(key);
    let entry = |name, secret: &Secret| (name, (id(key, name, secret), secret.clone()));
    let is_denied = object.as_ref().is_some_and(|object| object.is_denied());
    let access = if is_denied { Access::Denied } else { Access::Granted };
    let entries = match object.as_deref().map(|object| &object.body) {
        Some(Body::Secret(written)) => {
            written.credentials.iter().map(|(name, secret)| entry(*name, secret)).collect()
        }
        Some(Body::ConfigMap(written)) => {
            let set = written.key_set.as_deref().map(|text| Secret::new(text.as_bytes().to_vec()));
            set.iter().map(|set| entry(KEY_SET, set)).collect()
        }
        None
        | Some(
            Body::Ingress(_)
            | Body::IngressClass(_)
            | Body::Service(_)
            | Body::EndpointSlice(_)
            | Body::Upstream(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_),
        ) => BTreeMap::new(),
    };
    Credentials { key: key.clone(), access, entries }
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
