//! A cluster in the bed of the running test.

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
    keeper::NAME_PREFIX,
    node::{self, KUBELET, NODE},
    pki::{API_SERVER, Pki},
    process::{Process, succeed, until},
    programs::{self, Programs, Version},
    suite,
};

/// How long a program may take to tell its health.
const ANSWER: Duration = Duration::from_secs(2);

/// A program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
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

/// What a cluster shall have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Builder {
    version: Option<Version>,
    node: bool,
}

/// A running cluster. Its programs are killed when the value goes, and at the latest with the test.
#[derive(Debug)]
pub struct Bed {
    folder: PathBuf,
    programs: Programs,
    pub(crate) pki: Pki,
    parts: BTreeMap<Part, Process>,
}

impl Builder {
    /// Asks for a version of Kubernetes; without, the one of `KUBEBUILDER_ASSETS`, else the newest.
    #[must_use]
    pub fn version(self, version: Version) -> Builder {
        Builder { version: Some(version), ..self }
    }

    /// Asks for scheduler, controller manager, containerd and a kubelet too, whose Node is called [`Bed::NODE`].
    #[must_use]
    pub fn node(self) -> Builder {
        Builder { node: true, ..self }
    }

    /// Starts the cluster and waits until it is ready: the API server, and with a node the Node's condition `Ready` and
    /// the service account `default`.
    ///
    /// # Errors
    /// When a program is missing, ends, or does not become ready; the error says which and shows its log.
    pub async fn start(self) -> anyhow::Result<Bed> {
        let folder = suite::folder()?;
        let programs = Programs::find(self.version, |name| env::var_os(name), programs::version_of)?;
        let pki = Pki::make(&folder.join("pki"), NODE).context("one cluster a test")?;
        let mut bed = Bed { folder, programs, pki, parts: BTreeMap::new() };
        bed.start_part(Part::Etcd)?;
        bed.ready(Part::Etcd).await?;
        bed.start_part(Part::ApiServer)?;
        bed.ready(Part::ApiServer).await?;
        if self.node {
            bed.start_node().await?;
        }
        Ok(bed)
    }
}

impl Bed {
    /// The name of the kubelet's Node.
    pub const NODE: &str = NODE;

    /// A cluster that has a control plane only, until more is asked for.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its version of Kubernetes.
    pub fn version(&self) -> Version {
        self.programs.version
    }

    /// The bed's folder, for files and Unix sockets; it goes with the bed.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig("admin")
    }

    /// A kubeconfig whose user is a service account, by a token that is bound to a pod.
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

    /// An administrator's client, which does not retry by itself.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn client(&self) -> anyhow::Result<Client> {
        self.client_of(API_SERVER).await
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A command of kubectl, as administrator.
    ///
    /// # Errors
    /// When kubectl is missing.
    pub fn kubectl(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(self.programs.kubectl()?);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.folder);
        Ok(command)
    }

    /// A command of Helm, as administrator.
    ///
    /// # Errors
    /// When Helm is missing.
    pub fn helm(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(self.programs.other("helm", "helm")?);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.folder);
        Ok(command)
    }

    /// A command of kubernetes-validate for a version, to which files of manifests are added.
    ///
    /// # Errors
    /// When it is missing.
    pub fn validate(&self, version: Version) -> anyhow::Result<Command> {
        // Its Python is a link to the machine's, which must not be followed: it tells which environment is meant.
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
    pub fn process(&self, name: &str, command: Command) -> anyhow::Result<Process> {
        Process::start(name, command, &self.folder.join("logs"))
    }

    /// Ends a part with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, part: Part) -> anyhow::Result<()> {
        self.parts.get_mut(&part).with_context(|| format!("there is no {part:?}"))?.kill()
    }

    /// Starts a killed part anew, on the same files, and waits until it is healthy.
    ///
    /// # Errors
    /// When it runs, or does not become healthy.
    pub async fn restart(&mut self, part: Part) -> anyhow::Result<()> {
        self.parts.get_mut(&part).with_context(|| format!("there is no {part:?}"))?.restart()?;
        self.ready(part).await
    }

    /// Gives an image to containerd.
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
        let together = [Part::Scheduler, Part::ControllerManager, Part::Containerd];
        for part in together {
            self.start_part(part)?;
        }
        for part in together {
            self.ready(part).await?;
        }
        self.import(&Image::of(PAUSE, &self.programs.other("pause", "pause")?)?)?;
        self.start_part(Part::Kubelet)?;
        self.ready(Part::Kubelet).await?;
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
        // Without it the API server refuses pods.
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        until("the default service account is there", async || Ok(accounts.get("default").await?)).await?;
        Ok(())
    }

    fn start_part(&mut self, part: Part) -> anyhow::Result<()> {
        let Bed { folder, programs, pki, .. } = self;
        let (name, command) = match part {
            Part::Etcd => ("etcd", control_plane::etcd(programs, folder)),
            Part::ApiServer => ("kube-apiserver", control_plane::api_server(programs, folder, pki)),
            Part::Scheduler => {
                let name = "kube-scheduler";
                (name, control_plane::scheduler(programs.kubernetes(name)?, folder, pki))
            }
            Part::ControllerManager => {
                let name = "kube-controller-manager";
                (name, control_plane::controller_manager(programs.kubernetes(name)?, folder, pki))
            }
            Part::Containerd => ("containerd", node::containerd(programs, folder)?),
            Part::Kubelet => ("kubelet", node::kubelet(programs, folder, pki, &group(folder)?)?),
        };
        let process = self.process(name, command)?;
        self.parts.insert(part, process);
        Ok(())
    }

    /// Waits until a part that was started says that it is healthy.
    async fn ready(&mut self, part: Part) -> anyhow::Result<()> {
        let ready = until(&format!("{part:?} is ready"), async || {
            if let Some(process) = self.parts.get_mut(&part)
                && let Some(status) = process.ended()?
            {
                return Ok(Some(format!("{part:?} ended with {status}\n{}", process.tail())));
            }
            match part {
                Part::Etcd => self.healthy(ETCD, "/health").await?,
                Part::ApiServer => self.healthy(API_SERVER, "/readyz").await?,
                Part::Scheduler => self.healthy(SCHEDULER, "/readyz").await?,
                Part::ControllerManager => self.healthy(CONTROLLER_MANAGER, "/healthz").await?,
                Part::Containerd => drop(succeed(node::ctr(&self.programs, &self.folder)?.arg("version"))?),
                Part::Kubelet => self.healthy(KUBELET, "/healthz").await?,
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
        let answer = tokio::time::timeout(ANSWER, client.request_text(request)).await;
        answer.with_context(|| format!("{server}{path} took longer than {ANSWER:?}"))??;
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
        // The store goes last: who uses it would fill its log with complaints.
        while self.parts.pop_last().is_some() {}
    }
}

/// The control group of a bed has the name of its folder.
fn group(folder: &Path) -> anyhow::Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str()).context("a bed has a name")?;
    ensure!(name.starts_with(NAME_PREFIX), "{name} is no bed");
    Ok(name.to_owned())
}
