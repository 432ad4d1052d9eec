//! A kubelet that a test plays: PodResources over a real socket, with pods that the test chooses.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
    pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
};

/// The pods of a played kubelet.
#[derive(Clone, Debug, Default)]
pub struct Played(Arc<Mutex<Vec<PodResources>>>);

impl Played {
    /// From now on these are its pods.
    pub fn set(&self, pods: Vec<PodResources>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pods;
    }

    /// Serves on `kubelet.sock` in a folder, in the place of a socket that was there.
    ///
    /// # Errors
    /// When the socket cannot be made.
    #[expect(clippy::disallowed_methods, reason = "the socket is a test's own")]
    pub fn start(&self, folder: &Path) -> std::io::Result<JoinHandle<()>> {
        let path = folder.join("kubelet.sock");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let incoming = UnixListenerStream::new(UnixListener::bind(path)?);
        let service = PodResourcesListerServer::new(self.clone()).max_encoding_message_size(64 << 20);
        Ok(tokio::spawn(async move {
            // A server that fails is missed by the test at once.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        }))
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Played {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let pod_resources = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// A pod in the namespace `serving` whose container `vllm` holds devices of a resource.
pub fn pod(name: &str, resource: &str, ids: &[&str]) -> PodResources {
    let devices = ids.iter().map(|id| ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: vec![(*id).to_owned()],
    });
    PodResources {
        name: name.to_owned(),
        namespace: "serving".to_owned(),
        containers: vec![ContainerResources {
            name: "vllm".to_owned(),
            devices: devices.collect(),
            dynamic_resources: Vec::new(),
        }],
    }
}
