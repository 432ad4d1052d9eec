//! The file `properties` of a node in the topology of KFD.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = afd_amd::kfd::parse_properties(text);
});
