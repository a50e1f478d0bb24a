//! Logins.

use kubeng_config::filter::Filter;
use kubeng_config::filter::basic_auth::{BasicAuth, Realm};
use kubeng_config::filter::external_auth::ExternalAuth;
use kubeng_config::filter::headers::FieldValue;
use kubeng_config::filter::jwt::{Jwt, JwtKeys};
use kubeng_config::htpasswd;
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::patch::auth::{Basic, External, JwkSet, JwtPatch, Keys};
use kubeng_config::patch::reference::SecretRef;
use kubeng_config::path::CanonicalPath;
use kubeng_config::problem::{BAD_VALUE, USERS_UNUSABLE};

use super::{Made, backend, misfit};
use crate::kind::secret::{KEY_SET, SIGNING_KEY, USERS};
use crate::translate::credential::Credentials;
use crate::translate::refusal::Refused;
use crate::world::view::View;

pub(super) fn basic(view: &mut View<'_>, object: &ObjectKey, basic: &Basic) -> Made {
    let Basic { secret_ref, realm, user_header } = basic;
    let needed = || misfit("a login needs a list of users", "write auth.basic.secretRef.name");
    let users = secret(view, object, secret_ref.as_ref().ok_or_else(needed)?);
    let (users, _) = users.entry(USERS)?;
    let realm = match realm {
        Some(realm) => realm.clone(),
        None => default_realm()?,
    };
    Ok(Some(Filter::BasicAuth(BasicAuth {
        users: users.clone(),
        realm,
        user_header: user_header.clone(),
    })))
}

/// By which lines of its users nobody can log in, if there are any. The others count all the same.
pub(super) fn unusable_users(
    view: &mut View<'_>,
    object: &ObjectKey,
    basic: &Basic,
) -> Option<Refused> {
    let reference = basic.secret_ref.as_ref()?;
    let held = secret(view, object, reference);
    let (_, secret) = held.entry(USERS).ok()?;
    let text = String::from_utf8_lossy(secret.expose());
    let lines: Vec<_> = htpasswd::lines(&text).map(|(at, line)| (at, line.err())).collect();
    let faults: Vec<_> = lines.iter().filter_map(|(at, fault)| Some((at, (*fault)?))).collect();
    let name = reference.name.as_str();
    let message = if lines.is_empty() {
        format!("the entry {USERS:?} of Secret {name:?} has no line, so nobody can log in")
    } else if faults.is_empty() {
        return None;
    } else {
        // Never what stands there: it may be a password.
        let shown = faults.iter().take(LINES_SHOWN);
        let mut shown: Vec<String> =
            shown.map(|(at, fault)| format!("line {at}: {fault}")).collect();
        let more = faults.len().saturating_sub(LINES_SHOWN);
        shown.extend((more > 0).then(|| format!("and {more} more")));
        let shown = shown.join("; ");
        format!("nobody can log in by these of the entry {USERS:?} of Secret {name:?}: {shown}")
    };
    let remedy = "write name:hash, with a hash by bcrypt, SHA-crypt ($5$, $6$), $apr1$ or {SHA}";
    Some(Refused::new(USERS_UNUSABLE, message, remedy))
}

fn default_realm() -> Result<Realm, Refused> {
    let value = FieldValue(http::HeaderValue::from_static("Login"));
    Realm::try_from(value).map_err(|error| misfit(error, "write auth.basic.realm"))
}

pub(super) fn jwt(view: &mut View<'_>, object: &ObjectKey, written: &JwtPatch) -> Made {
    let JwtPatch {
        issuer,
        audiences,
        keys,
        algorithms,
        cookie,
        leeway_seconds,
        claims_to_headers,
        required,
    } = written;
    let needed = || {
        let message = "tokens cannot be judged without issuer, keys and algorithms";
        misfit(message, "write auth.jwt.issuer, keys and algorithms")
    };
    let algorithms = algorithms.clone().filter(|all| !all.is_empty()).ok_or_else(needed)?;
    let jwt = Jwt {
        issuer: issuer.clone().ok_or_else(needed)?,
        audiences: audiences.clone().unwrap_or_default(),
        keys: jwt_keys(view, object, keys.as_ref().ok_or_else(needed)?)?,
        algorithms,
        cookie: cookie.clone(),
        leeway_seconds: leeway_seconds.unwrap_or(kubeng_config::bounded::Between::clamped(60)),
        claims_to_headers: claims_to_headers.clone().unwrap_or_default(),
        required: required.clone().unwrap_or_default(),
    };
    Ok(Some(Filter::Jwt(Box::new(jwt))))
}

