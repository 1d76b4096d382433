//! The fuzzer: libFuzzer over [`cosmosflink_fuzz::run`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cosmosflink_fuzz::run(input));
