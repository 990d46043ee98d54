//! Fuzzes `transcode_fuzz::trailers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcode_fuzz::trailers(data));
