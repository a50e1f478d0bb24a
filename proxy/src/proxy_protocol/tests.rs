use proptest::prelude::*;

use super::*;

fn told_of(client: &str, local: &str) -> Told {
    Told { client: client.parse().unwrap(), local: local.parse().unwrap() }
}

#[track_caller]
fn check_v1(line: &str, expected: Result<Option<Told>, HeaderError>) {
    let expected = expected.map(|told| Header::Complete { told, length: line.len() });
    assert_eq!(parse(line.as_bytes()), expected, "{line:?}");
}

#[test]
fn lines_of_version_1() {
    let four = told_of("192.0.2.1:56324", "203.0.113.9:443");
    check_v1("PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n", Ok(Some(four)));
    let six = told_of("[2001:db8::1]:1", "[2001:db8::2]:0");
    check_v1("PROXY TCP6 2001:db8::1 2001:db8::2 1 0\r\n", Ok(Some(six)));
    let mapped = told_of("192.0.2.1:1", "192.0.2.2:2");
    check_v1("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", Ok(Some(mapped)));
    check_v1("PROXY UNKNOWN\r\n", Ok(None));
    check_v1("PROXY UNKNOWN ffff::1 whatever 1 2\r\n", Ok(None));
    for bad in [
        "PROXY TCP4 192.0.2.1 203.0.113.9 56324 443 \r\n",
        "PROXY TCP4  192.0.2.1 203.0.113.9 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 203.0.113.9 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 203.0.113.9 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 203.0.113.9 65536 443\r\n",
        "PROXY TCP4 192.0.2.01 203.0.113.9 1 443\r\n",
        "PROXY TCP4 ::1 ::2 1 443\r\n",
        "PROXY TCP6 192.0.2.1 203.0.113.9 1 443\r\n",
        "PROXY TCP4 192.0.2.1 203.0.113.9 1\r\n",
        "PROXY UDP4 192.0.2.1 203.0.113.9 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 203.0.113.9 1 2\n\r\n",
    ] {
        check_v1(bad, Err(HeaderError::Line));
    }
    assert_eq!(
        parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'a'; 93]].concat()),
        Err(HeaderError::Line)
    );
    assert_eq!(parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'a'; 92]].concat()), Ok(Header::Partial));
    for other in ["GET / HTTP/1.1\r\n", "proxy ", "PROXY\t", "\r\n\r\nGET"] {
        assert_eq!(parse(other.as_bytes()), Err(HeaderError::Signature), "{other:?}");
    }
}

/// A header of version 2 with this command, family and what follows the length.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE_V2, &[command, family], &length, rest].concat()
}

const ENDS: [u8; 12] = [192, 0, 2, 1, 203, 0, 113, 9, 0xdc, 4, 1, 0xbb];

fn with_extensions(extensions: &[u8]) -> Vec<u8> {
    v2(0x21, TCP4, &[ENDS.as_slice(), extensions].concat())
}

