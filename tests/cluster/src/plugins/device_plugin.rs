//! A device plugin.

use std::{path::Path, pin::Pin};

use anyhow::Context;
use tokio::{sync::watch, task::JoinHandle};
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{
    Request, Response, Status,
    transport::{Endpoint, Server},
};

use super::{
    listen,
    proto::device_plugin::{
        AllocateRequest, AllocateResponse, ContainerAllocateResponse, Device, DevicePluginOptions, Empty,
        ListAndWatchResponse, RegisterRequest,
        device_plugin_server::{DevicePlugin as Api, DevicePluginServer},
        registration_client::RegistrationClient,
    },
};

/// The kubelet's folder for device plugins, which does not depend on its root.
const FOLDER: &str = "/var/lib/kubelet/device-plugins";

/// A device plugin that runs until the value is dropped.
#[derive(Debug)]
pub struct DevicePlugin {
    resource: String,
    devices: watch::Sender<Vec<Device>>,
    server: Option<JoinHandle<()>>,
}

impl DevicePlugin {
    /// Offers devices of an extended resource, all healthy.
    ///
    /// # Errors
    /// When the kubelet does not register it.
    pub async fn start(
        resource: &str,
        ids: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<DevicePlugin> {
        let devices = ids.into_iter().map(|id| Device { id, health: "Healthy".to_owned() });
        let (devices, _) = watch::channel(devices.collect());
        let mut plugin = DevicePlugin { resource: resource.to_owned(), devices, server: None };
        plugin.register().await?;
        Ok(plugin)
    }

    /// Sets the health of a device.
    pub fn set_health(&self, id: &str, healthy: bool) {
        self.devices.send_modify(|devices| {
            for device in devices.iter_mut().filter(|device| device.id == id) {
                device.health = if healthy { "Healthy" } else { "Unhealthy" }.to_owned();
            }
        });
    }

    /// Registers with the kubelet. A restarted kubelet does not remember its plugins.
    ///
    /// # Errors
    /// When the kubelet does not register it.
    pub async fn register(&mut self) -> anyhow::Result<()> {
        self.stop();
        let endpoint = format!("{}.sock", self.resource.replace('/', "_"));
        let incoming = listen(&Path::new(FOLDER).join(&endpoint))?;
        let service = DevicePluginServer::new(DevicePluginService { devices: self.devices.clone() });
        self.server = Some(tokio::spawn(async move {
            // The test notices a plugin that fails.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        }));
        let kubelet = Endpoint::from_shared(format!("unix://{FOLDER}/kubelet.sock"))?;
        let channel = kubelet.connect().await.context("connecting to the kubelet")?;
        let request =
            RegisterRequest { version: "v1beta1".to_owned(), endpoint, resource_name: self.resource.clone() };
        RegistrationClient::new(channel).register(request).await.context("registering a device plugin")?;
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}

impl Drop for DevicePlugin {
    fn drop(&mut self) {
        self.stop();
    }
}

struct DevicePluginService {
    devices: watch::Sender<Vec<Device>>,
}

#[tonic::async_trait]
impl Api for DevicePluginService {
    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions {}))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let devices = WatchStream::new(self.devices.subscribe());
        Ok(Response::new(Box::pin(devices.map(|devices| Ok(ListAndWatchResponse { devices })))))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let containers = request.into_inner().container_requests.len();
        let container_responses = vec![ContainerAllocateResponse {}; containers];
        Ok(Response::new(AllocateResponse { container_responses }))
    }
}
