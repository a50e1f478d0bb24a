//! The lines of `htpasswd`: what can be used of them, and why a line cannot.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The hash of one password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PasswordHash {
    /// `$2a$`, `$2b$`, `$2y$`
    Bcrypt(String),
    /// `$5$`, `$6$`
    ShaCrypt(String),
    /// `$apr1$`, which is weak; it is what `htpasswd` writes unless it is told otherwise.
    Apr1 {
        /// 1 to 8 bytes.
        salt: Box<[u8]>,
        /// In the letters of MD5-crypt.
        hash: [u8; APR1_CHARS],
    },
    /// `{SHA}`, which has no salt and is weaker still.
    Sha1([u8; 20]),
}

/// Why nobody can log in by a line. It tells nothing of what stands there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnusableLine {
    /// There is no `:`.
    #[error("it has no colon between name and hash")]
    NoColon,
    /// The hash begins as none that is taken: a password in clear, MD5-crypt, DES, `{SSHA}`.
    #[error("its hash has a form that is not taken")]
    Form,
    /// The hash begins as one that is taken and goes on otherwise.
    #[error("its hash is not whole")]
    Broken,
    /// Checking it would take too long, or its rounds are fewer than the form allows.
    #[error("its cost or its rounds are out of range")]
    Effort,
    /// 10,000 lines that can be used stand before it.
    #[error("10,000 others stand before it")]
    TooMany,
}

/// The names and hashes of `text`, by line from 1. Empty lines and those that begin with `#` are passed
/// over.
pub fn lines(
    text: &str,
) -> impl Iterator<Item = (usize, Result<(&str, PasswordHash), UnusableLine>)> {
    let mut usable = 0;
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(move |(at, line)| {
        let read = read(line).and_then(|user| {
            usable += 1;
            if usable > USERS_MAX { Err(UnusableLine::TooMany) } else { Ok(user) }
        });
        (at + 1, read)
    })
}

fn read(line: &str) -> Result<(&str, PasswordHash), UnusableLine> {
    let (name, hash) = line.split_once(':').ok_or(UnusableLine::NoColon)?;
    Ok((name, PasswordHash::read(hash)?))
}

impl PasswordHash {
    /// Reads what stands behind a name.
    ///
    /// # Errors
    /// For another form, one that is not whole, and for what takes too long to check.
    pub fn read(text: &str) -> Result<Self, UnusableLine> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|start| text.starts_with(start)) {
            return bcrypt(text);
        }
        if let Some(fields) = text.strip_prefix(APR1) {
            let (salt, hash) = fields.split_once('$').ok_or(UnusableLine::Broken)?;
            let is_short = (1..=8).contains(&salt.len());
            let hash = hash.as_bytes().try_into().ok().filter(|_| is_short && is_crypt(hash));
            let hash = hash.ok_or(UnusableLine::Broken)?;
            return Ok(Self::Apr1 { salt: salt.as_bytes().into(), hash });
        }
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            let hash = STANDARD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok());
            return hash.map(Self::Sha1).ok_or(UnusableLine::Broken);
        }
        if let Some(fields) = text.strip_prefix("$5$") {
            return sha_crypt(text, fields, 43);
        }
        if let Some(fields) = text.strip_prefix("$6$") {
            return sha_crypt(text, fields, 86);
        }
        Err(UnusableLine::Form)
    }
}

fn bcrypt(text: &str) -> Result<PasswordHash, UnusableLine> {
    let (cost, rest) =
        text.get(4..).and_then(|it| it.split_once('$')).ok_or(UnusableLine::Broken)?;
    let salt_and_hash = rest.len() == 53 && is_crypt(rest);
    let cost = cost.parse::<u32>().ok().filter(|_| salt_and_hash && cost.len() == 2);
    let cost = cost.ok_or(UnusableLine::Broken)?;
    if !BCRYPT_COSTS.contains(&cost) {
        return Err(UnusableLine::Effort);
    }
    Ok(PasswordHash::Bcrypt(text.to_owned()))
}

