//! Fuzzes `transcode_fuzz::from_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcode_fuzz::from_json(data));
