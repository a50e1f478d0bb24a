//! OCSP responses for the certificate of a Secret: what they say, and until when.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use kubeng_config::certificate::Der;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// An OCSP response that says that a certificate is good, for as long as it holds.
///
/// Its signature is not verified: those who get it do that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Staple {
    /// The response in DER (RFC 6960 section 4.2.1).
    pub response: Der,
    /// Its nextUpdate, in seconds since 1970.
    pub ends: i64,
}

impl Staple {
    /// Reads `response`, which should be about the first certificate of `chain` in PEM.
    ///
    /// # Errors
    /// In words, when it could not be stapled to it.
    pub(crate) fn read(response: &[u8], chain: Option<&[u8]>) -> Result<Self, String> {
        if response.len() > RESPONSE_BYTES_MAX {
            return Err(format!("it has {} bytes, more than {RESPONSE_BYTES_MAX}", response.len()));
        }
        let serial =
            chain.and_then(serial).ok_or("there is no certificate that it could be for")?;
        let single = single_of(response, &serial)?;
        let ends = single.ends.ok_or("it does not say until when it holds (nextUpdate)")?;
        match single.status {
            Status::Good => Ok(Self { response: Der(Arc::from(response)), ends }),
            Status::Revoked => Err("it says that the certificate is revoked".to_owned()),
            Status::Unknown => Err("its authority does not know the certificate".to_owned()),
        }
    }
}

/// What is said about one certificate.
struct Single {
    status: Status,
    ends: Option<i64>,
}

enum Status {
    Good,
    Revoked,
    Unknown,
}

/// The number of the first certificate in PEM.
fn serial(chain: &[u8]) -> Option<Vec<u8>> {
    let first = CertificateDer::pem_slice_iter(chain).next()?.ok()?;
    let (_, parsed) = X509Certificate::from_der(&first).ok()?;
    Some(magnitude(parsed.raw_serial()).to_vec())
}

/// A number without the zeros in front, which only say that it is not negative.
fn magnitude(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// What `response` says about the certificate of this number.
fn single_of(response: &[u8], serial: &[u8]) -> Result<Single, String> {
    let mut parts = basic_of(response)?;
    let mut about = parts.sequence()?;
    if about.is_context(0) {
        about.next()?; // version
    }
    about.next()?; // responderID
    about.next()?; // producedAt
    let mut singles = about.sequence()?;
    while !singles.0.is_empty() {
        let mut single = singles.sequence()?;
        let mut certificate = single.sequence()?;
        for _ in ["hashAlgorithm", "issuerNameHash", "issuerKeyHash"] {
            certificate.next()?;
        }
        if magnitude(certificate.universal(Tag::Integer)?) != serial {
            continue;
        }
        let status = match single.next()?.header.tag().0 {
            0 => Status::Good,
            1 => Status::Revoked,
            _ => Status::Unknown,
        };
        single.next()?; // thisUpdate
        let ends = if single.is_context(0) { Some(time(single.next()?.data)?) } else { None };
        return Ok(Single { status, ends });
    }
    Err("it is for another certificate: it does not hold the serial number of tls.crt".to_owned())
}

/// The parts of the BasicOCSPResponse in it.
fn basic_of(response: &[u8]) -> Result<Parts<'_>, String> {
    let mut whole = Parts(response);
    let mut outer = whole.sequence()?;
    if !whole.0.is_empty() {
        return Err(NO_RESPONSE.to_owned());
    }
    let status = outer.universal(Tag::Enumerated)?;
    if status != [0] {
        let status = status.first().copied().unwrap_or_default();
        return Err(format!("it is the error {status} of a responder (RFC 6960 section 4.2.1)"));
    }
    let explicit = outer.next()?;
    let mut bytes = Parts(explicit.data).sequence()?;
    if bytes.universal(Tag::Oid)? != BASIC {
        return Err("it is of a type that is not supported".to_owned());
    }
    Parts(bytes.universal(Tag::OctetString)?).sequence()
}

fn time(der: &[u8]) -> Result<i64, String> {
    let read = ASN1Time::from_der(der);
    read.map(|(_, time)| time.timestamp()).map_err(|_| NO_RESPONSE.to_owned())
}

/// What is left of the contents of a sequence in DER.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn next(&mut self) -> Result<Any<'a>, String> {
        let (rest, any) = Any::from_der(self.0).map_err(|_| NO_RESPONSE.to_owned())?;
        self.0 = rest;
        Ok(any)
    }

    /// The contents of the next one, which must be of `tag`.
    fn universal(&mut self, tag: Tag) -> Result<&'a [u8], String> {
        let any = self.next()?;
        let is_of_tag = any.header.class() == Class::Universal && any.header.tag() == tag;
        if is_of_tag { Ok(any.data) } else { Err(NO_RESPONSE.to_owned()) }
    }

    fn sequence(&mut self) -> Result<Self, String> {
        self.universal(Tag::Sequence).map(Parts)
    }

    /// Whether the next one is marked with `number`, as what may be left out is.
    fn is_context(&self, number: u32) -> bool {
        Any::from_der(self.0).is_ok_and(|(_, any)| {
            any.header.class() == Class::ContextSpecific && any.header.tag().0 == number
        })
    }
}

const NO_RESPONSE: &str = "it is no OCSP response in DER";
/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// With every handshake it is sent whole; usual ones have 0.5 to 2 KiB.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;
