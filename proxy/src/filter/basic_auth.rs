//! A login with name and password (RFC 7617).
//!
//! Checking a password is slow by design, so the engine does it beside the worker, few at a time;
//! who was right lately is known by a keyed hash, and is not checked again.

mod hash;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use kubeng_config::certificate::Secret;
use kubeng_config::filter::basic_auth::BasicAuth;
use kubeng_config::htpasswd::{self, PasswordHash};
use ring::hmac;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Question, Step, Target, Told};
use crate::keyed::{Keyed, Spare};
use crate::reply::Reply;
use crate::request::{Extra, RequestEdit};

/// Names and hashes, and who was right lately.
pub(crate) struct Users {
    hashes: HashMap<String, PasswordHash>,
    /// Checked in the place of a name that nobody has, so that names cannot be found by the clock.
    of_nobody: Option<PasswordHash>,
    /// Made anew with each list, and never told.
    key: hmac::Key,
    right: Keyed<Right>,
    turn: AtomicU64,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Users({})", self.hashes.len())
    }
}

/// A name and password that were right; the oldest gives way.
#[derive(Clone, Debug)]
struct Right {
    tag: [u8; 32],
    turn: u64,
}

impl Spare for Right {
    fn spare(&self) -> Option<u64> {
        Some(self.turn)
    }
}

/// A name and password that have to be checked.
pub(crate) struct Attempt {
    users: Arc<Users>,
    tag: [u8; 32],
    name: String,
    password: Zeroizing<String>,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the name nor the password belongs into a log.
        f.write_str("Attempt(..)")
    }
}

/// What became of an [`Attempt`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Checked {
    Right,
    Wrong,
    /// Too many are being checked.
    Busy,
}

impl Users {
    /// Reads the lines of a Secret; None when there can be no key for the memory of them.
    pub(crate) fn read(secret: &Secret) -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).ok()?;
        let text = String::from_utf8_lossy(secret.expose());
        // Who names the Secret is told of the lines that let nobody in.
        let usable = htpasswd::lines(&text).filter_map(|(_, line)| line.ok());
        let hashes: HashMap<String, PasswordHash> =
            usable.map(|(name, hash)| (name.to_owned(), hash)).collect();
        let of_nobody = hashes.values().max_by_key(|hash| hash::slowness(hash)).cloned();
        let right = Keyed::new(RIGHT_MAX);
        Some(Self { hashes, of_nobody, key, right, turn: AtomicU64::new(0) })
    }

    fn tag(&self, name: &str, password: &str) -> [u8; 32] {
        // A name holds no colon, so no two pairs are one text.
        let text = Zeroizing::new(format!("{name}:{password}"));
        let tag = hmac::sign(&self.key, text.as_bytes());
        tag.as_ref().try_into().unwrap_or_default()
    }

    /// Whether this pair was right lately. The tags are keyed, so the clock tells nothing of use.
    fn is_known(&self, tag: &[u8; 32]) -> bool {
        self.right.with_known(number(tag), |right| right.tag == *tag).unwrap_or(false)
    }
}

fn number(tag: &[u8; 32]) -> u64 {
    tag.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

impl Attempt {
    /// Checks it, which takes long. What was right is remembered.
    pub(crate) fn check(self) -> Checked {
        let Self { users, tag, name, password } = self;
        let hash = users.hashes.get(&name);
        let Some(checked) = hash.or(users.of_nobody.as_ref()) else { return Checked::Wrong };
        if !hash::accepts(checked, &password) || hash.is_none() {
            return Checked::Wrong;
        }
        let turn = users.turn.fetch_add(1, Ordering::Relaxed);
        users.right.with(number(&tag), Right { tag, turn }, |right| right.tag = tag);
        Checked::Right
    }
}

/// Checks passwords beside the workers, few at a time: each takes a core for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Passwords {
    running: Arc<Semaphore>,
    /// Those that run and those that wait.
    all: Semaphore,
}

impl Passwords {
    /// As many at a time as there are workers.
    pub(crate) fn new(workers: usize) -> Self {
        let all = Semaphore::new(workers + WAITING_MAX);
        Self { running: Arc::new(Semaphore::new(workers)), all }
    }

    /// What becomes of `attempt`. A check that has begun goes on to its end, also when nobody waits.
    pub(crate) async fn check(&self, attempt: Attempt) -> Checked {
        let Ok(_place) = self.all.try_acquire() else { return Checked::Busy };
        let turn = timeout(WAIT_MAX, self.running.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Checked::Busy };
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            attempt.check()
        });
        checked.await.unwrap_or(Checked::Wrong)
    }
}

/// Lets a login pass that is known, refuses a request without one, and asks about the rest.
pub(crate) fn on_request(
    auth: &BasicAuth,
    users: Option<&Arc<Users>>,
    target: &Target<'_>,
    extra: &mut Extra,
) -> Step {
    let Some(users) = users else { return Step::status(StatusCode::SERVICE_UNAVAILABLE) };
    let Some((name, password)) = credentials(target.headers) else { return refused(auth) };
    let tag = users.tag(&name, &password);
    if users.is_known(&tag) {
        return passed(auth, &name, extra);
    }
    Step::Ask(Question::Password(Attempt { users: users.clone(), tag, name, password }))
}

