//! A control plane with a release of the chart, Nodes as agents label them, and bridges with the token of their account.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use afd_test_cluster::{
    Bed, BedProcess, KubernetesVersion,
    proxy::{Credentials, Proxy},
    succeed, until,
};
use afd_tests::chart::{chart, values_option};
use anyhow::ensure;
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "afd";
pub(crate) const ACCOUNT: &str = "afd-bridge";
pub(crate) const PREFIX: &str = "accelerator.llm-d.ai";
pub(crate) const MARKER: &str = "accelerator.llm-d.ai/bridge";
pub(crate) const HOST: &str = "kubernetes.io/hostname";
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
pub(crate) const RACK: &str = "topology.kubernetes.io/rack";
pub(crate) const PRODUCT: &str = "llm-d.ai/accelerator-product";
pub(crate) const MODEL: &str = "llm-d.ai/accelerator-model";
pub(crate) const NODE: &str = "gpu-node";
/// Where the pods of the tests are.
pub(crate) const PODS: &str = "/api/v1/namespaces/ml/pods";
const TENANT: &str = "ml";
/// So that another bridge takes over within seconds.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

/// The labels of a Node with eight H100 in a fabric.
pub(crate) fn node_labels() -> Value {
    json!({
        HOST: NODE,
        ZONE: "zone-1",
        "topology.kubernetes.io/region": "region-1",
        "llm-d.ai/accelerator-vendor": "nvidia",
        "llm-d.ai/accelerator-variant": "gpu",
        "accelerator.llm-d.ai/present": "true",
        "accelerator.llm-d.ai/product": "NVIDIA-H100-80GB-HBM3",
        "accelerator.llm-d.ai/model": "H100",
        "accelerator.llm-d.ai/memory-mib": "81559",
        "accelerator.llm-d.ai/fabric-domain": "fabric-1",
    })
}

/// The cluster.
pub(crate) struct BridgeSetup {
    pub(crate) bed: Bed,
    pub(crate) nodes: Api<Node>,
    /// Of the namespace of the tests.
    pub(crate) pods: Api<Pod>,
    /// With the bridge's token.
    pub(crate) bridge_client: Client,
    token: String,
    /// In front of every bridge that was started.
    proxies: std::cell::RefCell<Vec<std::rc::Rc<Proxy>>>,
}

/// A bridge, and what it requests.
pub(crate) struct RunningBridge {
    pub(crate) process: BedProcess,
    pub(crate) proxy: std::rc::Rc<Proxy>,
}

/// Installs the chart with the bridge, without any pod, or changes its value; returns a token of the bridge's account.
pub(crate) fn install(bed: &Bed, device_taints: &str) -> anyhow::Result<String> {
    let nowhere = json!({ "no": "node" });
    let values = json!({
        "nodeSelector": nowhere,
        "bridge": { "enabled": true, "deviceTaints": device_taints, "nodeSelector": nowhere },
    });
    let values = values_option(bed.folder(), &values);
    let mut helm = bed.helm()?;
    helm.args(["upgrade", "--install", NAMESPACE, "--namespace", NAMESPACE, "--create-namespace"])
        .arg(values)
        .arg(chart());
    succeed(&mut helm)?;
    let token = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "create", "token", ACCOUNT]))?;
    Ok(token.trim().to_owned())
}

/// Helm does not install the bridge of a second release: two would take the labels from each other.
pub(crate) fn refuse_second(bed: &Bed) -> anyhow::Result<()> {
    let nowhere = json!({ "no": "node" });
    let values = json!({ "nodeSelector": nowhere, "bridge": { "enabled": true, "nodeSelector": nowhere } });
    let values = values_option(bed.folder(), &values);
    let mut helm = bed.helm()?;
    helm.args(["install", "second", "--namespace", "second", "--create-namespace"]).arg(values).arg(chart());
    let output = helm.output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let is_refused = error.contains("accelerator-feature-discovery-bridge") && error.contains("exists");
    ensure!(!output.status.success() && is_refused, "{error}");
    Ok(())
}

