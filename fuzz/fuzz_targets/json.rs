#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rendezvousd_fuzz::json::check(data));
