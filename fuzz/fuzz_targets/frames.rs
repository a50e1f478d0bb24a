//! Frames of HTTP/2 as they are counted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kubeng_proxy::fuzzing::frames(bytes));
