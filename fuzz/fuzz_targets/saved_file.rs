//! Files that a replica starts from.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kubeng_proxy::fuzzing::saved_file(bytes));