fn sha_crypt(text: &str, fields: &str, hash_chars: usize) -> Result<PasswordHash, UnusableLine> {
    let (rounds, fields) = match fields.strip_prefix("rounds=") {
        Some(rest) => rest.split_once('$').ok_or(UnusableLine::Broken)?,
        None => ("5000", fields),
    };
    let (salt, hash) = fields.split_once('$').ok_or(UnusableLine::Broken)?;
    if !is_salt(salt) || hash.len() != hash_chars || !is_crypt(hash) {
        return Err(UnusableLine::Broken);
    }
    let rounds = rounds.parse::<u32>().map_err(|_| UnusableLine::Broken)?;
    if !SHA_ROUNDS.contains(&rounds) {
        return Err(UnusableLine::Effort);
    }
    Ok(PasswordHash::ShaCrypt(text.to_owned()))
}

/// Whether `text` is made of the letters that crypt writes, and is not empty.
fn is_crypt(text: &str) -> bool {
    let is_letter = |byte: u8| matches!(byte, b'.' | b'/') || byte.is_ascii_alphanumeric();
    !text.is_empty() && text.bytes().all(is_letter)
}

/// Salts of other programs may hold more than those of crypt.
fn is_salt(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "./+=,-".contains(c);
    !text.is_empty() && text.chars().all(is_letter)
}

/// How many characters the hash of [`PasswordHash::Apr1`] has.
pub const APR1_CHARS: usize = 22;
const APR1: &str = "$apr1$";
/// The highest takes about a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
const SHA_ROUNDS: std::ops::RangeInclusive<u32> = 1000..=200_000;
/// Names in one Secret.
const USERS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";
    const SHA256: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";

    #[track_caller]
    fn check(hash: &str, expected: Result<(), UnusableLine>) {
        assert_eq!(PasswordHash::read(hash).map(|_| ()), expected, "{hash}");
    }

    #[test]
    fn what_lets_nobody_in_says_why() {
        check(BCRYPT, Ok(()));
        check(&BCRYPT.replace("$12$", "$14$"), Ok(()));
        check(&BCRYPT.replace("$12$", "$15$"), Err(UnusableLine::Effort));
        check(&BCRYPT.replace("$12$", "$03$"), Err(UnusableLine::Effort));
        check(&BCRYPT[..59], Err(UnusableLine::Broken));
        check(&format!("{BCRYPT}:more"), Err(UnusableLine::Broken));
        check("$2y$", Err(UnusableLine::Broken));
        check("$2y$1", Err(UnusableLine::Broken));
        check(SHA256, Ok(()));
        check(&SHA256.replace("$5$", "$5$rounds=200000$"), Ok(()));
        check(&SHA256.replace("$5$", "$5$rounds=200001$"), Err(UnusableLine::Effort));
        check(&SHA256.replace("$5$", "$5$rounds=999$"), Err(UnusableLine::Effort));
        check(&SHA256.replace("$5$", "$6$"), Err(UnusableLine::Broken));
        check(&SHA256[..50], Err(UnusableLine::Broken));
        check("$5$", Err(UnusableLine::Broken));
        check("$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/", Ok(()));
        check("$apr1$$zBSE1W5B4GkZUvzzKQlWP/", Err(UnusableLine::Broken));
        check("$apr1$toolongsalt$zBSE1W5B4GkZUvzzKQlWP/", Err(UnusableLine::Broken));
        check("$apr1$salt$short", Err(UnusableLine::Broken));
        check("$apr1$salt", Err(UnusableLine::Broken));
        check("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", Ok(()));
        check("{SHA}!", Err(UnusableLine::Broken));
        check("{SHA}c2hvcnQ=", Err(UnusableLine::Broken));
        for form in ["", "secret", "$1$salt$hash", "rl.3StKT.4T8M", "{PLAIN}secret", "{SSHA}5en6"] {
            check(form, Err(UnusableLine::Form));
        }
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let text = format!("# people\n\n ann:{BCRYPT} \nbob\ncyd:plain\n");
        let read: Vec<_> = lines(&text).map(|(at, it)| (at, it.map(|(name, _)| name))).collect();
        let expected =
            [(3, Ok("ann")), (4, Err(UnusableLine::NoColon)), (5, Err(UnusableLine::Form))];
        assert_eq!(read, expected);
        let many = format!("ann:{SHA256}\n").repeat(USERS_MAX + 1);
        assert_eq!(lines(&many).last(), Some((USERS_MAX + 1, Err(UnusableLine::TooMany))));
    }
}