/// A kubeconfig with a token, straight to the API server.
pub(crate) fn kubeconfig(bed: &Bed, token: &str) -> anyhow::Result<PathBuf> {
    let mut config = serde_json::to_value(Kubeconfig::read_from(bed.kubeconfig())?)?;
    for user in config["users"].as_array_mut().into_iter().flatten() {
        user["user"] = json!({ "token": token });
    }
    let path = bed.folder().join("bridge.kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

impl BridgeSetup {
    pub(crate) async fn new() -> anyhow::Result<BridgeSetup> {
        let bed = Bed::builder().version(KubernetesVersion::V1_34).start().await?;
        let client = bed.client().await?;
        let token = install(&bed, "None")?;
        succeed(bed.kubectl()?.args(["create", "namespace", TENANT]))?;
        succeed(bed.kubectl()?.args(["--namespace", TENANT, "create", "serviceaccount", "default"]))?;
        let kubeconfig = Kubeconfig::read_from(kubeconfig(&bed, &token)?)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        let setup = BridgeSetup {
            nodes: Api::all(client.clone()),
            pods: Api::namespaced(client, TENANT),
            bridge_client: Client::try_from(config)?,
            token,
            proxies: Default::default(),
            bed,
        };
        setup.node(NODE, node_labels()).await?;
        setup.node("other", json!({ HOST: "other" })).await?;
        Ok(setup)
    }

    /// The pods of the tests with the bridge's token.
    pub(crate) fn bridge_pods(&self) -> Api<Pod> {
        Api::namespaced(self.bridge_client.clone(), TENANT)
    }

    /// Starts a bridge as the chart does, with its token and a shorter Lease.
    pub(crate) fn bridge(&self, identity: &str) -> anyhow::Result<RunningBridge> {
        let proxy = std::rc::Rc::new(Proxy::start(&self.bed, Credentials::AsSent)?);
        let kubeconfig = proxy.kubeconfig(&json!({ "token": self.token }))?;
        let mut command = afd_tests::afd(["bridge", "--lease-namespace", NAMESPACE, "--lease-name", ACCOUNT]);
        command.args(["--identity", identity, "--lease-duration", &LEASE.as_secs().to_string()]);
        command.arg("--kubeconfig").arg(kubeconfig);
        self.proxies.borrow_mut().push(std::rc::Rc::clone(&proxy));
        Ok(RunningBridge { process: self.bed.process(identity, command)?, proxy })
    }

    /// The writes of pods by all bridges since a time.
    pub(crate) fn written(&self, since: Instant) -> Vec<String> {
        let proxies = self.proxies.borrow();
        let requests = proxies.iter().flat_map(|proxy| proxy.requests_since(since));
        requests
            .filter(|request| request.is_write() && request.path.starts_with(PODS))
            .map(|own| own.path)
            .collect()
    }

    /// Waits until no bridge writes a pod for two seconds.
    pub(crate) async fn until_idle(&self) -> anyhow::Result<()> {
        const IDLE: Duration = Duration::from_secs(2);
        tokio::time::sleep(IDLE).await;
        until("no pod is written", async || {
            let written = self.written(Instant::now() - IDLE);
            ensure!(written.is_empty(), "{written:?}");
            Ok(())
        })
        .await
    }

    pub(crate) async fn node(&self, name: &str, labels: Value) -> anyhow::Result<()> {
        let node = serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } }))?;
        self.nodes.create(&PostParams::default(), &node).await?;
        Ok(())
    }

    pub(crate) async fn patch_node(&self, labels: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        self.nodes.patch(NODE, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// A ReplicaSet whose selector excludes a key; returns its uid.
    pub(crate) async fn replica_set(&self, name: &str, excluded: &str) -> anyhow::Result<String> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.pods.clone().into_client(), TENANT);
        let set = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": 1,
                "selector": {
                    "matchLabels": { "app": name },
                    "matchExpressions": [{ "key": excluded, "operator": "DoesNotExist" }],
                },
                "template": {
                    "metadata": { "labels": { "app": name } },
                    "spec": { "containers": [{ "name": "main", "image": "localhost/none" }] },
                },
            },
        }))?;
        Ok(sets.create(&PostParams::default(), &set).await?.uid().unwrap_or_default())
    }

    /// A pod on a node, as its controller creates it.
    pub(crate) async fn pod(
        &self,
        name: &str,
        node: &str,
        labels: Value,
        owner: Option<(&str, &str)>,
    ) -> anyhow::Result<()> {
        let owners: Vec<Value> = owner
            .into_iter()
            .map(|(name, uid)| json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true }))
            .collect();
        let pod = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels, "ownerReferences": owners },
            "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "localhost/none" }] },
        }))?;
        let controller =
            PostParams { field_manager: Some("kube-controller-manager".to_owned()), ..PostParams::default() };
        until("the pod is accepted", async || Ok(self.pods.create(&controller, &pod).await.map(drop)?)).await
    }

    pub(crate) async fn get(&self, name: &str) -> anyhow::Result<Pod> {
        Ok(self.pods.get(name).await?)
    }

    /// Changes labels of a pod as another field manager.
    pub(crate) async fn patch_pod(&self, name: &str, manager: &str, labels: Value) -> anyhow::Result<()> {
        let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        self.pods.patch(name, &parameters, &patch).await?;
        Ok(())
    }

    pub(crate) async fn until_label(
        &self,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> anyhow::Result<Pod> {
        until(&format!("{key} of {name} is {value:?}"), async || {
            let pod = self.get(name).await?;
            ensure!(pod.labels().get(key).map(String::as_str) == value, "{:?}", pod.labels());
            Ok(pod)
        })
        .await
    }
}
