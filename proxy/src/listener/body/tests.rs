use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What the engine gets of `text` when it arrives in pieces of `step` bytes, and what is left over.
fn pass(text: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, bool), Rule> {
    let mut chunks = Chunks::new();
    let (mut kept, mut over, mut is_end) = (Vec::new(), Vec::new(), false);
    for piece in text.chunks(step) {
        if is_end {
            over.extend_from_slice(piece);
            continue;
        }
        let mut piece = piece.to_vec();
        let passed = chunks.pass(&mut piece)?;
        kept.extend_from_slice(&piece[..passed.kept]);
        over.extend_from_slice(&piece[passed.taken..]);
        is_end = passed.is_end;
    }
    Ok((kept, over, is_end))
}

#[track_caller]
fn passes(text: &str, as_text: &str, over: &str) {
    for step in [1, 2, 3, 7, text.len().max(1)] {
        let got = pass(text.as_bytes(), step);
        assert_eq!(got, Ok((as_text.into(), over.into(), true)), "{text:?} by {step}");
    }
}

#[track_caller]
fn refused(text: &str, rule: Rule) {
    for step in [1, 2, text.len()] {
        assert_eq!(pass(text.as_bytes(), step), Err(rule), "{text:?} by {step}");
    }
}

#[test]
fn what_passes_is_canonical() {
    passes("0\r\n\r\n", "0\r\n\r\n", "");
    passes("5\r\nhello\r\n0\r\n\r\nGET", "5\r\nhello\r\n0\r\n\r\n", "GET");
    passes("A;x=y\r\n0123456789\r\n00\r\nX: y\r\nZ:\r\n\r\n", "a\r\n0123456789\r\n00\r\n\r\n", "");
    passes("1 ; a=\"b;c\"\r\nx\r\n0\r\n\r\n", "1\r\nx\r\n0\r\n\r\n", "");
    passes("000000000000001\r\nx\r\n0\r\n\r\n", "000000000000001\r\nx\r\n0\r\n\r\n", "");
}

#[test]
fn what_is_read_differently_elsewhere_is_refused() {
    for text in [
        "\r\n0\r\n\r\n",
        ";a\r\n",
        "+5\r\n",
        "-5\r\n",
        "0x5\r\n",
        "5 \r\n",
        " 5\r\n",
        "5\n",
        "5\rx",
        "5g\r\n",
        "00000000000000005\r\n",
        "8000000000000000\r\n",
        "\u{b}5\r\n",
        "5\u{0}\r\n",
    ] {
        refused(text, Rule::ChunkSize);
    }
    for text in ["5;a\nhello", "5;\u{0}\r\n", "5;a\u{7f}\r\n"] {
        refused(text, Rule::ChunkExtension);
    }
    for text in ["5\r\nhello0\r\n", "5\r\nhello\n0", "5\r\nhello\rx", "5\r\nhellohello"] {
        refused(text, Rule::ChunkEnd);
    }
    for text in [
        "0\r\n\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: \u{0}\r\n",
        "0\r\n: y\r\n",
        "0\r\n\rx",
        "0\r\nX: y\r\n z\r\n",
    ] {
        refused(text, Rule::Trailer);
    }
}

#[test]
fn extensions_and_trailers_have_limits() {
    let extension = |bytes| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(bytes));
    passes(&extension(EXTENSION_BYTES_MAX), "1\r\nx\r\n0\r\n\r\n", "");
    refused(&extension(EXTENSION_BYTES_MAX + 1), Rule::ChunkExtension);
    refused(&"1;aaaa\r\nx\r\n".repeat(5_000), Rule::ChunkExtension);
    let trailers = |count, line: &str| format!("0\r\n{}\r\n", line.repeat(count));
    passes(&trailers(TRAILERS_MAX, "X: y\r\n"), "0\r\n\r\n", "");
    refused(&trailers(TRAILERS_MAX + 1, "X: y\r\n"), Rule::Trailer);
    refused(&trailers(1, &format!("X: {}\r\n", "y".repeat(TRAILER_BYTES_MAX))), Rule::Trailer);
}

proptest! {
    #[test]
    fn pieces_make_no_difference(text in "[05;xa:\r\n \t]{0,40}", step in 1..9_usize) {
        let whole = pass(text.as_bytes(), text.len().max(1));
        prop_assert_eq!(pass(text.as_bytes(), step), whole);
    }

    #[test]
    fn every_body_that_is_framed_passes(body in vec(vec(any::<u8>(), 1..50), 0..6), step in 1..64_usize) {
        let mut text = Vec::new();
        for chunk in &body {
            text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(pass(&text, step), Ok((text, Vec::new(), true)));
    }
}

#[tokio::test]
async fn a_body_is_too_slow_when_too_little_comes_in_a_period() {
    let period = Duration::from_millis(20);
    let mut pace = Pace::default();
    let is_slow = async |pace: &mut Pace| {
        std::future::poll_fn(|cx| std::task::Poll::Ready(pace.is_too_slow(period, cx))).await
    };
    assert!(!is_slow(&mut pace).await);
    for _ in 0..3 {
        pace.arrived(RATE_BYTES);
        tokio::time::sleep(period * 2).await;
        assert!(!is_slow(&mut pace).await);
    }
    pace.arrived(RATE_BYTES - 1);
    tokio::time::sleep(period * 2).await;
    assert!(is_slow(&mut pace).await);
}

#[test]
fn a_fault_is_told_by_its_rule() {
    let fault = BodyFault::default();
    assert_eq!(fault.rule(), None);
    for &rule in Rule::ALL {
        fault.set(rule);
        assert_eq!(fault.rule(), Some(rule));
    }
}