fn jwt_keys(view: &mut View<'_>, object: &ObjectKey, keys: &Keys) -> Result<JwtKeys, Refused> {
    match keys {
        Keys::Jwks(keys) => Ok(JwtKeys::Inline(keys.clone())),
        Keys::Secret(reference) => {
            let held = secret(view, object, reference);
            let (id, key) = held.entry(SIGNING_KEY)?;
            if key.expose().len() < SIGNING_KEY_BYTES_MIN {
                let message = "a key that signs is shorter than 32 bytes".to_owned();
                return Err(Refused::new(BAD_VALUE, message, "store a longer one"));
            }
            Ok(JwtKeys::Secret(id.clone()))
        }
        Keys::JwksSecret(reference) => {
            key_set(view, &object.beside(ObjectKind::Secret, reference.name.as_str()))
        }
        Keys::JwksConfigMap(reference) => {
            key_set(view, &object.beside(ObjectKind::ConfigMap, reference.name.as_str()))
        }
    }
}

/// The public keys in the entry `jwks.json` of a Secret or ConfigMap.
fn key_set(view: &mut View<'_>, key: &ObjectKey) -> Result<JwtKeys, Refused> {
    let held = view.credentials(key);
    let (_, set) = held.entry(KEY_SET)?;
    JwkSet::read(set.expose()).map(JwtKeys::Inline).map_err(|why| {
        let message = format!("the key set of {} {:?} cannot be used: {why}", key.kind, key.name);
        Refused::new(BAD_VALUE, message, "store a JSON Web Key Set of public keys")
    })
}

pub(super) fn external(view: &mut View<'_>, object: &ObjectKey, written: &External) -> Made {
    let External {
        backend: asked,
        method,
        path,
        append_path,
        host,
        request_headers,
        copy_headers,
        answer_headers,
        timeout,
        questions_max,
        if_unanswered,
    } = written;
    let needed =
        || misfit("nobody is named to be asked", "write auth.external.backend with name and port");
    let path = match path {
        Some(path) => path.clone(),
        None => CanonicalPath::of_rule("/")
            .map_err(|error| misfit(error.to_string(), "write auth.external.path"))?,
    };
    let filter = ExternalAuth {
        backend: backend(view, object, asked.as_ref().ok_or_else(needed)?)?,
        method: method.unwrap_or_default(),
        path,
        append_path: append_path.unwrap_or_default(),
        host: host.clone(),
        request_headers: request_headers.clone().unwrap_or_default(),
        copy_headers: copy_headers.clone().unwrap_or_default(),
        answer_headers: answer_headers.clone().unwrap_or_default(),
        timeout_millis: kubeng_config::bounded::Between::clamped(
            timeout.map_or(2_000, kubeng_config::patch::scalar::Span::millis),
        ),
        questions_max: questions_max.unwrap_or(kubeng_config::bounded::Between::clamped(256)),
        if_unanswered: if_unanswered.unwrap_or_default(),
    };
    Ok(Some(Filter::ExternalAuth(Box::new(filter))))
}

fn secret(
    view: &mut View<'_>,
    object: &ObjectKey,
    reference: &SecretRef,
) -> std::sync::Arc<Credentials> {
    view.credentials(&object.beside(ObjectKind::Secret, reference.name.as_str()))
}

/// Lines that one Problem names.
const LINES_SHOWN: usize = 5;
const SIGNING_KEY_BYTES_MIN: usize = 32;
