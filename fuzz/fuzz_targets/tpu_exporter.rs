//! What the exporter of GKE's TPU device plugin sends.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for value in afd_tpu::exporter::parse(text).into_iter().flatten() {
        assert!(value.container.is_some() && value.value.is_none_or(f64::is_finite));
    }
});
