#![no_main]
//! No ring of error records stops the parser, and a blank ring tells the same.

use afd_amd::cper;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let told = cper::parse(bytes);
    assert_eq!(cper::parse(&cper::blank(bytes)), told);
});
