//! The metadata of a TPU machine: the file, and what the server has. A recording of the file has what was read and nothing that names
//! the slice.

#![no_main]

use afd_tpu::metadata::{self, ServerMetadata};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let slice = metadata::parse(text);
    assert!(slice.is_none_or(|slice| slice.hosts.value() != Some(&0)));
    assert!(metadata::runtime_ports(text).iter().all(|port| *port != 0));
    let blank = String::from_utf8_lossy(&metadata::blank(text.as_bytes())).into_owned();
    assert!(metadata::parse(&blank).is_none_or(|slice| slice.identity.value().is_none()));
    let _ = ServerMetadata {
        kube_labels: text.to_owned(),
        tpu_env: text.to_owned(),
        topology_ids: text.to_owned(),
        machine_type: text.to_owned(),
    }
    .slice();
});
