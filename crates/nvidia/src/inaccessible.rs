//! GPUs of the driver that NVML does not list, or of which it refuses the handle: they cannot take work.

use std::collections::BTreeMap;

use afd_model::{Device, Health, Known, PciAddress};

use crate::{
    NAME, health,
    nvml::{
        report::{NvmlCode, NvmlReport, address, indices},
        table::call,
    },
};

/// The verdicts on such GPUs by a report that NVML has just given.
///
/// An index without a handle may not say which GPU it is. If there are as many GPUs without a report as such indices, they are those
/// GPUs.
pub(crate) fn verdicts(devices: &[Device], report: &NvmlReport) -> BTreeMap<PciAddress, Health> {
    let listed = report
        .devices
        .iter()
        .take(indices(report))
        .map(|reported| (address(&reported.answers), reported.answers.error(call::HANDLE_BY_INDEX)));
    let listed: Vec<(Option<PciAddress>, Option<NvmlCode>)> = listed.collect();
    let mut verdicts: BTreeMap<PciAddress, Health> =
        listed.iter().filter_map(|(address, code)| Some(((*address)?, health::of_code((*code)?)))).collect();
    // A GPU that answers and does not say which one it is may be any of those that are not listed.
    if listed.contains(&(None, None)) {
        return verdicts;
    }
    let is_of_driver = |device: &&Device| device.driver == Known::Value(NAME.to_owned());
    let is_listed = |address: PciAddress| listed.iter().any(|(known, _)| *known == Some(address));
    let unlisted: Vec<PciAddress> = devices
        .iter()
        .filter(is_of_driver)
        .map(|device| device.id.0)
        .filter(|address| !is_listed(*address))
        .collect();
    let codes: Vec<NvmlCode> =
        listed.iter().filter(|(address, _)| address.is_none()).filter_map(|(_, code)| *code).collect();
    if codes.len() < unlisted.len() {
        verdicts.extend(unlisted.into_iter().map(|address| (address, not_listed(&codes))));
    } else {
        verdicts.extend(unlisted.into_iter().zip(codes.into_iter().map(health::of_code)));
    }
    verdicts
}

fn not_listed(codes: &[NvmlCode]) -> Health {
    let refused = match codes {
        [] => String::new(),
        [code, ..] => format!(", or refuses it ({code})"),
    };
    Health::failed(
        "GpuNotListed",
        format!(
            "the kernel driver is bound to the GPU and NVML does not list it{refused}: the driver could not initialise it; \
             see the kernel log, reset or replace it"
        ),
    )
}

#[cfg(test)]
mod tests {
    use afd_model::{Variant, Vendor};
    use serde_json::{Value, json};

    use super::*;

    fn verdict_codes(kernel: u8, listed: Vec<Value>) -> Vec<(u8, String)> {
        let count = listed.len();
        let report = json!({ "system": { "nvmlDeviceGetCount_v2": { "value": count } }, "devices": listed });
        let report: NvmlReport = serde_json::from_value(report).expect("it is a report");
        let devices: Vec<Device> = (0..kernel)
            .map(|bus| {
                let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
                let mut device = Device::bare(address, Vendor::Nvidia, Variant::Gpu);
                device.driver = Known::Value(NAME.to_owned());
                device
            })
            .collect();
        let verdicts = verdicts(&devices, &report);
        verdicts.into_iter().map(|(address, health)| (address.bus, health.reasons[0].code.clone())).collect()
    }

    fn gpu(bus: u8) -> Value {
        let pci = json!({ "busId": format!("00000000:{bus:02x}:00.0") });
        json!({ "answers": { "nvmlDeviceGetPciInfo_v3": { "value": pci } } })
    }

    fn refused(code: &str, bus: Option<u8>) -> Value {
        let mut device = bus.map_or_else(|| json!({ "answers": {} }), gpu);
        device["answers"]["nvmlDeviceGetHandleByIndex_v2"] = json!({ "error": code });
        device
    }

    fn codes<const N: usize>(codes: [(u8, &str); N]) -> Vec<(u8, String)> {
        codes.map(|(bus, code)| (bus, code.to_owned())).to_vec()
    }

    #[test]
    fn a_gpu_that_is_not_listed_or_refused_has_failed() {
        assert_eq!(verdict_codes(2, vec![gpu(0), gpu(1)]), []);
        assert_eq!(verdict_codes(3, vec![gpu(1)]), codes([(0, "GpuNotListed"), (2, "GpuNotListed")]));
        let lost = refused("GPU_IS_LOST", None);
        assert_eq!(verdict_codes(2, vec![gpu(0), lost.clone()]), codes([(1, "GpuLost")]));
        assert_eq!(
            verdict_codes(3, vec![gpu(0), lost]),
            codes([(1, "GpuNotListed"), (2, "GpuNotListed")]),
            "it is not known which one is lost"
        );
        let known = refused("UNKNOWN", Some(2));
        assert_eq!(
            verdict_codes(3, vec![gpu(0), known]),
            codes([(1, "GpuNotListed"), (2, "GpuInaccessible")])
        );
        let anonymous = json!({ "answers": { "nvmlDeviceGetPciInfo_v3": { "error": "UNKNOWN" } } });
        assert_eq!(verdict_codes(2, vec![gpu(0), anonymous]), [], "it may be the other one");
    }
}
