//! A DRA driver: it publishes a ResourceSlice of the bed's Node, and prepares the devices that the scheduler has allocated.

use std::{collections::HashMap, path::PathBuf, process::Command};

use anyhow::Context;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, transport::Server};

use super::{
    listen,
    proto::dra::{
        Claim, Device, NodePrepareResourceResponse, NodePrepareResourcesRequest,
        NodePrepareResourcesResponse, NodeUnprepareResourceResponse, NodeUnprepareResourcesRequest,
        NodeUnprepareResourcesResponse,
        dra_plugin_server::{DraPlugin, DraPluginServer},
    },
};
use crate::{Bed, BedProcess};

const KUBELET: &str = "/var/lib/kubelet";

/// A device as the driver publishes it.
#[derive(Clone, Debug)]
pub struct DraDevice {
    /// Its name.
    pub name: String,
    /// Its attributes; all are strings.
    pub attributes: Vec<(String, String)>,
}

/// A driver that runs until the value is dropped. Its ResourceSlice remains.
pub struct DraDriver {
    name: String,
    client: Client,
    server: JoinHandle<()>,
    _registrar: BedProcess,
}

impl DraDriver {
    /// Registers with the kubelet of a bed. It publishes no devices yet.
    ///
    /// # Errors
    /// When its sockets cannot be made.
    pub async fn start(bed: &Bed, name: &str) -> anyhow::Result<DraDriver> {
        let client = bed.client().await?;
        let socket = PathBuf::from(format!("{KUBELET}/plugins/{name}/dra.sock"));
        let incoming = listen(&socket)?;
        let service = DraPluginServer::new(DraService { name: name.to_owned(), client: client.clone() });
        let server = tokio::spawn(async move {
            // The test notices a driver that fails.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        // The kubelet connects as soon as this socket exists.
        let mut registrar = Command::new(bed.programs().other("registrar", "registrar")?);
        registrar.arg(format!("{KUBELET}/plugins_registry/{name}-reg.sock")).arg(name).arg(socket);
        Ok(DraDriver {
            name: name.to_owned(),
            client,
            server,
            _registrar: bed.process("registrar", registrar)?,
        })
    }

    /// Publishes these devices as all devices of the bed's Node.
    ///
    /// # Errors
    /// When the API server rejects them.
    pub async fn publish(&self, devices: &[DraDevice]) -> anyhow::Result<()> {
        let attributes = |device: &DraDevice| -> Value {
            let attributes = device.attributes.iter();
            attributes
                .map(|(name, value)| (name.clone(), json!({ "string": value })))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let devices: Vec<Value> = devices
            .iter()
            .map(|device| json!({ "name": device.name, "attributes": attributes(device) }))
            .collect();
        let slice = json!({
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": { "name": format!("{}-{}", Bed::NODE, self.name) },
            "spec": {
                "driver": self.name,
                "nodeName": Bed::NODE,
                "pool": { "name": Bed::NODE, "generation": 1, "resourceSliceCount": 1 },
                "devices": devices,
            },
        });
        let slices: Api<ResourceSlice> = Api::all(self.client.clone());
        let parameters = PatchParams::apply("dra-driver").force();
        let name = format!("{}-{}", Bed::NODE, self.name);
        slices.patch(&name, &parameters, &Patch::Apply(slice)).await.context("publishing devices")?;
        Ok(())
    }
}

impl Drop for DraDriver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct DraService {
    name: String,
    client: Client,
}

impl DraService {
    /// The devices that the scheduler has allocated to a claim.
    async fn allocated(&self, claim: &Claim) -> anyhow::Result<Vec<Device>> {
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), &claim.namespace);
        let status = claims.get(&claim.name).await?.status.context("the claim has no status")?;
        let devices = status.allocation.and_then(|allocation| allocation.devices).unwrap_or_default();
        let results = devices.results.unwrap_or_default().into_iter();
        Ok(results
            .filter(|result| result.driver == self.name)
            .map(|result| Device {
                request_names: vec![result.request],
                pool_name: result.pool,
                device_name: result.device,
            })
            .collect())
    }
}

#[tonic::async_trait]
impl DraPlugin for DraService {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        let mut claims = HashMap::new();
        for claim in request.into_inner().claims {
            let response = match self.allocated(&claim).await {
                Ok(devices) => NodePrepareResourceResponse { devices, error: String::new() },
                Err(error) => {
                    NodePrepareResourceResponse { devices: Vec::new(), error: format!("{error:#}") }
                }
            };
            claims.insert(claim.uid, response);
        }
        Ok(Response::new(NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        let claims = request.into_inner().claims.into_iter();
        let claims = claims.map(|claim| (claim.uid, NodeUnprepareResourceResponse::default())).collect();
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }
}
