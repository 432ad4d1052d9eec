//! What the runtime of a TPU workload responds: the same bytes to each call.

#![no_main]

use afd_tpu::runtime::{self, RuntimeCallError, RuntimeConnection};
use libfuzzer_sys::fuzz_target;

struct Response<'a>(&'a [u8]);

impl RuntimeConnection for Response<'_> {
    fn call(&mut self, path: &'static str, _: Vec<u8>) -> Result<Vec<u8>, RuntimeCallError> {
        // Without a list of what is supported, all of it is requested.
        if path.ends_with("ListSupportedMetrics") {
            Err(RuntimeCallError::Unimplemented)
        } else {
            Ok(self.0.to_vec())
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    for value in runtime::read(&mut Response(bytes)).into_iter().flatten() {
        assert!(value.value.is_none_or(f64::is_finite));
    }
});
