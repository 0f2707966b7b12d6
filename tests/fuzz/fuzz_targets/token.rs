#![no_main]
//! Any bytes for the decoder `token`: see ../decoders.rs.
#[path = "../decoders.rs"]
#[allow(dead_code, reason = "each target uses one decoder of the table")]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::token(bytes));
