#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| conformance::fuzz::socks5_server(data));
