//! Fuzzes `transcode_fuzz::connect_get`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcode_fuzz::connect_get(data));
