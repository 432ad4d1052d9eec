//! Structs of nvml.h as JSON objects with their C field names. Only fields that are read are in them.

use nvml_wrapper_sys::bindings::{
    nvmlConfComputeSystemState_t, nvmlDeviceAttributes_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfoV_t,
    nvmlGpuInstanceInfo_t, nvmlGpuInstanceProfileInfo_v2_t, nvmlGridLicensableFeatures_t, nvmlMemory_t,
    nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_v2_t, nvmlUtilization_t, nvmlViolationTime_t,
};
use serde_json::{Value, json};

/// The string in a C buffer.
pub(super) fn text(buffer: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn pci_info(pci: &nvmlPciInfo_t) -> Value {
    json!({
        "busId": text(&pci.busId),
        "domain": pci.domain,
        "bus": pci.bus,
        "device": pci.device,
        "pciDeviceId": pci.pciDeviceId,
        "pciSubSystemId": pci.pciSubSystemId,
    })
}

pub(super) fn confidential_compute(state: &nvmlConfComputeSystemState_t) -> Value {
    json!({
        "environment": state.environment,
        "ccFeature": state.ccFeature,
        "devToolsMode": state.devToolsMode,
    })
}

pub(super) fn memory(memory: &nvmlMemory_v2_t) -> Value {
    json!({
        "total": memory.total,
        "reserved": memory.reserved,
        "free": memory.free,
        "used": memory.used,
    })
}

pub(super) fn memory_v1(memory: &nvmlMemory_t) -> Value {
    json!({ "total": memory.total, "free": memory.free, "used": memory.used })
}

/// `has_summary`: whether the library filled struct version 3, which adds the health summary.
pub(super) fn fabric(fabric: &nvmlGpuFabricInfoV_t, has_summary: bool) -> Value {
    json!({
        "clusterUuid": hexadecimal(&fabric.clusterUuid),
        "status": fabric.status,
        "cliqueId": fabric.cliqueId,
        "state": fabric.state,
        "healthMask": fabric.healthMask,
        "healthSummary": has_summary.then_some(fabric.healthSummary),
    })
}

pub(super) fn fabric_v1(fabric: &nvmlGpuFabricInfo_t) -> Value {
    json!({
        "clusterUuid": hexadecimal(&fabric.clusterUuid),
        "status": fabric.status,
        "cliqueId": fabric.cliqueId,
        "state": fabric.state,
    })
}

pub(super) fn gpu_instance_profile(profile: &nvmlGpuInstanceProfileInfo_v2_t) -> Value {
    json!({
        "id": profile.id,
        "sliceCount": profile.sliceCount,
        "instanceCount": profile.instanceCount,
        "multiprocessorCount": profile.multiprocessorCount,
        "memorySizeMB": profile.memorySizeMB,
        "name": text(&profile.name),
    })
}

pub(super) fn gpu_instance(instance: &nvmlGpuInstanceInfo_t) -> Value {
    json!({
        "id": instance.id,
        "profileId": instance.profileId,
        "placement": { "start": instance.placement.start, "size": instance.placement.size },
    })
}

pub(super) fn attributes(attributes: &nvmlDeviceAttributes_t) -> Value {
    json!({
        "multiprocessorCount": attributes.multiprocessorCount,
        "sharedCopyEngineCount": attributes.sharedCopyEngineCount,
        "sharedDecoderCount": attributes.sharedDecoderCount,
        "sharedEncoderCount": attributes.sharedEncoderCount,
        "sharedJpegCount": attributes.sharedJpegCount,
        "sharedOfaCount": attributes.sharedOfaCount,
        "gpuInstanceSliceCount": attributes.gpuInstanceSliceCount,
        "computeInstanceSliceCount": attributes.computeInstanceSliceCount,
        "memorySizeMB": attributes.memorySizeMB,
    })
}

pub(super) fn utilization(rates: &nvmlUtilization_t) -> Value {
    json!({ "gpu": rates.gpu, "memory": rates.memory })
}

pub(super) fn violation(time: &nvmlViolationTime_t) -> Value {
    json!({ "referenceTime": time.referenceTime, "violationTime": time.violationTime })
}

pub(super) fn licences(licences: &nvmlGridLicensableFeatures_t) -> Value {
    let features = licences.gridLicensableFeatures.iter().take(licences.licensableFeaturesCount as usize);
    let features = features.map(|feature| {
        json!({
            "featureCode": feature.featureCode,
            "featureState": feature.featureState,
            "featureEnabled": feature.featureEnabled,
            "productName": text(&feature.productName),
        })
    });
    json!({
        "isGridLicenseSupported": licences.isGridLicenseSupported,
        "gridLicensableFeatures": features.collect::<Value>(),
    })
}

pub(super) fn process(process: &nvmlProcessInfo_v2_t) -> Value {
    json!({
        "pid": process.pid,
        "usedGpuMemory": process.usedGpuMemory,
        "gpuInstanceId": process.gpuInstanceId,
        "computeInstanceId": process.computeInstanceId,
    })
}
