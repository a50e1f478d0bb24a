use kubeng_harness::frames::{self, Frame};
use proptest::prelude::*;

use super::*;

/// What every connection begins with.
fn preface() -> Vec<u8> {
    [frames::PREFACE, &frames::settings(&[]).bytes()].concat()
}

/// What becomes of these frames behind the preface, when they come in pieces of `step` bytes.
fn read(list: &[Frame], step: usize) -> (Result<(), Rule>, Frames) {
    let mut bytes = preface();
    bytes.extend(list.iter().flat_map(Frame::bytes));
    let mut frames = Frames::new(10_000);
    let result = bytes.chunks(step).try_for_each(|piece| frames.read(piece));
    (result, frames)
}

#[track_caller]
fn passes(frame: &Frame, count: usize) {
    for step in [1, 7, 4096] {
        let list = vec![frame.clone(); count];
        assert_eq!(read(&list, step).0, Ok(()), "{count} of {frame:?} by {step}");
    }
}

#[track_caller]
fn cut(frame: &Frame, count: usize, rule: Rule) {
    for step in [1, 7, 4096] {
        let (result, frames) = read(&vec![frame.clone(); count], step);
        assert_eq!(result, Err(rule), "{count} of {frame:?} by {step}");
        assert_eq!(frames.course.broken(), Some(rule));
    }
}

#[test]
fn each_kind_of_frame_has_its_limit() {
    let frame = |kind, flags, payload: &[u8]| Frame::new(kind, flags, 1, payload);
    for kind in [frames::SETTINGS, frames::PING, frames::GOAWAY, 0x10, 0xFF] {
        passes(&frame(kind, 0, b"12345678"), 999);
        cut(&frame(kind, 0, b"12345678"), 1_000, Rule::ControlFlood);
    }
    passes(&frame(frames::WINDOW_UPDATE, 0, b"1234"), 100);
    cut(&frame(frames::WINDOW_UPDATE, 0, b"1234"), 101, Rule::WindowFlood);
    passes(&frame(frames::PRIORITY, 0, b"12345"), 100);
    cut(&frame(frames::PRIORITY, 0, b"12345"), 101, Rule::PriorityFlood);
    passes(&frame(frames::RST_STREAM, 0, b"1234"), 100);
    cut(&frame(frames::RST_STREAM, 0, b"1234"), 101, Rule::ResetFlood);
    for kind in [frames::DATA, frames::HEADERS, frames::CONTINUATION] {
        passes(&frame(kind, 0, b""), 1);
        cut(&frame(kind, 0, b""), 2, Rule::EmptyFrames);
        passes(&frame(kind, 0, b"x"), 5_000);
        passes(&frame(kind, frames::END_STREAM | frames::END_HEADERS, b""), 5_000);
    }
    // Padding is no content.
    cut(&frame(frames::DATA, frames::PADDED, &[3, 0, 0, 0]), 2, Rule::EmptyFrames);
    passes(&frame(frames::DATA, frames::PADDED, &[3, b'x', 0, 0, 0]), 100);
}

#[test]
fn the_first_frame_is_settings() {
    for first in
        [Frame::new(frames::PING, 0, 0, "12345678"), Frame::new(frames::SETTINGS, 1, 0, "")]
    {
        let mut frames = Frames::new(9);
        let bytes = [frames::PREFACE, &first.bytes()].concat();
        assert_eq!(frames.read(&bytes), Err(Rule::FirstFrame));
    }
}

#[test]
fn what_is_done_pays_for_more() {
    let open = Frame::new(frames::HEADERS, 5, 1, "x");
    let window = Frame::new(frames::WINDOW_UPDATE, 0, 1, "1234");
    let list: Vec<Frame> =
        (0..500).flat_map(|_| [open.clone(), window.clone(), window.clone()]).collect();
    assert_eq!(read(&list, 100).0, Ok(()));
    let (_, mut frames) = read(&[], 10);
    for _ in 0..100 {
        frames.wrote(&Frame::new(frames::DATA, 0, 1, "some").bytes());
    }
    let windows: Vec<u8> = vec![window.bytes(); 1_100].concat();
    assert_eq!(frames.read(&windows), Ok(()));
    assert_eq!(frames.read(&window.bytes()), Err(Rule::WindowFlood));
}

#[test]
fn resets_that_the_client_causes_are_its_own() {
    let settings = frames::settings(&[]).bytes();
    for (code, result) in [
        (1_u32, Err(Rule::ResetFlood)),
        (3, Err(Rule::ResetFlood)),
        (0, Ok(())),
        (2, Ok(())),
        (8, Ok(())),
    ] {
        for step in [1, 13, 100] {
            let (_, mut frames) = read(&[], 10);
            let reset = Frame::new(frames::RST_STREAM, 0, 1, code.to_be_bytes()).bytes();
            for piece in vec![reset; 101].concat().chunks(step) {
                frames.wrote(piece);
            }
            assert!(frames.is_between_frames());
            assert_eq!(frames.read(&settings), result, "{code} by {step}");
        }
    }
}

#[test]
fn half_of_many_streams_may_be_reset_over_time() {
    let mut account = Account::default();
    let start = Instant::now();
    let mut seconds = 0;
    let mut now = || {
        seconds += 1;
        start + std::time::Duration::from_secs(seconds)
    };
    for _ in 0..1_000 {
        for frame in [Inbound::Stream, Inbound::Stream, Inbound::Reset] {
            assert_eq!(account.take(frame, &mut now), Ok(()));
        }
    }
    assert_eq!(account.take(Inbound::Reset, &mut now), Err(Rule::ResetFlood));
}

#[test]
fn the_last_stream_that_is_allowed_is_told() {
    let mut frames = Frames::new(2);
    let open = Frame::new(frames::HEADERS, 5, 1, "x").bytes();
    frames.read(&preface()).unwrap();
    frames.read(&open).unwrap();
    let is_told = |frames: &Frames| {
        futures::FutureExt::now_or_never(frames.course.is_spent.notified()).is_some()
    };
    assert!(!is_told(&frames));
    frames.read(&open).unwrap();
    assert!(is_told(&frames));
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_counted_alike(bytes in proptest::collection::vec(any::<u8>(), 0..600), step in 1..40_usize) {
        let whole = { let mut f = Frames::new(9); (f.read(&bytes), format!("{:?}", f.inbound.skip)) };
        let mut frames = Frames::new(9);
        let parts = bytes.chunks(step).try_for_each(|piece| frames.read(piece));
        prop_assert_eq!(parts, whole.0);
        if parts.is_ok() {
            prop_assert_eq!(format!("{:?}", frames.inbound.skip), whole.1);
        }
    }
}
