//! AMD's ring of error records (CPER): of any content. A redacted ring has the same records.

#![no_main]

use afd_amd::cper;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(cper::parse(&cper::blank(bytes)), cper::parse(bytes), "redaction keeps the records");
});
