//! Fuzzes `transcode_fuzz::to_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcode_fuzz::to_json(data));
