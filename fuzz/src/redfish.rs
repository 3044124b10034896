//! The body of an answer, read as every resource that there is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rackctl::bmc::fuzz::document(bytes));
