//! Packets of a BMC that is partly honest, through handshake, session, commands and console.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rackctl::bmc::ipmi::fuzz::drive(bytes));
