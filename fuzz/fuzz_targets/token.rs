#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| isthmus_fuzz::token::run(input));
