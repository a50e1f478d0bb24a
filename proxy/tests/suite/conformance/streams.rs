//! Frames, streams and windows (RFC 9113 sections 4 to 6).

use kubeng_harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, settings,
};

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

fn reset(stream: u32) -> Frame {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn window(stream: u32, by: u32) -> Frame {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// An even or old number, an answer to nothing: errors of the whole connection.
const BAD: &[u32] = &[PROTOCOL];
/// The engine tells all faults of the whole connection as PROTOCOL_ERROR (docs/decisions/0012).
const BAD_SIZE: &[u32] = &[SIZE, PROTOCOL];
const GONE: &[u32] = &[CLOSED, PROTOCOL];

pub(super) fn cases() -> Vec<Case> {
    let mut all = generic();
    all.extend(sizes());
    all.extend(states());
    all.extend(settings_and_windows());
    all
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn generic() -> Vec<Case> {
    let ack = 1;
    vec![
        case("3.4 SETTINGS are acknowledged", vec![], Then::Frame(SETTINGS, ack)),
        case("6.5 later SETTINGS too", vec![settings(&[(4, 70_000)])], Then::Frame(SETTINGS, ack)),
        case("6.7 PING is answered", vec![frame(PING, 0, 0, b"12345678")], Then::Frame(PING, ack)),
        case("6.7 an answer to no PING", vec![frame(PING, ack, 0, b"12345678")], Then::Alive),
        case("8.1 GET", vec![get(1)], Then::Answer(1, 200)),
        case("8.1 HEAD", vec![Frame::new(HEADERS, 5, 1, fields("HEAD"))], Then::Answer(1, 200)),
        case("8.1 POST", vec![post(1), frame(DATA, END_STREAM, 1, b"hi")], Then::Answer(1, 200)),
        case(
            "8.1 POST in parts",
            vec![post(1), frame(DATA, 0, 1, b"h"), frame(DATA, END_STREAM, 1, b"i")],
            Then::Answer(1, 200),
        ),
        case(
            "8.1 POST with trailers",
            vec![
                post(1),
                frame(DATA, 0, 1, b"hi"),
                Frame::new(HEADERS, 5, 1, frames::literal("n", "v")),
            ],
            Then::Answer(1, 200),
        ),
        case(
            "6.1 padded DATA",
            vec![post(1), frame(DATA, PADDED | END_STREAM, 1, &[2, b'h', 0, 0])],
            Then::Answer(1, 200),
        ),
        case(
            "6.2 padded HEADERS",
            vec![Frame::new(HEADERS, 5 | PADDED, 1, [&[3][..], &fields("GET"), &[0; 3]].concat())],
            Then::Answer(1, 200),
        ),
        case(
            "6.2 HEADERS with priority",
            vec![Frame::new(
                HEADERS,
                5 | 0x20,
                1,
                [&[0, 0, 0, 0, 15][..], &fields("GET")].concat(),
            )],
            Then::Answer(1, 200),
        ),
        case(
            "6.2 both",
            vec![Frame::new(
                HEADERS,
                5 | 0x28,
                1,
                [&[1, 0, 0, 0, 0, 15][..], &fields("GET"), &[0]].concat(),
            )],
            Then::Answer(1, 200),
        ),
        case(
            "6.10 CONTINUATION",
            vec![
                Frame::new(HEADERS, END_STREAM, 1, &fields("GET")[..5]),
                Frame::new(CONTINUATION, END_HEADERS, 1, &fields("GET")[5..]),
            ],
            Then::Answer(1, 200),
        ),
        case(
            "6.10 two CONTINUATION",
            vec![
                Frame::new(HEADERS, END_STREAM, 1, &fields("GET")[..5]),
                Frame::new(CONTINUATION, 0, 1, &fields("GET")[5..9]),
                Frame::new(CONTINUATION, END_HEADERS, 1, &fields("GET")[9..]),
            ],
            Then::Answer(1, 200),
        ),
        case(
            "6.3 PRIORITY on an idle stream",
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), get(1)],
            Then::Answer(1, 200),
        ),
        case(
            "6.3 PRIORITY behind the end",
            vec![get(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])],
            Then::Alive,
        ),
        case("6.4 RST_STREAM ends a stream", vec![post(1), reset(1), get(3)], Then::Answer(3, 200)),
        case(
            "6.8 GOAWAY of the client",
            vec![get(1), frame(GOAWAY, 0, 0, &[0; 8])],
            Then::Answer(1, 200),
        ),
        case(
            "6.8 GOAWAY with words",
            vec![get(1), frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0bye")],
            Then::Answer(1, 200),
        ),
        case("6.9 WINDOW_UPDATE of the connection", vec![window(0, 10_000)], Then::Alive),
        case("6.9 WINDOW_UPDATE of a stream", vec![post(1), window(1, 10_000)], Then::Alive),
        case("4.1 an unknown type", vec![frame(0xAA, 0, 0, b"x")], Then::Alive),
        case(
            "4.1 an unknown type on a stream",
            vec![post(1), frame(0xAA, 0xFF, 1, b"x"), frame(DATA, END_STREAM, 1, b"")],
            Then::Answer(1, 200),
        ),
        case("4.1 undefined flags", vec![frame(PING, 0xFE, 0, b"12345678")], Then::Alive),
        case("4.1 the reserved bit", vec![frame(PING, 0, 0x8000_0000, b"12345678")], Then::Alive),
        case("5.1.1 numbers may be left out", vec![get(101)], Then::Answer(101, 200)),
        case("6.5.2 an unknown setting", vec![settings(&[(0xFF, 1)])], Then::Alive),
        case(
            "5.5 an unknown type in a block",
            vec![Frame::new(HEADERS, END_STREAM, 1, fields("GET")), frame(0xAA, 0, 1, b"x")],
            Then::End(BAD),
        ),
        case(
            "5.1.2 many at once",
            (0..90).map(|n| get(2 * n + 1)).collect(),
            Then::Answer(179, 200),
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let large = vec![b'x'; 16_385];
    vec![
        case(
            "4.2 DATA of 16,384",
            vec![post(1), frame(DATA, END_STREAM, 1, &large[1..])],
            Then::Answer(1, 200),
        ),
        case(
            "4.2 DATA above",
            vec![post(1), frame(DATA, END_STREAM, 1, &large)],
            Then::Reset(BAD_SIZE),
        ),
        case("4.2 HEADERS above", vec![frame(HEADERS, 5, 1, &large)], Then::End(BAD_SIZE)),
        case("4.2 unknown above", vec![frame(0xAA, 0, 0, &large)], Then::End(BAD_SIZE)),
        case("4.2 PING above", vec![frame(PING, 0, 0, &large)], Then::End(BAD_SIZE)),
        case("6.3 PRIORITY of 4", vec![frame(PRIORITY, 0, 1, &[0; 4])], Then::Reset(BAD_SIZE)),
        case("6.3 PRIORITY of 6", vec![frame(PRIORITY, 0, 1, &[0; 6])], Then::Reset(BAD_SIZE)),
        case(
            "6.4 RST_STREAM of 3",
            vec![post(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            Then::End(BAD_SIZE),
        ),
        case(
            "6.4 RST_STREAM of 5",
            vec![post(1), frame(RST_STREAM, 0, 1, &[0; 5])],
            Then::End(BAD_SIZE),
        ),
        case("6.5 SETTINGS of 3", vec![frame(SETTINGS, 0, 0, &[0; 3])], Then::End(BAD_SIZE)),
        case("6.5 SETTINGS of 7", vec![frame(SETTINGS, 0, 0, &[0; 7])], Then::End(BAD_SIZE)),
        case("6.5 ACK with content", vec![frame(SETTINGS, 1, 0, &[0; 6])], Then::End(BAD_SIZE)),
        case("6.7 PING of 6", vec![frame(PING, 0, 0, &[0; 6])], Then::End(BAD_SIZE)),
        case("6.7 PING of 9", vec![frame(PING, 0, 0, &[0; 9])], Then::End(BAD_SIZE)),
        case("6.7 PING of nothing", vec![frame(PING, 0, 0, &[])], Then::End(BAD_SIZE)),
        case("6.8 GOAWAY of 7", vec![frame(GOAWAY, 0, 0, &[0; 7])], Then::End(BAD_SIZE)),
        case(
            "6.9 WINDOW_UPDATE of 3",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            Then::End(BAD_SIZE),
        ),
        case(
            "6.9 WINDOW_UPDATE of 5",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 5])],
            Then::End(BAD_SIZE),
        ),
        case(
            "6.1 padding as long as the frame",
            vec![post(1), frame(DATA, PADDED | 1, 1, &[4, 0, 0, 0])],
            Then::End(BAD),
        ),
        case(
            "6.1 padding longer",
            vec![post(1), frame(DATA, PADDED | 1, 1, &[200, b'x'])],
            Then::End(BAD),
        ),
        case(
            "6.1 padding without its length",
            vec![post(1), frame(DATA, PADDED | 1, 1, &[])],
            Then::End(&[PROTOCOL, SIZE]),
        ),
        case(
            "6.2 padding longer",
            vec![frame(HEADERS, 5 | PADDED, 1, &[200, 0x82])],
            Then::End(BAD),
        ),
        case(
            "6.2 priority cut off",
            vec![frame(HEADERS, 5 | 0x20, 1, &[0, 0])],
            Then::End(&[PROTOCOL, SIZE]),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn states() -> Vec<Case> {
    let data = |stream| frame(DATA, END_STREAM, stream, b"x");
    let more = |stream| Frame::new(CONTINUATION, END_HEADERS, stream, frames::literal("n", "v"));
    let open = Frame::new(HEADERS, END_STREAM, 1, fields("GET"));
    vec![
        case("5.1 idle: DATA", vec![data(1)], Then::End(BAD)),
        case("5.1 idle: RST_STREAM", vec![reset(1)], Then::End(BAD)),
        case("5.1 idle: WINDOW_UPDATE", vec![window(1, 1)], Then::End(BAD)),
        case("5.1 idle: CONTINUATION", vec![more(1)], Then::End(BAD)),
        case("5.1 half-closed: DATA", vec![get(1), data(1)], Then::Reset(GONE)),
        case("5.1 half-closed: HEADERS", vec![get(1), get(1)], Then::Reset(GONE)),
        case("5.1 half-closed: CONTINUATION", vec![get(1), more(1)], Then::End(GONE)),
        case("5.1 reset: DATA", vec![post(1), reset(1), data(1)], Then::Reset(GONE)),
        case("5.1 reset: HEADERS", vec![post(1), reset(1), get(1)], Then::Reset(GONE)),
        case("5.1 reset: CONTINUATION", vec![post(1), reset(1), more(1)], Then::End(GONE)),
        case("5.1 reset: RST_STREAM", vec![post(1), reset(1), reset(1)], Then::Alive),
        case("5.1 reset: WINDOW_UPDATE", vec![post(1), reset(1), window(1, 1)], Then::Alive),
        case(
            "5.1 reset: PRIORITY",
            vec![post(1), reset(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])],
            Then::Alive,
        ),
        case("5.1.1 an even number", vec![get(2)], Then::End(BAD)),
        case("5.1.1 a smaller number", vec![get(5), get(3)], Then::End(GONE)),
        case("5.1.1 stream 0", vec![get(0)], Then::End(BAD)),
        case(
            "5.3.1 a stream that depends on itself",
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1])],
            Then::Reset(BAD),
        ),
        case(
            "5.3.1 the same in HEADERS",
            vec![Frame::new(
                HEADERS,
                5 | 0x20,
                1,
                [&[0, 0, 0, 1, 15][..], &fields("GET")].concat(),
            )],
            Then::Reset(BAD),
        ),
        case("6.1 DATA on 0", vec![data(0)], Then::End(BAD)),
        case("6.3 PRIORITY on 0", vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 1])], Then::End(BAD)),
        case("6.4 RST_STREAM on 0", vec![reset(0)], Then::End(BAD)),
        case("6.5 SETTINGS on 1", vec![frame(SETTINGS, 0, 1, &[])], Then::End(BAD)),
        case(
            "6.6 PUSH_PROMISE of a client",
            vec![Frame::new(PUSH_PROMISE, 4, 1, [&[0, 0, 0, 2][..], &fields("GET")].concat())],
            Then::End(BAD),
        ),
        case(
            "6.6 PUSH_PROMISE on a stream",
            vec![
                post(1),
                Frame::new(PUSH_PROMISE, 4, 1, [&[0, 0, 0, 2][..], &fields("GET")].concat()),
            ],
            Then::End(BAD),
        ),
        case("6.7 PING on 1", vec![frame(PING, 0, 1, b"12345678")], Then::End(BAD)),
        case("6.8 GOAWAY on 1", vec![frame(GOAWAY, 0, 1, &[0; 8])], Then::End(BAD)),
        case("6.10 CONTINUATION on 0", vec![open.clone(), more(0)], Then::End(BAD)),
        case("6.10 CONTINUATION of another", vec![open.clone(), more(3)], Then::End(BAD)),
        case("6.10 DATA in a block", vec![open.clone(), data(1)], Then::End(BAD)),
        case("6.10 HEADERS in a block", vec![open.clone(), get(3)], Then::End(BAD)),
        case(
            "6.10 PING in a block",
            vec![open.clone(), frame(PING, 0, 0, b"12345678")],
            Then::End(BAD),
        ),
        case("6.10 SETTINGS in a block", vec![open.clone(), settings(&[])], Then::End(BAD)),
        case("6.10 RST_STREAM in a block", vec![open.clone(), reset(1)], Then::End(BAD)),
        case(
            "6.10 PRIORITY in a block",
            vec![open.clone(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])],
            Then::End(BAD),
        ),
        case("6.10 WINDOW_UPDATE in a block", vec![open, window(0, 1)], Then::End(BAD)),
        case("6.10 CONTINUATION behind a whole block", vec![post(1), more(1)], Then::End(BAD)),
        case(
            "6.10 CONTINUATION behind DATA",
            vec![post(1), frame(DATA, 0, 1, b"x"), more(1)],
            Then::End(BAD),
        ),
        case(
            "8.1 HEADERS that do not end the stream",
            vec![post(1), Frame::new(HEADERS, END_HEADERS, 1, frames::literal("n", "v"))],
            Then::Reset(BAD),
        ),
        case(
            "5.1.2 too many at once",
            (0..102).map(|n| post(2 * n + 1)).collect(),
            Then::Reset(&[REFUSED, PROTOCOL]),
        ),
    ]
}

