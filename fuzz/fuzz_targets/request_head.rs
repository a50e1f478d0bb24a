//! Request heads of HTTP/1.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kubeng_proxy::fuzzing::request_head(bytes));
