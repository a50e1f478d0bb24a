//! The bytes of one file.
//!
//! ```text
//! magic  version  statement  parts  endpoints  secrets  SHA-256 of all before it
//! ```
//!
//! Numbers are big-endian; a text or a run of bytes stands behind its length in 32 bits, a list behind
//! its count. Parts and Statement are in canonical form, so that their digests are those of the bytes.

use std::fmt::Display;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use kubeng_config::canonical;
use kubeng_config::certificate::Secret;
use kubeng_config::compact::Compact;
use kubeng_config::delta::{AnyPart, Delta};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::name::{BackendId, SecretId};
use kubeng_config::part::Part;
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::SignedStatement;
use ring::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{Damage, DataKey, Saved};
use crate::table::writer::Secrets;

/// What one file holds.
pub(super) struct Contents<'a> {
    pub(super) statement: &'a SignedStatement,
    pub(super) snapshot: &'a Snapshot,
    pub(super) endpoints: &'a [(BackendId, Arc<EndpointSet>)],
    pub(super) secrets: &'a Secrets,
}

/// Writes a file to `to`, Part by Part; gives the SHA-256 of the whole.
pub(super) fn write(
    contents: &Contents<'_>,
    key: Option<&DataKey>,
    to: &mut impl Write,
) -> io::Result<[u8; 32]> {
    let Contents { statement, snapshot, endpoints, secrets } = contents;
    let mut out = Hashing { to, body: digest::Context::new(&digest::SHA256) };
    out.put(MAGIC)?;
    out.put(&VERSION.to_be_bytes())?;
    out.run(&canonical::to_bytes(statement))?;
    write_parts(snapshot, &mut out)?;
    out.count(endpoints.len())?;
    for (id, set) in *endpoints {
        out.run(id.to_string().as_bytes())?;
        out.run(&canonical::to_bytes(&set.as_slice()))?;
    }
    let plain = secret_list(secrets)?;
    match key {
        None => {
            out.put(&[PLAIN])?;
            out.run(&plain)?;
        }
        Some(key) => {
            let sealed = key.seal(plain.to_vec());
            out.put(&[SEALED])?;
            out.run(&sealed.ok_or_else(|| io::Error::other("no random bytes"))?)?;
        }
    }
    let Hashing { to, body } = out;
    let whole = body.clone();
    let checksum = body.finish();
    to.write_all(checksum.as_ref())?;
    let mut whole = whole;
    whole.update(checksum.as_ref());
    Ok(bytes_of(&whole.finish()))
}

fn bytes_of(digest: &digest::Digest) -> [u8; 32] {
    digest.as_ref().try_into().unwrap_or_default()
}

/// The SHA-256 of a whole file.
pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    bytes_of(&digest::digest(&digest::SHA256, bytes))
}

fn write_parts<W: Write>(snapshot: &Snapshot, out: &mut Hashing<'_, W>) -> io::Result<()> {
    let counts = [
        snapshot.listeners().len(),
        snapshot.policies().len(),
        snapshot.backends().len(),
        snapshot.certificates().len(),
        snapshot.server_names().len(),
        snapshot.routes().len(),
    ];
    out.count(counts.iter().sum())?;
    macro_rules! write {
        ($($map:ident as $kind:ident),*) => {$(
            for (id, part) in snapshot.$map().iter() {
                out.put(&[Kind::$kind as u8])?;
                out.run(id.to_string().as_bytes())?;
                out.run(&part.bytes())?;
            }
        )*};
    }
    write!(
        listeners as Listener,
        policies as Policy,
        backends as Backend,
        certificates as Certificate,
        server_names as ServerName,
        routes as Route
    );
    Ok(())
}

fn secret_list(secrets: &Secrets) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut all: Vec<(&SecretId, &Secret)> = secrets.0.iter().collect();
    all.sort_by_key(|(id, _)| *id);
    let bytes = all.iter().map(|(id, secret)| 8 + id.as_str().len() + secret.expose().len());
    // Never grown: what it would leave behind would not be wiped.
    let mut list = Zeroizing::new(Vec::with_capacity(4 + bytes.sum::<usize>()));
    list.extend_from_slice(&length(all.len())?);
    for (id, secret) in all {
        for run in [id.as_str().as_bytes(), secret.expose()] {
            list.extend_from_slice(&length(run.len())?);
            list.extend_from_slice(run);
        }
    }
    Ok(list)
}

fn length(of: usize) -> io::Result<[u8; 4]> {
    let of = u32::try_from(of).map_err(|_| io::Error::other("more than a file can hold"))?;
    Ok(of.to_be_bytes())
}

/// Hashes what it passes on.
struct Hashing<'a, W> {
    to: &'a mut W,
    body: digest::Context,
}

impl<W: Write> Hashing<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.body.update(bytes);
        self.to.write_all(bytes)
    }

    fn count(&mut self, count: usize) -> io::Result<()> {
        self.put(&length(count)?)
    }

    fn run(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count(bytes.len())?;
        self.put(bytes)
    }
}

