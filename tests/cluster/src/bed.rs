//! The cluster in the bed of the running test.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::{
    control_plane::{self, CONTROLLER_MANAGER, ETCD, SCHEDULER},
    image::{Image, PAUSE},
    init::NODE_ADDRESS,
    keeper::NAME_PREFIX,
    node::{self, KUBELET, NODE},
    pki::{API_SERVER, Pki},
    process::{BedProcess, succeed, until},
    programs::{self, ClusterPrograms, KubernetesVersion},
    suite,
};

/// How long a health check may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// A program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-scheduler.
    Scheduler,
    /// kube-controller-manager.
    ControllerManager,
    /// The container runtime.
    Containerd,
    /// The node's agent.
    Kubelet,
}

/// What a cluster is to consist of.
#[derive(Clone, Copy, Debug, Default)]
pub struct BedBuilder {
    version: Option<KubernetesVersion>,
    served: Option<&'static str>,
    node: bool,
}

/// A running cluster. Its programs are killed when the value is dropped, and at the latest with the test.
#[derive(Debug)]
pub struct Bed {
    folder: PathBuf,
    programs: ClusterPrograms,
    served: Option<&'static str>,
    pub(crate) pki: Pki,
    components: BTreeMap<Component, BedProcess>,
}

impl BedBuilder {
    /// Selects a version of Kubernetes. The default is that of `KUBEBUILDER_ASSETS`, else the newest.
    #[must_use]
    pub fn version(self, version: KubernetesVersion) -> BedBuilder {
        BedBuilder { version: Some(version), ..self }
    }

    /// Has the API server serve a version of an API that is off by default: `resource.k8s.io/v1beta2`.
    #[must_use]
    pub fn serving(self, version: &'static str) -> BedBuilder {
        BedBuilder { served: Some(version), ..self }
    }

    /// Adds scheduler, controller manager, containerd and a kubelet, whose Node is called [`Bed::NODE`].
    #[must_use]
    pub fn node(self) -> BedBuilder {
        BedBuilder { node: true, ..self }
    }

    /// Starts the cluster and waits until it is ready: the API server, and with a node the Node's condition `Ready` and
    /// the service account `default`.
    ///
    /// # Errors
    /// When a program is missing, ends, or does not become ready; the error names it and contains the end of its log.
    pub async fn start(self) -> anyhow::Result<Bed> {
        let folder = suite::folder()?;
        let programs = ClusterPrograms::find(self.version, |name| env::var_os(name), programs::version_of)?;
        let pki = Pki::make(&folder.join("pki"), NODE).context("a test starts one cluster only")?;
        let mut bed = Bed { folder, programs, served: self.served, pki, components: BTreeMap::new() };
        bed.start_component(Component::Etcd)?;
        bed.ready(Component::Etcd).await?;
        bed.start_component(Component::ApiServer)?;
        bed.ready(Component::ApiServer).await?;
        if self.node {
            bed.start_node().await?;
        }
        Ok(bed)
    }
}

impl Bed {
    /// The name of the kubelet's Node.
    pub const NODE: &str = NODE;

    /// The address of the bed that is not of loopback.
    pub const ADDRESS: &str = NODE_ADDRESS;

    /// A cluster with a control plane only, unless more is added.
    pub fn builder() -> BedBuilder {
        BedBuilder::default()
    }

    /// Its version of Kubernetes.
    pub fn version(&self) -> KubernetesVersion {
        self.programs.version
    }

