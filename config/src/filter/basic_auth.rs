//! A login with name and password (RFC 7617).

use serde::{Deserialize, Serialize};

use super::headers::FieldValue;
use crate::editable::EditableName;
use crate::name::SecretId;

/// Lets in who knows a name and its password; all others get 401.
///
/// The names and hashes are a Secret, one `name:hash` a line as `htpasswd` writes them, with bcrypt
/// (`$2a$`, `$2b$`, `$2y$`, cost 4 to 14), SHA-crypt (`$5$`, `$6$`, 1,000 to 200,000 rounds), and,
/// for files that are there, the weak `$apr1$` and `{SHA}`; at most 10,000 of them.
/// A line in another form lets nobody in: see [`htpasswd`](crate::htpasswd). Without the Secret the answer is 503.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BasicAuth {
    /// The names and hashes. Other contents have another id.
    pub users: SecretId,
    /// What browsers show when they ask; it holds no `"` and no `\`.
    pub realm: Realm,
    /// The header in which the Backend gets the name; what a client puts there is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_header: Option<EditableName>,
}

/// The name of what a login is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "FieldValue", into = "FieldValue")]
pub struct Realm(FieldValue);

impl Realm {
    /// The realm as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.0.to_str().unwrap_or_default()
    }
}

impl TryFrom<FieldValue> for Realm {
    type Error = String;

    fn try_from(value: FieldValue) -> Result<Self, String> {
        if value.0.as_bytes().iter().any(|byte| matches!(byte, b'"' | b'\\')) {
            return Err("a realm holds no quote and no backslash".to_owned());
        }
        Ok(Self(value))
    }
}

impl From<Realm> for FieldValue {
    fn from(realm: Realm) -> Self {
        realm.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_cannot_leave_its_quotes() {
        assert!(serde_json::from_str::<Realm>("\"Members only\"").is_ok());
        for text in [r#""a\"b""#, r#""a\\b""#, r#""a\nb""#] {
            assert!(serde_json::from_str::<Realm>(text).is_err(), "{text}");
        }
    }
}