fn settings_and_windows() -> Vec<Case> {
    let max = 0x7FFF_FFFF;
    vec![
        case("6.5.2 ENABLE_PUSH of 2", vec![settings(&[(2, 2)])], Then::End(BAD)),
        case("6.5.2 a window above", vec![settings(&[(4, max + 1)])], Then::End(&[FLOW, PROTOCOL])),
        case("6.5.2 the largest window", vec![settings(&[(4, max)])], Then::Alive),
        case("6.5.2 a frame size below", vec![settings(&[(5, 16_383)])], Then::End(BAD)),
        case("6.5.2 a frame size above", vec![settings(&[(5, 16_777_216)])], Then::End(BAD)),
        case("6.5.2 the largest frame size", vec![settings(&[(5, 16_777_215)])], Then::Alive),
        case(
            "6.5.3 the last value counts",
            vec![settings(&[(4, 0), (4, 65_535)]), get(1)],
            Then::Answer(1, 200),
        ),
        case("6.5.3 no table at all", vec![settings(&[(1, 0)]), get(1)], Then::Answer(1, 200)),
        case("6.5.3 no list at all", vec![settings(&[(6, 0)])], Then::Alive),
        case("6.9 a window by 0", vec![window(0, 0)], Then::End(BAD)),
        case("6.9 a stream's window by 0", vec![post(1), window(1, 0)], Then::Reset(BAD)),
        case(
            "6.9.1 a window above",
            vec![window(0, max), window(0, max)],
            Then::End(&[FLOW, PROTOCOL]),
        ),
        case(
            "6.9.1 a stream's window above",
            vec![post(1), window(1, max), window(1, max)],
            Then::Reset(&[FLOW, PROTOCOL]),
        ),
        case(
            "6.9.2 windows that become negative",
            vec![settings(&[(4, 1)]), get(1), settings(&[(4, 0)])],
            Then::Alive,
        ),
        case(
            "6.9.2 a larger start above",
            vec![post(1), window(1, max - 65_535), settings(&[(4, 70_000)])],
            Then::End(&[FLOW, PROTOCOL]),
        ),
        case(
            "6.9.1 the answer waits for a window",
            vec![settings(&[(4, 0)]), get(1), window(1, 100)],
            Then::Frame(DATA, END_STREAM),
        ),
    ]
}
