//! Fuzzes `transcode_fuzz::routes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcode_fuzz::routes(data));
