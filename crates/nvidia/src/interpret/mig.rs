//! MIG devices: their profiles, resources and handles.

use std::collections::BTreeMap;

use afd_model::{
    Device, Handle, HandleKind, Known, MigInstance, Missing, Partition, PartitionName, possible_memory,
};
use serde_json::Value;

use crate::{
    handles::HandleSet,
    nvml::{
        report::{NvmlAnswers, NvmlDeviceReport, field, text},
        table::{self, call},
    },
};

/// Precedes the profile in the name of a MIG device.
const NAME_INFIX: &str = " MIG ";

/// The MIG devices of a GPU.
pub(super) fn devices(device: &Device, reported: &NvmlDeviceReport) -> Vec<Partition> {
    let profiles: BTreeMap<u32, String> = (0..table::MAX_PROFILES)
        .filter_map(|profile| {
            let call = call::GPU_INSTANCE_PROFILE.with(&[profile]);
            let id = reported.answers.field(call.as_str(), "id").into_value()?;
            Some((id, reported.answers.field(call.as_str(), "name").into_value()?))
        })
        .collect();
    let minor = device.handle(HandleKind::Minor);
    let migs = reported.partitions.iter().flatten();
    migs.filter_map(|answers| {
        let gpu_instance: u32 = answers.known(call::GPU_INSTANCE_ID).into_value()?;
        let compute_instance: u32 = answers.known(call::COMPUTE_INSTANCE_ID).into_value()?;
        let attribute = |name: &str| field::<u32>(answers, call::MIG_ATTRIBUTES, name);
        let mig = MigInstance {
            gpu_instance,
            compute_instance,
            gpu_slices: attribute("gpuInstanceSliceCount"),
            compute_slices: attribute("computeInstanceSliceCount"),
            copy_engines: attribute("sharedCopyEngineCount"),
            decoders: attribute("sharedDecoderCount"),
            encoders: attribute("sharedEncoderCount"),
            jpeg_engines: attribute("sharedJpegCount"),
            ofa_engines: attribute("sharedOfaCount"),
        };
        let mut handles = Vec::new();
        let mut names = HandleSet(&mut handles);
        if let Known::Value(uuid) = text(answers, call::UUID) {
            names.add_uuid(&uuid);
        }
        if let Some(minor) = minor {
            names.add_gpu_instance(minor, gpu_instance);
        }
        let profile = profile(answers, &mig, &profiles);
        handles.extend(dra_name(answers, minor, profile.value()));
        Some(Partition {
            profile,
            memory_bytes: field::<u64>(answers, call::MIG_ATTRIBUTES, "memorySizeMB")
                .and_then(|mebibytes| Known::from_option(mebibytes.checked_mul(1 << 20), Missing::Malformed))
                .and_then(possible_memory)
                .or_else(|| field(answers, call::MEMORY, "total").and_then(possible_memory)),
            compute_units: attribute("multiprocessorCount"),
            numa_node: device.numa_node,
            handles,
            mig: Some(mig),
            ..Partition::bare(device.id, PartitionName::Mig { gpu_instance, compute_instance })
        })
    })
    .collect()
}

/// `1g.10gb+me`: the driver's name of the GPU instance's profile, prefixed by `<n>c.` where the compute instance has fewer
/// slices than the GPU instance; else the end of the MIG device's own name.
fn profile(answers: &NvmlAnswers, mig: &MigInstance, profiles: &BTreeMap<u32, String>) -> Known<String> {
    let profile_id: Known<u32> = field(answers, call::GPU_INSTANCE_INFO, "profileId");
    let name = profile_id.value().and_then(|id| profiles.get(id));
    let name = name.map(|name| name.trim_start_matches("MIG").trim().to_owned());
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        return Known::Value(match (mig.compute_slices.value(), mig.gpu_slices.value()) {
            (Some(compute), Some(gpu)) if compute < gpu => format!("{compute}c.{name}"),
            _ => name,
        });
    }
    let own = text(answers, call::NAME);
    let end = own.value().and_then(|name| name.split_once(NAME_INFIX)).map(|(_, end)| end.to_owned());
    Known::from_option(end, Missing::NotAvailable)
}

/// `gpu-0-mig-1g10gb-me-20-5`: the minor number of the GPU, the profile without dots, the id of the GPU instance's profile and
/// its first memory slice, as NVIDIA's DRA driver (0.5) names a MIG device in its ResourceSlices. Compute instances that share
/// a GPU instance and have equal profiles share the name.
fn dra_name(answers: &NvmlAnswers, minor: Option<&str>, profile: Option<&String>) -> Option<Handle> {
    let instance = answers.known::<Value>(call::GPU_INSTANCE_INFO).into_value()?;
    let (id, start) = (instance["profileId"].as_u64()?, instance["placement"]["start"].as_u64()?);
    let spelt_profile: String = profile?
        .to_lowercase()
        .chars()
        .filter(|c| *c != '.')
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = format!("gpu-{}-mig-{}-{id}-{start}", minor?, spelt_profile.trim_matches('-'));
    Some(Handle::new(HandleKind::Dra, name))
}

#[cfg(test)]
mod tests {
    use afd_model::{PciAddress, Variant, Vendor};
    use serde_json::json;

    use super::*;

    fn named(profile: &str, id: u32, start: u32) -> Option<String> {
        let mut answers = NvmlAnswers::default();
        let info = json!({ "profileId": id, "placement": { "start": start, "size": 1 } });
        answers.put(call::GPU_INSTANCE_INFO, Ok(info));
        dra_name(&answers, Some("3"), Some(&profile.to_owned())).map(|handle| handle.value)
    }

    #[test]
    fn a_mig_device_has_the_name_of_the_dra_driver() {
        assert_eq!(named("1g.10gb", 19, 6).as_deref(), Some("gpu-3-mig-1g10gb-19-6"));
        assert_eq!(named("1g.10gb+me", 20, 5).as_deref(), Some("gpu-3-mig-1g10gb-me-20-5"));
        assert_eq!(named("1c.3g.40gb", 9, 4).as_deref(), Some("gpu-3-mig-1c3g40gb-9-4"));
        assert_eq!(dra_name(&NvmlAnswers::default(), Some("3"), Some(&"1g.10gb".to_owned())), None);
    }

    #[test]
    fn a_mig_device_of_which_little_is_reported_is_a_partition() {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let device = Device::bare(address, Vendor::Nvidia, Variant::Gpu);
        let mut reported = NvmlDeviceReport::default();
        let mut answers = NvmlAnswers::default();
        answers.put(call::GPU_INSTANCE_ID, Ok(json!(7)));
        answers.put(call::COMPUTE_INSTANCE_ID, Ok(json!(0)));
        answers.put(call::NAME, Ok(json!("NVIDIA H100 80GB HBM3 MIG 1g.10gb")));
        reported.partitions = vec![None, Some(answers)];
        let [partition] = &devices(&device, &reported)[..] else { panic!("there is one") };
        assert_eq!(
            (partition.name.to_string().as_str(), partition.profile.value().map(String::as_str)),
            ("gi7-ci0", Some("1g.10gb"))
        );
        assert!(partition.handles.is_empty() && !partition.memory_bytes.is_known());
    }
}