    /// The bed's folder, for files and Unix sockets; it is removed with the bed.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig("admin")
    }

    /// A kubeconfig whose user is a service account, with a token that is bound to a pod.
    ///
    /// # Errors
    /// When there is no such account or pod.
    pub fn bound_kubeconfig(&self, namespace: &str, account: &str, pod: &str) -> anyhow::Result<PathBuf> {
        let mut command = self.kubectl()?;
        command.args(["--namespace", namespace, "create", "token", account]);
        command.args(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
        let token = succeed(&mut command)?;
        let config = Kubeconfig::read_from(self.kubeconfig()).context("reading the kubeconfig")?;
        let mut config = serde_json::to_value(&config).context("writing a kubeconfig")?;
        for user in config["users"].as_array_mut().into_iter().flatten() {
            user["user"] = json!({ "token": token.trim() });
        }
        let path = self.folder.join(format!("{pod}.kubeconfig"));
        fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// An administrator's client, which does not retry.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn client(&self) -> anyhow::Result<Client> {
        self.client_of(API_SERVER).await
    }

    pub(crate) fn programs(&self) -> &ClusterPrograms {
        &self.programs
    }

    /// A kubectl command, as administrator.
    ///
    /// # Errors
    /// When kubectl is missing.
    pub fn kubectl(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(self.programs.kubectl()?);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.folder);
        Ok(command)
    }

    /// A Helm command, as administrator.
    ///
    /// # Errors
    /// When Helm is missing.
    pub fn helm(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(self.programs.other("helm", "helm")?);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.folder);
        Ok(command)
    }

    /// The folder with the custom resource definitions of schedulers and autoscalers.
    ///
    /// # Errors
    /// When it is missing.
    pub fn custom_resources(&self) -> anyhow::Result<PathBuf> {
        let file = self.programs.other("crds", "karpenter.sh_nodepools.yaml")?;
        Ok(file.with_file_name(""))
    }

    /// A kubernetes-validate command for a version, to which files of manifests are added.
    ///
    /// # Errors
    /// When it is missing.
    pub fn validate(&self, version: KubernetesVersion) -> anyhow::Result<Command> {
        // Its Python is a link to that of the machine. The path of the link selects the environment: do not resolve it.
        let environment = self.programs.other("kubernetes-validate", "pyvenv.cfg")?;
        let mut command = Command::new(environment.with_file_name("bin").join("python"));
        let version = version.to_string();
        command.args(["-m", "kubernetes_validate", "--strict", "--kubernetes-version", &version]);
        Ok(command)
    }

    /// Starts a program beside the cluster's own, such as the agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn process(&self, name: &str, command: Command) -> anyhow::Result<BedProcess> {
        BedProcess::start(name, command, &self.folder.join("logs"))
    }

    /// Ends a component with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self, component: Component) -> anyhow::Result<()> {
        self.components.get_mut(&component).with_context(|| format!("there is no {component:?}"))?.kill()
    }

    /// Starts a killed component again, on the same files, and waits until it is healthy.
    ///
    /// # Errors
    /// When it is running, or does not become healthy.
    pub async fn restart(&mut self, component: Component) -> anyhow::Result<()> {
        self.components
            .get_mut(&component)
            .with_context(|| format!("there is no {component:?}"))?
            .restart()?;
        self.ready(component).await
    }

    /// Imports an image into containerd.
    ///
    /// # Errors
    /// When it cannot be written or imported.
    pub fn import(&self, image: &Image) -> anyhow::Result<()> {
        let file = self.folder.join("image.tar");
        image.write(&file)?;
        let mut command = node::ctr(&self.programs, &self.folder)?;
        succeed(command.args(["images", "import"]).arg(file))?;
        Ok(())
    }

    async fn start_node(&mut self) -> anyhow::Result<()> {
        let together = [Component::Scheduler, Component::ControllerManager, Component::Containerd];
        for component in together {
            self.start_component(component)?;
        }
        for component in together {
            self.ready(component).await?;
        }
        self.import(&Image::new(PAUSE, &self.programs.other("pause", "pause")?)?)?;
        self.start_component(Component::Kubelet)?;
        self.ready(Component::Kubelet).await?;
        let client = self.client().await?;
        let nodes: Api<Node> = Api::all(client.clone());
        until("the Node is ready", async || {
            let node = nodes.get(NODE).await?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
            ensure!(ready.is_some_and(|ready| ready.status == "True"), "its condition is {ready:?}");
            Ok(())
        })
        .await?;
        // Without it the API server rejects pods.
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        until("the default service account exists", async || Ok(accounts.get("default").await?)).await?;
        Ok(())
    }

    fn start_component(&mut self, component: Component) -> anyhow::Result<()> {
        let Bed { folder, programs, served, pki, .. } = self;
        let (name, command) = match component {
            Component::Etcd => ("etcd", control_plane::etcd(programs, folder)),
            Component::ApiServer => {
                ("kube-apiserver", control_plane::api_server(programs, folder, pki, *served))
            }
            Component::Scheduler => {
                let name = "kube-scheduler";
                (name, control_plane::scheduler(programs.kubernetes(name)?, folder, pki))
            }
            Component::ControllerManager => {
                let name = "kube-controller-manager";
                (name, control_plane::controller_manager(programs.kubernetes(name)?, folder, pki))
            }
            Component::Containerd => ("containerd", node::containerd(programs, folder)?),
            Component::Kubelet => ("kubelet", node::kubelet(programs, folder, pki, &group(folder)?)?),
        };
        let process = self.process(name, command)?;
        self.components.insert(component, process);
        Ok(())
    }

    /// Waits until a component that was started reports that it is healthy.
    async fn ready(&mut self, component: Component) -> anyhow::Result<()> {
        let ready = until(&format!("{component:?} is ready"), async || {
            if let Some(process) = self.components.get_mut(&component)
                && let Some(status) = process.ended()?
            {
                return Ok(Some(format!("{component:?} ended with {status}\n{}", process.tail())));
            }
            match component {
                Component::Etcd => self.healthy(ETCD, "/health").await?,
                Component::ApiServer => self.healthy(API_SERVER, "/readyz").await?,
                Component::Scheduler => self.healthy(SCHEDULER, "/readyz").await?,
                Component::ControllerManager => self.healthy(CONTROLLER_MANAGER, "/healthz").await?,
                Component::Containerd => {
                    drop(succeed(node::ctr(&self.programs, &self.folder)?.arg("version"))?)
                }
                Component::Kubelet => self.healthy(KUBELET, "/healthz").await?,
            }
            Ok(None)
        })
        .await?;
        if let Some(ended) = ready {
            bail!(ended);
        }
        Ok(())
    }

    async fn healthy(&self, server: &str, path: &str) -> anyhow::Result<()> {
        let request = http::Request::get(path).body(Vec::new()).context("making a request")?;
        let client = self.client_of(server).await?;
        let response = tokio::time::timeout(HEALTH_TIMEOUT, client.request_text(request)).await;
        response.with_context(|| format!("{server}{path} took longer than {HEALTH_TIMEOUT:?}"))??;
        Ok(())
    }

    async fn client_of(&self, server: &str) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig()).context("reading the kubeconfig")?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("using the kubeconfig")?;
        config.cluster_url = server.parse().context("reading an address")?;
        config.default_retry = false;
        Client::try_from(config).context("making a client")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // The store is killed last: its clients would fill their logs with errors.
        while self.components.pop_last().is_some() {}
    }
}

/// The control groups of a bed have the name of its folder.
fn group(folder: &Path) -> anyhow::Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str()).context("a bed's folder has a name")?;
    ensure!(name.starts_with(NAME_PREFIX), "{name} is not a bed");
    Ok(name.to_owned())
}
