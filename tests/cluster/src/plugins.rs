//! Plugins of the bed's kubelet. Their devices exist by name only.

mod device_plugin;
mod dra_driver;

pub use device_plugin::DevicePlugin;
pub use dra_driver::{DraDevice, DraDriver};

use std::path::Path;

use anyhow::Context;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

/// Generated from `proto`.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
mod proto {
    pub mod device_plugin {
        tonic::include_proto!("v1beta1");
    }
    pub mod dra {
        tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
    }
}

/// Listens on a socket in the kubelet's folder, replacing an existing one.
fn listen(path: &Path) -> anyhow::Result<UnixListenerStream> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))?;
    Ok(UnixListenerStream::new(listener))
}
