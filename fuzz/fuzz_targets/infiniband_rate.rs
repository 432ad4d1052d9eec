//! The sysfs attributes of an InfiniBand port: rate, state and link layer.

#![no_main]

use afd_probe::rdma::{parse_link_layer, parse_rate, parse_state};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_rate(text);
    let _ = parse_state(text);
    let _ = parse_link_layer(text);
});
