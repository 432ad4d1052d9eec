//! Licensed features of a vGPU.

use std::ffi::{c_int, c_uint};

use afd_fake_recorded::field_text as text;
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGridLicensableFeatures_t, nvmlReturn_t};

use crate::{INVALID_ARGUMENT, code, number, recording::call_on, write};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGridLicensableFeatures_v4(
    pointer: nvmlDevice_t,
    target: *mut nvmlGridLicensableFeatures_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetGridLicensableFeatures_v4", pointer, &[]).and_then(|value| {
        let features = value["gridLicensableFeatures"].as_array().ok_or(INVALID_ARGUMENT)?;
        // SAFETY: a C struct of numbers and strings, for which zeros are a value.
        let mut licences: nvmlGridLicensableFeatures_t = unsafe { std::mem::zeroed() };
        licences.isGridLicenseSupported = number(&value["isGridLicenseSupported"]) as c_int;
        licences.licensableFeaturesCount = features.len() as c_uint;
        for (target, feature) in licences.gridLicensableFeatures.iter_mut().zip(features) {
            target.featureCode = number(&feature["featureCode"]) as c_uint;
            target.featureState = number(&feature["featureState"]) as c_uint;
            target.featureEnabled = number(&feature["featureEnabled"]) as c_uint;
            target.productName = text(&feature["productName"]);
        }
        write(target, licences)
    }))
}
