#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| moldau_hostile::VOTERS.check(input));
