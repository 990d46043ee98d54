//! Fuzzes `transcode_fuzz::query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcode_fuzz::query(data));