/// A header that ends in a checksum.
fn with_checksum(change: u32) -> Vec<u8> {
    let mut header = with_extensions(&[4, 0, 2, 0, 0, CHECKSUM, 0, 4, 0, 0, 0, 0]);
    let sum = crc32c(&header, 0..0) ^ change;
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[track_caller]
fn check_v2(header: &[u8], expected: Result<Option<Told>, HeaderError>) {
    let expected = expected.map(|told| Header::Complete { told, length: header.len() });
    assert_eq!(parse(header), expected);
}

#[test]
fn headers_of_version_2() {
    let four = told_of("192.0.2.1:56324", "203.0.113.9:443");
    check_v2(&v2(0x21, TCP4, &ENDS), Ok(Some(four)));
    let mut six = [0; 36];
    six[15] = 1;
    six[31] = 2;
    check_v2(&v2(0x21, TCP6, &six), Ok(Some(told_of("[::1]:0", "[::2]:0"))));
    check_v2(&v2(0x20, TCP4, &ENDS), Ok(None));
    check_v2(&v2(0x20, 0xff, b"ignored"), Ok(None));
    check_v2(&v2(0x21, UNSPECIFIED, b"ignored"), Ok(None));
    check_v2(&v2(0x21, UNIX, &[0; 216]), Ok(None));
    check_v2(&with_extensions(&[0xe0, 0, 3, 1, 2, 3, 4, 0, 0]), Ok(Some(four)));
    check_v2(&with_checksum(0), Ok(Some(four)));
    check_v2(&with_checksum(1), Err(HeaderError::Checksum));
    for extensions in [&[0xe0, 0, 3, 1, 2][..], &[0xe0, 0], &[0xe0], &[CHECKSUM, 0, 3, 1, 2, 3]] {
        check_v2(&with_extensions(extensions), Err(HeaderError::Extensions));
    }
    check_v2(&v2(0x21, TCP4, &ENDS[..11]), Err(HeaderError::Extensions));
    check_v2(&v2(0x21, UNIX, &[0; 215]), Err(HeaderError::Extensions));
    for (command, family) in [(0x11, TCP4), (0x22, TCP4), (0x21, 0x12), (0x21, 0x41), (0x21, 0x10)]
    {
        check_v2(&v2(command, family, &ENDS), Err(HeaderError::Kind));
    }
    check_v2(&v2(0x20, 0, &[0; BYTES_MAX - 16]), Ok(None));
    check_v2(&v2(0x20, 0, &[0; BYTES_MAX - 15]), Err(HeaderError::Length));
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789", 0..0), 0xE306_9283);
}

fn end() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>())
        .prop_map(|(address, port)| SocketAddr::new(address.to_canonical(), port))
}

fn version() -> impl Strategy<Value = ProxyVersion> {
    prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)]
}

proptest! {
    #[test]
    fn what_is_told_is_read(version in version(), client in end(), local in end(), data: Vec<u8>) {
        let told = Told { client, local };
        let header = encode(version, Some(told));
        let read = Ok(Header::Complete { told: Some(told), length: header.len() });
        prop_assert_eq!(parse(&header), read);
        for end in 0..header.len() {
            prop_assert_eq!(parse(&header[..end]), Ok(Header::Partial));
        }
        let all = [header.as_slice(), &data].concat();
        prop_assert_eq!(parse(&all), read, "whatever comes behind it");
    }

    /// More bytes turn what is partial into something, and change nothing that was said.
    #[test]
    fn a_verdict_stands(
        signature in prop_oneof![Just(SIGNATURE_V1), Just(SIGNATURE_V2), Just(&b""[..])],
        command in prop_oneof![Just(0x20_u8), Just(0x21), any::<u8>()],
        family in prop_oneof![Just(TCP4), Just(TCP6), any::<u8>()],
        length in 0..64_u16,
        rest in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let bytes = [signature, &[command, family], &length.to_be_bytes(), &rest].concat();
        let mut before = Ok(Header::Partial);
        for end in 0..=bytes.len() {
            let verdict = parse(&bytes[..end]);
            if let Ok(Header::Complete { length, .. }) = verdict {
                prop_assert!(length <= end);
            }
            if before != Ok(Header::Partial) {
                prop_assert_eq!(verdict, before);
            }
            before = verdict;
        }
    }

    #[test]
    fn a_flipped_bit_does_not_pass_the_checksum(at in 0..32_usize, bit in 0..8_u8) {
        let mut header = with_checksum(0);
        header[at] ^= 1 << bit;
        let told = told_of("192.0.2.1:56324", "203.0.113.9:443");
        // Only a command that speaks for nobody, and what is not looked at then, may get through.
        if let Ok(Header::Complete { told: read @ Some(_), .. }) = parse(&header) {
            prop_assert_eq!(read, Some(told));
            prop_assert!(false, "bit {} of byte {} passed", bit, at);
        }
    }
}

#[test]
fn who_speaks_for_itself_says_so() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = encode(version, None);
        let length = header.len();
        assert_eq!(parse(&header), Ok(Header::Complete { told: None, length }), "{version:?}");
    }
}
