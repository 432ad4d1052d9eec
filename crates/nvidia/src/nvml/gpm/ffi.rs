//! The C calls of GPM.
#![allow(unsafe_code, reason = "the library is C; every block below says why it is sound")]

use nvml_wrapper_sys::bindings::{nvmlGpmMetricsGet_t, nvmlGpmSample_t};
use serde_json::json;

use crate::nvml::{
    ffi::{NvmlApi, NvmlHandle, NvmlReply, call, fill},
    report::{FUNCTION_NOT_FOUND, NvmlCode, code},
};

/// A GPM sample, freed by [`NvmlApi::free_sample`].
pub(super) struct GpmSample(nvmlGpmSample_t);

impl NvmlApi {
    /// Takes a GPM sample of a GPU, or of one of its GPU instances.
    pub(super) fn gpm_sample(
        &self,
        gpu: NvmlHandle,
        gpu_instance: Option<u32>,
    ) -> Result<GpmSample, NvmlCode> {
        let sample = fill!(self, nvmlGpmSampleAlloc(), nvmlGpmSample_t).map(GpmSample)?;
        let taken = match gpu_instance {
            None => call!(self, nvmlGpmSampleGet(gpu.0, sample.0)),
            Some(id) => call!(self, nvmlGpmMigSampleGet(gpu.0, id, sample.0)),
        };
        match taken {
            Ok(()) => Ok(sample),
            Err(code) => {
                self.free_sample(sample);
                Err(code)
            }
        }
    }

    pub(super) fn free_sample(&self, sample: GpmSample) {
        // Nothing can be done about a sample that the library fails to free.
        let _ = call!(self, nvmlGpmSampleFree(sample.0));
    }

    /// Metrics between two samples, by their ids.
    pub(super) fn gpm_metrics(&self, before: &GpmSample, after: &GpmSample, ids: &[u32]) -> Vec<NvmlReply> {
        // SAFETY: a C struct of numbers and pointers, for which zeros are a value.
        let mut request: Box<nvmlGpmMetricsGet_t> = Box::new(unsafe { std::mem::zeroed() });
        request.version = 1;
        (request.sample1, request.sample2) = (before.0, after.0);
        let ids = &ids[..ids.len().min(request.metrics.len())];
        request.numMetrics = ids.len() as u32;
        for (metric, id) in request.metrics.iter_mut().zip(ids) {
            metric.metricId = *id;
        }
        let result = call!(self, nvmlGpmMetricsGet(&mut *request));
        let metrics = request.metrics.iter().take(ids.len());
        metrics
            .map(|metric| match (result, metric.nvmlReturn) {
                (Err(code), _) => Err(code),
                (Ok(()), 0) => Ok(json!(metric.value)),
                (Ok(()), status) => Err(code(status)),
            })
            .collect()
    }
}
