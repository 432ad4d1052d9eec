//! Names of GPUs and MIG devices: UUIDs and minor numbers to handles.
//!
//! NVIDIA's device plugin advertises UUIDs; GKE's advertises `nvidia<minor>` for a GPU and `nvidia<minor>/gi<id>` for a GPU
//! instance. NVIDIA's DRA driver (0.5) names a GPU `gpu-<minor>` in its ResourceSlices.

use afd_model::{Handle, HandleKind};

/// Handles of one GPU or MIG device, each once.
#[derive(Debug)]
pub(crate) struct HandleSet<'a>(pub(crate) &'a mut Vec<Handle>);

impl HandleSet<'_> {
    pub(crate) fn add(&mut self, kind: HandleKind, value: impl Into<String>) {
        let handle = Handle::new(kind, value);
        if !self.0.contains(&handle) {
            self.0.push(handle);
        }
    }

    /// The UUID, by which NVIDIA's device plugin advertises GPUs and MIG devices alike.
    pub(crate) fn add_uuid(&mut self, uuid: &str) {
        self.add(HandleKind::Uuid, uuid);
        self.add(HandleKind::DevicePlugin, uuid);
    }

    /// The minor number of a GPU, and the names made of it.
    pub(crate) fn add_minor(&mut self, minor: u32) {
        self.add(HandleKind::Minor, minor.to_string());
        self.add(HandleKind::DevicePlugin, format!("nvidia{minor}"));
        self.add(HandleKind::Dra, format!("gpu-{minor}"));
    }

    /// The GPU instance of a MIG device. Compute instances that share it share this name.
    pub(crate) fn add_gpu_instance(&mut self, minor: &str, gpu_instance: u32) {
        self.add(HandleKind::DevicePlugin, format!("nvidia{minor}/gi{gpu_instance}"));
    }
}
