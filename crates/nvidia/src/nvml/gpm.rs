//! GPM: metrics that the GPU counts between two samples.

mod ffi;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use self::ffi::GpmSample;
use super::{
    DiscoveredGpu,
    ffi::{NvmlApi, NvmlHandle, NvmlReply},
    report::NvmlAnswers,
    table::GPM_ROWS,
};

/// The shortest time between two samples of which nvml.h says that metrics may be computed.
const MIN_WINDOW: Duration = Duration::from_millis(100);

/// The last sample of each GPU, by its handle, and of its GPU instances.
#[derive(Default)]
pub(super) struct GpmSamples(BTreeMap<(usize, Option<u32>), LastSample>);

struct LastSample {
    sample: GpmSample,
    taken_at: Instant,
    /// The metrics between this sample and the one before.
    metrics: Vec<NvmlReply>,
}

impl GpmSamples {
    /// Takes a sample; the metrics since the last one. There are none the first time, and those of the last one where it is too
    /// recent.
    pub(super) fn sample(
        &mut self,
        api: &NvmlApi,
        gpu: NvmlHandle,
        gpu_instance: Option<u32>,
    ) -> NvmlAnswers {
        let key = (gpu.key(), gpu_instance);
        match self.0.get(&key) {
            Some(last) if last.taken_at.elapsed() < MIN_WINDOW => return answers(&last.metrics),
            _ => {}
        }
        let Ok(sample) = api.gpm_sample(gpu, gpu_instance) else { return NvmlAnswers::default() };
        let taken_at = Instant::now();
        let metrics = self.0.remove(&key).map(|before| {
            let ids: Vec<u32> = GPM_ROWS.iter().flat_map(|row| row.call.arguments).copied().collect();
            let metrics = api.gpm_metrics(&before.sample, &sample, &ids);
            api.free_sample(before.sample);
            metrics
        });
        let metrics = metrics.unwrap_or_default();
        let answers = answers(&metrics);
        self.0.insert(key, LastSample { sample, taken_at, metrics });
        answers
    }

    /// Frees the samples of GPUs and GPU instances that are gone.
    pub(super) fn forget_others(&mut self, api: &NvmlApi, gpus: &[DiscoveredGpu]) {
        let is_present = |(handle, instance): &(usize, Option<u32>)| {
            let gpu = gpus.iter().find(|gpu| gpu.handle.key() == *handle);
            gpu.is_some_and(|gpu| instance.is_none_or(|id| gpu.mig.iter().any(|(_, known)| *known == id)))
        };
        for (_, gone) in self.0.extract_if(.., |key, _| !is_present(key)) {
            api.free_sample(gone.sample);
        }
    }
}

fn answers(metrics: &[NvmlReply]) -> NvmlAnswers {
    let mut answers = NvmlAnswers::default();
    for (row, metric) in GPM_ROWS.iter().zip(metrics) {
        answers.put(row.call, metric.clone());
    }
    answers
}
