//! Compressed fields (RFC 7541).

use kubeng_harness::frames::{self, END_HEADERS, END_STREAM, Frame, HEADERS};

use super::*;

fn block(bytes: &[u8]) -> Vec<Frame> {
    vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, bytes)]
}

fn then(bytes: &[u8]) -> Vec<Frame> {
    block(&[&fields("GET")[..], bytes].concat())
}

fn first(bytes: &[u8]) -> Vec<Frame> {
    block(&[bytes, &fields("GET")[..]].concat())
}

pub(super) fn cases() -> Vec<Case> {
    let fine = Then::Answer(1, 200);
    // The engine tells all faults of the whole connection as PROTOCOL_ERROR (docs/decisions/0012).
    let bad = Then::End(&[COMPRESSION, PROTOCOL]);
    // Static: GET, http, /; then an authority as a literal.
    let table = [0x82, 0x86, 0x84];
    let mut indexed = table.to_vec();
    indexed.extend([0x41, 1, b'a']);
    let mut unindexed = table.to_vec();
    unindexed.extend([0x01, 1, b'a']);
    let mut never = table.to_vec();
    never.extend([0x11, 1, b'a']);
    let mut huffman = table.to_vec();
    // "a" is 00011, padded with ones.
    huffman.extend([0x41, 0x81, 0b0001_1111]);
    let again = vec![
        Frame::new(HEADERS, 5, 1, indexed.clone()),
        Frame::new(HEADERS, 5, 3, [&table[..], &[0xBE]].concat()),
    ];
    let evicted = vec![
        Frame::new(HEADERS, 5, 1, indexed.clone()),
        Frame::new(HEADERS, 5, 3, [&[0x20][..], &table, &[0xBE]].concat()),
    ];
    let mut large = vec![0x40];
    frames::integer(1, 7, 0, &mut large);
    large.push(b'n');
    frames::integer(5_000, 7, 0, &mut large);
    large.extend(vec![b'v'; 5_000]);
    vec![
        case("6.1 from the static table", block(&indexed), fine),
        case("6.2.2 without indexing", block(&unindexed), fine),
        case("6.2.3 never indexed", block(&never), fine),
        case("5.2 in the code of Huffman", block(&huffman), fine),
        case("2.3.2 from the dynamic table", again, Then::Answer(3, 200)),
        case("4.4 an entry larger than the table", then(&large), fine),
        case("6.3 a table of 0", first(&[0x20]), fine),
        case("6.3 a table of 4,096", first(&[0x3F, 0xE1, 0x1F]), fine),
        case("4.2 two changes", first(&[0x20, 0x3F, 0xE1, 0x1F]), fine),
        case("4.2 a change at the end", then(&[0x20]), bad),
        case("6.3 a table above the limit", first(&[0x3F, 0xE2, 0x1F]), bad),
        case("6.3 far above", first(&[0x3F, 0xFF, 0xFF, 0xFF, 0x07]), bad),
        case("6.1 index 0", then(&[0x80]), bad),
        case("2.3.3 an index of nobody", then(&[0xC6]), bad),
        case("2.3.3 a large index", then(&[0xFF, 0xFF, 0x01]), bad),
        case("2.3.3 a name of nobody", then(&[0x7F, 0x20, 1, b'v']), bad),
        case("2.3.3 an entry that was evicted", evicted, bad),
        case(
            "5.1 a number without end",
            then(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            bad,
        ),
        case("5.1 a number cut off", then(&[0xFF]), bad),
        case("5.2 a text cut off", then(&[0x00, 5, b'n']), bad),
        case("5.2 a value cut off", then(&[0x00, 1, b'n', 9, b'v']), bad),
        case("5.2 no value", then(&[0x00, 1, b'n']), bad),
        case("5.2 padding of more than 7 bits", then(&[0x00, 1, b'n', 0x82, 0x1F, 0xFF]), bad),
        case("5.2 padding of zeros", then(&[0x00, 1, b'n', 0x81, 0b0001_1000]), bad),
        case(
            "5.2 the end of all in a text",
            then(&[0x00, 1, b'n', 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
            bad,
        ),
        case("4.3 RFC 9113: a block of nothing", block(&[]), Then::Reset(&[PROTOCOL])),
        case("4.3 RFC 9113: half a field", then(&[0x40]), bad),
    ]
}