/// Goes on with what became of the attempt.
pub(crate) fn resume(auth: &BasicAuth, told: Told, target: &Target<'_>, extra: &mut Extra) -> Step {
    let Told::Password(checked) = told else {
        return Step::status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    match (checked, credentials(target.headers)) {
        (Checked::Right, Some((name, _))) => passed(auth, &name, extra),
        (Checked::Right, None) | (Checked::Wrong, _) => refused(auth),
        (Checked::Busy, _) => {
            let mut reply = Reply::of(StatusCode::SERVICE_UNAVAILABLE);
            reply.fields.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
            Step::Reply(reply)
        }
    }
}

fn passed(auth: &BasicAuth, name: &str, extra: &mut Extra) -> Step {
    if let Some(header) = &auth.user_header {
        extra.edits.push(match HeaderValue::from_str(name) {
            Ok(name) => RequestEdit::Set(header.name().clone(), name),
            Err(_) => RequestEdit::Remove(header.name().clone()),
        });
    }
    Step::Pass
}

fn refused(auth: &BasicAuth) -> Step {
    let mut reply = Reply::of(StatusCode::UNAUTHORIZED);
    let asked = format!("Basic realm=\"{}\", charset=\"UTF-8\"", auth.realm.as_str());
    let asked = HeaderValue::from_str(&asked).ok();
    reply.fields.extend(asked.map(|asked| (header::WWW_AUTHENTICATE, asked)));
    Step::Reply(reply)
}

/// Name and password of the one `Authorization` field.
fn credentials(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, encoded) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > CREDENTIALS_BYTES_MAX {
        return None;
    }
    let bytes = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (name, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((name.to_owned(), Zeroizing::new(password.to_owned())))
}

/// Passwords that wait for their turn; what comes above is told to come again.
const WAITING_MAX: usize = 64;
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Logins that are remembered.
const RIGHT_MAX: usize = 4096;
/// The encoded name and password; a long password is slow to hash.
const CREDENTIALS_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::AskedFor;

    fn users(text: &str) -> Arc<Users> {
        Arc::new(Users::read(&Secret::new(text.as_bytes().to_vec())).unwrap())
    }

    fn attempt(users: &Arc<Users>, name: &str, password: &str) -> Checked {
        let tag = users.tag(name, password);
        let password = Zeroizing::new(password.to_owned());
        Attempt { users: users.clone(), tag, name: name.to_owned(), password }.check()
    }

    #[test]
    fn hashes_of_htpasswd_are_read() {
        let bcrypt = bcrypt_of("secret");
        // As another implementation makes them.
        let sha256 = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        let sha512 = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTL\
                      iBFdcbYEdFCoEOfaS35inz1";
        let users = users(&format!(
            "# people\nann:{bcrypt}\nben:{sha256}\ncyd:{sha512}\n\ndan:plain\neve:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\nfay:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
        ));
        assert_eq!(users.hashes.len(), 5);
        assert_eq!(attempt(&users, "ann", "secret"), Checked::Right);
        assert_eq!(attempt(&users, "ann", "Secret"), Checked::Wrong);
        assert_eq!(attempt(&users, "ben", "Hello world!"), Checked::Right);
        assert_eq!(attempt(&users, "cyd", "Hello world!"), Checked::Right);
        assert_eq!(attempt(&users, "cyd", "hello world!"), Checked::Wrong);
        assert_eq!(attempt(&users, "dan", "plain"), Checked::Wrong);
        assert_eq!(attempt(&users, "eve", "secret"), Checked::Right);
        assert_eq!(attempt(&users, "eve", "Secret"), Checked::Wrong);
        assert_eq!(attempt(&users, "fay", "secret"), Checked::Right);
        assert_eq!(attempt(&users, "fay", ""), Checked::Wrong);
        assert_eq!(attempt(&users, "nobody", "secret"), Checked::Wrong);
    }

    fn bcrypt_of(password: &str) -> String {
        bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap().to_string()
    }

    #[test]
    fn who_was_right_is_not_asked_about_again() {
        let auth: BasicAuth =
            serde_json::from_str(r#"{"users":"x","realm":"R","userHeader":"x-user"}"#).unwrap();
        let users = users(&format!("ann:{}", bcrypt_of("secret")));
        let login = format!("Basic {}", STANDARD.encode("ann:secret"));
        let asked = AskedFor::new(&[("authorization", &login), ("x-user", "root")]);
        let mut extra = Extra::default();
        let step = asked.with(|target| on_request(&auth, Some(&users), target, &mut extra));
        let Step::Ask(Question::Password(attempt)) = step else { panic!("{step:?}") };
        assert!(!format!("{attempt:?}").contains("secret"), "{attempt:?}");
        assert_eq!(attempt.check(), Checked::Right);
        let step = asked.with(|target| on_request(&auth, Some(&users), target, &mut extra));
        assert!(matches!(step, Step::Pass), "{step:?}");
        let user = RequestEdit::Set("x-user".parse().unwrap(), "ann".parse().unwrap());
        assert_eq!(extra.edits, [user]);
    }

    #[test]
    fn without_a_login_or_its_secret_nobody_passes() {
        let auth: BasicAuth = serde_json::from_str(r#"{"users":"x","realm":"R"}"#).unwrap();
        let users = users("");
        let check = |headers: &[(&'static str, &str)], users: Option<&Arc<Users>>, status| {
            let asked = AskedFor::new(headers);
            let step = asked.with(|target| on_request(&auth, users, target, &mut Extra::default()));
            let Step::Reply(reply) = step else { panic!("{headers:?}") };
            assert_eq!(reply.status.as_u16(), status, "{headers:?}");
        };
        check(&[], Some(&users), 401);
        check(&[("authorization", "Bearer x")], Some(&users), 401);
        check(&[("authorization", "Basic !")], Some(&users), 401);
        check(&[("authorization", "Basic YTpi"), ("authorization", "x")], Some(&users), 401);
        check(&[("authorization", "Basic YTpi")], None, 503);
    }
}
