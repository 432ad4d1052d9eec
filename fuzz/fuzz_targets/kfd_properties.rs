//! The `properties` file of a node in KFD's topology.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = afd_amd::kfd::parse_properties(text);
});
