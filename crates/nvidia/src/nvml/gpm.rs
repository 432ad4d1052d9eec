//! GPM: metrics that the GPU counts between two samples.

mod ffi;

use std::collections::BTreeMap;

use self::ffi::GpmSample;
use super::{
    ffi::{NvmlApi, NvmlHandle},
    report::NvmlAnswers,
    table::GPM_ROWS,
};

/// The last sample of each GPU, by its index, and of its GPU instances.
#[derive(Default)]
pub(super) struct GpmSamples(BTreeMap<(u32, Option<u32>), GpmSample>);

impl GpmSamples {
    /// Takes a sample, and adds the metrics since the last one; there are none the first time.
    pub(super) fn sample(
        &mut self,
        api: &NvmlApi,
        (index, gpu): (u32, NvmlHandle),
        gpu_instance: Option<u32>,
        answers: &mut NvmlAnswers,
    ) {
        let Ok(now) = api.gpm_sample(gpu, gpu_instance) else { return };
        if let Some(before) = self.0.remove(&(index, gpu_instance)) {
            let ids: Vec<u32> = GPM_ROWS.iter().flat_map(|row| row.call.arguments).copied().collect();
            for (row, metric) in GPM_ROWS.iter().zip(api.gpm_metrics(&before, &now, &ids)) {
                answers.put(row.call, metric);
            }
            api.free_sample(before);
        }
        self.0.insert((index, gpu_instance), now);
    }
}