/// Reads a file. What it says is not to be believed yet: see [`super::load`].
pub(super) fn read(bytes: &[u8], key: Option<&DataKey>) -> Result<Saved, Damage> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damage::Foreign)?;
    let (version, _) = rest.split_first_chunk::<4>().ok_or(Damage::Checksum)?;
    let version = u32::from_be_bytes(*version);
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let (body, checksum) = bytes.split_last_chunk::<32>().ok_or(Damage::Checksum)?;
    if hash(body) != *checksum {
        return Err(Damage::Checksum);
    }
    let mut reader = Reader(body.get(MAGIC.len() + 4..).ok_or(Damage::Checksum)?);
    let statement = reader.run()?;
    let statement: SignedStatement =
        canonical::from_bytes(statement).map_err(|source| contents("the statement", source))?;
    let mut delta = Delta {
        base: Snapshot::default().digest(),
        target: statement.statement.target,
        ..Delta::default()
    };
    let mut compact = Compact::default();
    for _ in 0..reader.count()? {
        let [kind] = reader.chunk::<1>()?;
        let (name, bytes) = (reader.text()?, reader.run()?);
        delta.upserts.push(compact.part(read_part(kind, name, bytes)?));
    }
    for _ in 0..reader.count()? {
        let (name, bytes) = (reader.text()?, reader.run()?);
        let endpoints: Vec<Endpoint> = canonical::from_bytes(bytes)
            .map_err(|source| contents(&format!("the endpoints of {name:?}"), source))?;
        delta.endpoints.push((id(name)?, Arc::new(EndpointSet::new(endpoints))));
    }
    let [form] = reader.chunk::<1>()?;
    delta.secrets = read_secrets(form, reader.run()?, key)?;
    if reader.0.is_empty() { Ok(Saved { statement, delta }) } else { Err(Damage::Checksum) }
}

fn read_secrets(
    form: u8,
    bytes: &[u8],
    key: Option<&DataKey>,
) -> Result<Vec<(SecretId, Secret)>, Damage> {
    let opened = match (form, key) {
        (PLAIN, None) => None,
        // Whoever wants them encrypted must not be handed others.
        (PLAIN, Some(_)) => return Err(Damage::Sealed("its secrets are not encrypted")),
        (SEALED, None) => {
            return Err(Damage::Sealed("its secrets are encrypted: --data-key-file is missing"));
        }
        (SEALED, Some(key)) => Some(
            key.open(bytes).ok_or(Damage::Sealed("its secrets were encrypted with another key"))?,
        ),
        _ => return Err(Damage::Sealed("its secrets are in an unknown form")),
    };
    let mut reader = Reader(opened.as_ref().map_or(bytes, |opened| opened.as_slice()));
    let mut secrets = Vec::new();
    for _ in 0..reader.count()? {
        let (name, bytes) = (reader.text()?, reader.run()?);
        secrets.push((id(name)?, Secret::new(bytes.to_vec())));
    }
    Ok(secrets)
}

fn read_part(kind: u8, name: &str, bytes: &[u8]) -> Result<AnyPart, Damage> {
    fn value<V: Serialize + DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<Part<V>, Damage> {
        Part::read(bytes).map_err(|source| contents(&format!("the part {name:?}"), source))
    }
    macro_rules! read {
        ($($kind:ident)*) => {
            match kind {
                $(kind if kind == Kind::$kind as u8 => {
                    AnyPart::$kind(id(name)?, value(name, bytes)?)
                })*
                _ => return Err(contents("a part", format!("its kind {kind} is unknown"))),
            }
        };
    }
    Ok(read!(Listener Policy Backend Certificate ServerName Route))
}

fn id<T: FromStr<Err: Display>>(text: &str) -> Result<T, Damage> {
    text.parse().map_err(|error: T::Err| contents(&format!("the name {text:?}"), error.to_string()))
}

fn contents(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Damage {
    Damage::Contents { what: what.to_owned(), source: source.into() }
}

/// What is left to read. The checksum was right, so a length that does not fit was written so.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const LEN: usize>(&mut self) -> Result<[u8; LEN], Damage> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(Damage::Checksum)?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn count(&mut self) -> Result<usize, Damage> {
        let count = u32::from_be_bytes(self.chunk()?);
        usize::try_from(count).map_err(|_| Damage::Checksum)
    }

    fn run(&mut self) -> Result<&'a [u8], Damage> {
        let (run, rest) =
            self.count().map(|len| self.0.split_at_checked(len))?.ok_or(Damage::Checksum)?;
        self.0 = rest;
        Ok(run)
    }

    fn text(&mut self) -> Result<&'a str, Damage> {
        str::from_utf8(self.run()?).map_err(|source| contents("a name", source))
    }
}

/// What a Part is, in the file.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Kind {
    Listener = 1,
    Policy = 2,
    Backend = 3,
    Certificate = 4,
    ServerName = 5,
    Route = 6,
}

pub(super) const MAGIC: &[u8] = b"KUBENGKG";
/// Grows when an older program could not read it.
pub(super) const VERSION: u32 = 1;
const PLAIN: u8 = 0;
const SEALED: u8 = 1;
