use super::*;

/// One value in DER.
fn tlv(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let mut out = vec![tag];
    match length {
        [0, short @ 0..0x80] => out.push(short),
        [0, long] => out.extend([0x81, long]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend(contents);
    out
}

const GOOD: &[u8] = &[0x80, 0];
const UNKNOWN: &[u8] = &[0x82, 0];
const ENDS: i64 = 1_900_000_000;

/// A response about certificates of these numbers.
fn response(serials: &[&[u8]], status: &[u8], ends: Option<&[u8]>) -> Vec<u8> {
    let now = tlv(0x18, &[b"20260101000000Z"]);
    let ends = ends.map(|time| tlv(0xa0, &[&tlv(0x18, &[time])])).unwrap_or_default();
    let singles = serials.iter().map(|serial| {
        let algorithm = tlv(0x30, &[&tlv(6, &[&[0x2b, 14, 3, 2, 26]])]);
        let hash = tlv(4, &[&[7; 20]]);
        let number = tlv(2, &[serial]);
        let id = tlv(0x30, &[&algorithm, &hash, &hash, &number]);
        tlv(0x30, &[&id, status, &now, &ends])
    });
    let singles: Vec<u8> = singles.collect::<Vec<_>>().concat();
    let responder = tlv(0xa2, &[&tlv(4, &[&[7; 20]])]);
    let about = tlv(0x30, &[&responder, &now, &tlv(0x30, &[&singles])]);
    let algorithm = tlv(0x30, &[&tlv(6, &[&[0x2b, 0x65, 0x70]])]);
    let basic = tlv(0x30, &[&about, &algorithm, &tlv(3, &[&[0; 65]])]);
    let bytes = tlv(0x30, &[&tlv(6, &[BASIC]), &tlv(4, &[&basic])]);
    tlv(0x30, &[&[10, 1, 0], &tlv(0xa0, &[&bytes])])
}

/// A chain whose first certificate has the number 0x00c0ff.
fn chain() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.serial_number = Some(vec![0xc0, 0xff].into());
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().into_bytes()
}

const NUMBER: &[u8] = &[0, 0xc0, 0xff];
const LATE: Option<&[u8]> = Some(b"20300317174640Z");

#[test]
fn a_good_response_for_the_certificate_is_taken_with_its_end() {
    let chain = chain();
    for serials in [&[NUMBER][..], &[&[1], NUMBER]] {
        let response = response(serials, GOOD, LATE);
        let staple = Staple::read(&response, Some(&chain)).unwrap();
        assert_eq!((staple.ends, &*staple.response.0), (ENDS, &response[..]));
    }
}

#[test]
fn what_cannot_be_stapled_says_why() {
    let chain = chain();
    let check = |response: &[u8], chain: Option<&[u8]>, word: &str| {
        let why = Staple::read(response, chain).unwrap_err();
        assert!(why.contains(word), "{word:?} in {why}");
    };
    let good = response(&[NUMBER], GOOD, LATE);
    let pem = Some(&chain[..]);
    check(&good, None, "no certificate");
    check(&good, Some(b"junk"), "no certificate");
    check(b"", pem, "no OCSP response");
    check(b"-----BEGIN OCSP RESPONSE-----", pem, "no OCSP response");
    check(&[good.clone(), vec![0]].concat(), pem, "no OCSP response");
    check(&vec![0; 17 * 1024], pem, "17408 bytes");
    // As `tryLater` is written.
    check(&[0x30, 3, 10, 1, 3], pem, "error 3");
    check(&response(&[&[1], &[2]], GOOD, LATE), pem, "another certificate");
    check(&response(&[NUMBER], GOOD, None), pem, "until when");
    check(&response(&[NUMBER], UNKNOWN, LATE), pem, "does not know");
    let revoked = tlv(0xa1, &[&tlv(0x18, &[b"20260101000000Z"])]);
    check(&response(&[NUMBER], &revoked, LATE), pem, "revoked");
    check(&response(&[NUMBER], GOOD, Some(b"soon")), pem, "no OCSP response");
}

#[test]
fn no_part_of_a_response_is_taken_for_one() {
    let (chain, good) = (chain(), response(&[NUMBER], GOOD, LATE));
    for length in 0..good.len() {
        assert!(Staple::read(&good[..length], Some(&chain)).is_err(), "{length}");
    }
}
