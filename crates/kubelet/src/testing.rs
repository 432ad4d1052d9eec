//! A fake kubelet: PodResources over a real socket, with pods that the test sets.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ClaimResource, ContainerDevices,
    ContainerResources, DynamicResource, ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
    pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
};

/// The fake kubelet and its pods.
#[derive(Clone, Debug, Default)]
pub struct FakeKubelet {
    pods: Arc<Mutex<Vec<PodResources>>>,
    offered: Arc<Mutex<OfferedAnswer>>,
    calls: Arc<AtomicUsize>,
}

/// How it answers what its device plugins offer.
#[derive(Clone, Debug, Default)]
enum OfferedAnswer {
    /// As a kubelet that does not serve it.
    #[default]
    NotServed,
    /// With an error.
    Failing(Status),
    /// With these devices.
    Devices(Vec<ContainerDevices>),
}

impl FakeKubelet {
    /// Replaces its pods.
    pub fn set_pods(&self, pods: Vec<PodResources>) {
        *self.pods.lock().unwrap_or_else(PoisonError::into_inner) = pods;
    }

    /// Reports that a device plugin offers these devices of a resource. Otherwise what is offered is not answered.
    pub fn offer(&self, resource: &str, ids: &[String]) {
        let devices = ContainerDevices { resource_name: resource.to_owned(), device_ids: ids.to_vec() };
        self.set_offered(OfferedAnswer::Devices(vec![devices]));
    }

    /// Answers with an error what is offered.
    pub fn fail_offered(&self, status: Status) {
        self.set_offered(OfferedAnswer::Failing(status));
    }

    fn set_offered(&self, offered: OfferedAnswer) {
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = offered;
    }

    /// How often its pods were requested.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Serves on `kubelet.sock` in a directory, and replaces an existing socket.
    ///
    /// # Errors
    /// When the socket cannot be created.
    #[expect(clippy::disallowed_methods, reason = "the socket is a test's own")]
    pub fn start(&self, directory: &Path) -> std::io::Result<JoinHandle<()>> {
        let path = directory.join("kubelet.sock");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let incoming = UnixListenerStream::new(UnixListener::bind(path)?);
        let service = PodResourcesListerServer::new(self.clone()).max_encoding_message_size(64 << 20);
        Ok(tokio::spawn(async move {
            // The test notices at once when the server fails.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        }))
    }
}

#[tonic::async_trait]
impl PodResourcesLister for FakeKubelet {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let pod_resources = self.pods.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match offered {
            OfferedAnswer::NotServed => Err(Status::unimplemented("no test has set what is offered")),
            OfferedAnswer::Failing(status) => Err(status),
            OfferedAnswer::Devices(devices) => Ok(Response::new(AllocatableResourcesResponse { devices })),
        }
    }
}

/// A pod in the namespace `serving` whose container `vllm` holds devices of a DRA driver, which it has published in a pool of the
/// node.
pub fn claiming_pod(name: &str, driver: &str, devices: &[&str]) -> PodResources {
    let resources = devices.iter().map(|device| ClaimResource {
        driver_name: driver.to_owned(),
        pool_name: "node".to_owned(),
        device_name: (*device).to_owned(),
        ..ClaimResource::default()
    });
    let claim = DynamicResource { claim_resources: resources.collect(), ..DynamicResource::default() };
    let mut pod = pod(name, "", &[]);
    pod.containers[0].dynamic_resources = vec![claim];
    pod
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
