//! The binary file `gpu_metrics` of amdgpu: of any version and length.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = afd_amd::gpu_metrics::parse(bytes);
    let _ = afd_amd::gpu_metrics::parse_partition(bytes);
});
