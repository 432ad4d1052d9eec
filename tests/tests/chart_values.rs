//! The chart as text: what it renders for which values, that every option of `afd run` is a value, and that no value breaks out of
//! its place.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "chart/accepted.rs"]
mod accepted;
#[path = "chart/documented.rs"]
mod documented;
#[path = "chart/knobs.rs"]
mod knobs;
#[path = "chart/monitors.rs"]
mod monitors;
#[path = "chart/mounts.rs"]
mod mounts;
#[path = "chart/platforms.rs"]
mod platforms;
#[path = "chart/rendered.rs"]
mod rendered;
#[path = "chart/ways.rs"]
mod ways;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::ExitCode,
};

use afd_agent::args::Args;
use afd_test_cluster::{Bed, KubernetesVersion, Suite, succeed};
use afd_tests::{
    chart::{chart, values_option},
    workspace,
};
use anyhow::{Context, ensure};
use clap::CommandFactory;
use expect_test::expect_file;
use serde_json::{Value, json};

const NAMESPACE: &str = "afd";

/// Where an option of `afd run` comes from.
enum Source {
    /// A value of the chart, a sample of it, and the option that it gives.
    Value(&'static str, fn() -> Value, &'static str),
    /// The chart sets it, for a reason.
    Constant(&'static str),
    /// The chart has no use for it, for a reason.
    None(&'static str),
}

/// Every option of `afd run`, in the order of its help.
const OPTIONS: &[(&str, Source)] = &[
    ("host-root", Source::Constant("the paths of `hostRoot` are mounted under it")),
    ("no-kubernetes", Source::None("the chart is for a cluster")),
    ("kubeconfig", Source::None("the pod has a service account")),
    ("libraries", Source::None("it is for commands that show another host")),
    ("no-libraries", Source::Value("libraries", || json!(false), "--no-libraries")),
    (
        "nvidia-driver-root",
        Source::Value("nvidia.driverRoot", || json!("/a #b"), "--nvidia-driver-root=/host/a #b"),
    ),
    ("start-spread", Source::Value("startSpreadSeconds", || json!(7), "--start-spread=7")),
    (
        "label-prefix",
        Source::Value("labelPrefix", || json!("gpu.example.com"), "--label-prefix=gpu.example.com"),
    ),
    ("rocm-root", Source::Value("amd.driverRoot", || json!("/c d"), "--rocm-root=/host/c d")),
    ("intel-root", Source::Value("intel.driverRoot", || json!("/g h"), "--intel-root=/host/g h")),
    ("habana-root", Source::Value("gaudi.driverRoot", || json!("/e f"), "--habana-root=/host/e f")),
    ("tpu-exporter", Source::Value("tpu.exporter", || json!("[::1]:2113"), "--tpu-exporter=[::1]:2113")),
    ("tpu-runtime", Source::Value("tpu.runtime", || json!("off"), "--tpu-runtime=off")),
    (
        "tpu-metadata-server",
        Source::Value("tpu.metadataServer", || json!("10.0.0.1:80"), "--tpu-metadata-server=10.0.0.1:80"),
    ),
    ("include-integrated", Source::Value("includeIntegrated", || json!(true), "--include-integrated")),
    ("compat", Source::Value("compat.nvidia", || json!("off"), "--compat=nvidia=off")),
    (
        "nvidia-mig-strategy",
        Source::Value("nvidia.migStrategy", || json!("mixed"), "--nvidia-mig-strategy=mixed"),
    ),
    (
        "nvidia-device-plugin-config",
        Source::Value(
            "nvidia.devicePluginConfig",
            || json!("version: v1\n"),
            "--nvidia-device-plugin-config=/config/nvidia-device-plugin.yaml",
        ),
    ),
    ("listen", Source::Value("metrics.port", || json!(9999), ":9999")),
    ("dcgm-listen", Source::Value("metrics.dcgmPort", || json!(9998), ":9998")),
    ("door-failed", Source::Value("metrics.doorFailed", || json!("keep"), "--door-failed=keep")),
    ("health-listen", Source::Value("health.port", || json!(9997), "--health-listen=[::]:9997")),
    (
        "web-config-file",
        Source::Value(
            "metrics.webConfigSecret",
            || json!("web"),
            "--web-config-file=/web-config/web-config.yml",
        ),
    ),
    (
        "dcgm-web-config-file",
        Source::Value(
            "metrics.dcgmWebConfigSecret",
            || json!("door"),
            "--dcgm-web-config-file=/dcgm-web-config/web-config.yml",
        ),
    ),
    ("docs-url", Source::Value("docsUrl", || json!("https://x/PAGE.md"), "--docs-url=https://x/PAGE.md")),
    ("kubernetes-auth", Source::Value("metrics.kubernetesAuth", || json!(true), "--kubernetes-auth")),
    ("node-name", Source::Constant("the name of the pod's Node")),
    ("managed-by", Source::Constant("the name of the release")),
    ("node-lock", Source::Value("hostNetwork", || json!(false), "--node-lock=file")),
    ("pod-resources", Source::Value("profile", || json!("full"), "--pod-resources=/pod-resources")),
    ("read-pods", Source::Value("pods.watch", || json!(true), "--read-pods")),
    ("control-socket", Source::Constant("`afd release` looks for it there")),
    ("sample-interval", Source::Value("sampleIntervalSeconds", || json!(0.5), "--sample-interval=0.5")),
    (
        "discovery-interval",
        Source::Value("discoveryIntervalSeconds", || json!(11), "--discovery-interval=11"),
    ),
    ("write-interval", Source::Value("writeIntervalSeconds", || json!(12), "--write-interval=12")),
    (
        "heartbeat-interval",
        Source::Value("heartbeatIntervalSeconds", || json!(13), "--heartbeat-interval=13"),
    ),
    ("state-dir", Source::Constant("a memory volume that lives as long as the pod")),
    ("condition-alias", Source::Value("conditionAlias", || json!("Alias"), "--condition-alias=Alias")),
    ("expect", Source::Value("expect", || json!("any=8"), "--expect=any=8")),
    (
        "problem-reasons",
        Source::Value(
            "problemReasons",
            || json!(["NotAllocatable", "FabricNotReady"]),
            "--problem-reasons=NotAllocatable,FabricNotReady",
        ),
    ),
    ("per-process", Source::Value("metrics.perProcess", || json!(true), "--per-process")),
    ("per-link", Source::Value("metrics.perLink", || json!(true), "--per-link")),
    ("compat-metrics", Source::Value("metrics.compat", || json!(["amd"]), "--compat-metrics=amd")),
    ("path-rules", Source::Value("pathRules", || json!("# none\n"), "--path-rules=/path-rules/rules.toml")),
];

fn main() -> ExitCode {
    Suite::new()
        .parallel(2)
        .test("the_chart_is_valid_and_the_plain_manifests_are_its_output", manifests)
        .test("every_option_of_the_agent_is_a_value_of_the_chart", options)
        .test("what_the_chart_gives_to_the_programs_they_accept", accepted::accepted)
        .test("the_schema_refuses_what_no_path_and_no_name_can_be", refused_values)
        .test("only_what_is_read_is_mounted", mounts::mounts)
        .test("the_chart_is_documented_by_the_comments_of_its_values", documented::values)
        .test("every_node_is_served_by_exactly_one_daemonset_whatever_its_labels", ways::exclusive)
        .test("values_change_what_they_name_and_no_release_takes_an_object_of_another", knobs::knobs)
        .test(
            "monitors_and_rules_cover_all_agents_and_not_the_port_of_the_endpoint_picker",
            monitors::monitors,
        )
        .test("the_values_of_each_platform_fit_its_nodes", platforms::platforms)
        .main()
}

/// The output of `helm template` with more options.
pub(crate) fn render(bed: &Bed, more: &[&str]) -> anyhow::Result<String> {
    let mut command = bed.helm()?;
    command.args(["template", NAMESPACE, "--namespace", NAMESPACE, "--no-hooks"]).arg(chart()).args(more);
    succeed(&mut command)
}

/// The objects that the chart renders with more options.
pub(crate) fn objects(bed: &Bed, more: &[&str]) -> anyhow::Result<Vec<Value>> {
    let text = render(bed, more)?;
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| text.clone())?;
    Ok(all.into_iter().filter(|object| !object.is_null()).collect())
}

/// The objects of a kind.
pub(crate) fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The DaemonSet that the chart renders for values.
pub(crate) fn daemonset(bed: &Bed, values: &Value) -> anyhow::Result<Value> {
    let values = values_option(bed.folder(), values);
    let text = render(bed, &["--show-only", "templates/daemonset.yaml", &values])?;
    let rendered = bed.folder().join("daemonset.yaml");
    fs::write(&rendered, text)?;
    // The API server reads YAML as kubectl does.
    let json = succeed(
        bed.kubectl()?
            .args(["create", "--dry-run=client", "--validate=false", "--output=json", "-f"])
            .arg(&rendered),
    )?;
    Ok(serde_json::from_str(&json)?)
}

async fn manifests() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    succeed(bed.helm()?.args(["lint", "--strict"]).arg(chart()))?;
    let head = "# The namespace, and the output of `helm template afd daemonset/chart --namespace afd --no-hooks`.\n\
                apiVersion: v1\nkind: Namespace\nmetadata:\n  name: afd\n  labels:\n    \
                pod-security.kubernetes.io/enforce: privileged\n";
    expect_file![workspace().join("daemonset/manifests/afd.yaml")]
        .assert_eq(&format!("{head}{}", render(&bed, &[])?));
    succeed(bed.kubectl()?.args(["create", "namespace", NAMESPACE]))?;
    // The API server accepts every combination. Custom resources are not included.
    for switches in [
        "conditionAlias=AcceleratedHardwareReady,labelPrefix=gpu.example.com",
        "profile=labels,networkPolicy.enabled=true,compat.nvidia=off,compat.amd=off",
        "nvidia.driverRoot=/run/nvidia/driver,metrics.dcgmPort=0,expect=any=8",
        "nvidia.driverRoot=/,amd.driverRoot=/opt/my rocm # 7,amd.debugfs=true,kubeletRoot=/var/lib/k0s/kubelet",
        "nvidia.runtimeClassName=nvidia,nvidia.visibleDevices=mount,hostNetwork=false,includeIntegrated=true",
        "networkPolicy.enabled=true,networkPolicy.from[0].podSelector.matchLabels.app=prometheus,hostNetwork=false",
        "pathRules=[[path]],profile=labels,nvidia.devicePluginConfig=version: v1",
        "resourceQuota.enabled=true,cleanup.nodeSelector.pool=gpu",
        "pods.watch=true,networkPolicy.enabled=true,hostNetwork=false,intel.engineCounters=true",
        "bridge.enabled=true,bridge.deviceTaints=NoSchedule,networkPolicy.enabled=true,bridge.rackLabel=example.com/rack",
        "metrics.webConfigSecret=web,metrics.dcgmWebConfigSecret=door,metrics.kubernetesAuth=true,metrics.address=10.0.0.1",
        "nvidia.mode=auto,service.enabled=true,rulesConfigMap.enabled=true,openshift.monitoring=true,namespace.create=true,\
         fullnameOverride=gpu,commonLabels.team=ml,commonAnnotations.owner=us,extraEnv[0].name=A,extraEnv[0].value=b",
        "securityContext.capabilities.add={PERFMON},securityContext.appArmorProfile.type=RuntimeDefault,\
         podSecurityContext.supplementalGroups={44},startupProbe.failureThreshold=30,updateStrategy.type=OnDelete,\
         securityContext.seLinuxOptions.level=s0,minReadySeconds=3,extraVolumes[0].name=x,extraVolumes[0].emptyDir.medium=Memory,\
         extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/x",
    ] {
        let file = bed.folder().join("rendered.yaml");
        fs::write(&file, render(&bed, &["--set", switches])?)?;
        succeed(bed.kubectl()?.args(["apply", "--dry-run=server", "--validate=strict", "-f"]).arg(&file))
            .with_context(|| switches.to_owned())?;
        validate(&bed, &file)?;
    }
    validate(&bed, &workspace().join("daemonset/manifests/afd.yaml"))?;
    let monitors = render(&bed, &["--set", "podMonitor.enabled=true,prometheusRule.enabled=true"])?;
    ensure!(
        monitors.contains("honorLabels: true") && monitors.contains("alert: AcceleratorFailed"),
        "{monitors}"
    );
    let rendered = |more: &[&str]| render(&bed, more);
    rendered::visible_devices(&rendered)?;
    rendered::openshift(&rendered)?;
    rendered::claim_and_cleanup(&rendered)?;
    rendered::bridge(&rendered)?;
    let secure =
        "podMonitor.enabled=true,metrics.webConfigSecret=web,podMonitor.endpoint.basicAuth.username.name=web";
    let monitor = render(&bed, &["--set", secure])?;
    ensure!(monitor.contains("scheme: https") && monitor.contains("basicAuth:"), "{monitor}");
    Ok(())
}

/// Every object and field exists in the oldest and in the newest supported version.
pub(crate) fn validate(bed: &Bed, file: &Path) -> anyhow::Result<()> {
    for version in [KubernetesVersion::V1_34, KubernetesVersion::V1_37] {
        succeed(bed.validate(version)?.arg("--quiet").arg(file))?;
    }
    Ok(())
}

pub(crate) fn agent(set: &Value) -> &Value {
    &set["spec"]["template"]["spec"]["containers"][0]
}

pub(crate) fn arguments(set: &Value) -> Vec<&str> {
    let arguments = agent(set)["args"].as_array();
    arguments.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Sets `a.b` in nested values.
fn insert(values: &mut Value, path: &str, value: Value) {
    let place = path.split('.').fold(values, |values, key| &mut values[key]);
    *place = value;
}

/// The value of each option that the chart sets, or an empty string: with these the chart refuses an additional argument that
/// it sets itself.
fn options_of_values(run: &clap::Command) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, source) in OPTIONS {
        match source {
            Source::Value(path, ..) => values.insert((*name).to_owned(), (*path).to_owned()),
            Source::Constant(_) => values.insert((*name).to_owned(), String::new()),
            Source::None(_) => None,
        };
    }
    for arg in run.get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        if arg.get_help_heading() == Some("Graces") {
            values.insert(long.to_owned(), format!("graces.{}", camel_case(long)));
        }
        let Some(value) = values.get(long).cloned() else { continue };
        let aliases = arg.get_all_aliases().unwrap_or_default();
        values.extend(aliases.into_iter().map(|alias| (alias.to_owned(), value.clone())));
    }
    values
}

async fn options() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let mut command = Args::command();
    command.build();
    let run = command.find_subcommand("run").context("there is a command run")?;
    let is_grace = |arg: &&clap::Arg| arg.get_help_heading() == Some("Graces");
    let long = |arg: &clap::Arg| arg.get_long().filter(|name| *name != "help").map(str::to_owned);
    let known: BTreeSet<String> = OPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<String> = run.get_arguments().filter(|arg| !is_grace(arg)).filter_map(long).collect();
    ensure!(
        found == known,
        "without a value in this test: {:?}; no option any more: {:?}",
        found.difference(&known).collect::<Vec<_>>(),
        known.difference(&found).collect::<Vec<_>>()
    );
    let mut values = json!({});
    let mut expected = Vec::new();
    for (name, source) in OPTIONS {
        match source {
            Source::Value(path, sample, argument) => {
                insert(&mut values, path, sample());
                expected.push((*argument).to_owned());
            }
            Source::Constant(reason) | Source::None(reason) => ensure!(!reason.is_empty(), "{name}"),
        }
    }
    for (seconds, grace) in run.get_arguments().filter(is_grace).filter_map(long).enumerate() {
        insert(&mut values, &format!("graces.{}", camel_case(&grace)), json!(seconds));
        expected.push(format!("--{grace}={seconds}"));
    }
    // Without libraries nothing is queried, so that pods.watch is refused.
    values["libraries"] = json!(true);
    let set = daemonset(&bed, &values)?;
    let without_libraries = daemonset(&bed, &json!({ "libraries": false }))?;
    let mut arguments = arguments(&set);
    arguments.extend(self::arguments(&without_libraries).into_iter().filter(|own| *own == "--no-libraries"));
    for argument in &expected {
        let is_given = arguments
            .iter()
            .any(|given| given == argument || (argument.starts_with(':') && given.ends_with(argument)));
        ensure!(is_given, "{argument} is not in {arguments:#?}");
    }
    for (name, source) in OPTIONS {
        let is_given = arguments.iter().any(|given| given.starts_with(&format!("--{name}")));
        ensure!(is_given != matches!(source, Source::None(_)), "--{name} in {arguments:#?}");
    }
    // The agent itself accepts what the chart gives it.
    Args::command().try_get_matches_from(["afd"].into_iter().chain(arguments.iter().copied()))?;
    Ok(())
}

/// `fault-end-grace` as `faultEndGrace`.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

async fn refused_values() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let paths = ["relative", "/a: b", "/a\nb", "/../etc", "/a/./b", "/a/..", "/$(NODE_NAME)"];
    let places = ["nvidia.driverRoot", "amd.driverRoot", "gaudi.driverRoot", "hostRoot", "kubeletRoot"];
    let mut wrong: Vec<(&str, Value)> =
        places.iter().flat_map(|place| paths.map(|path| (*place, json!(path)))).collect();
    wrong.extend([
        ("hostRoot", json!("")),
        ("skipHostPaths", json!(["sys"])),
        ("expect", json!("eight")),
        ("graces.unknownGrace", json!(1)),
        ("graces.offerGrace", json!("long")),
        ("problemReasons", json!(["GpuLost"])),
        ("metrics.compat", json!(["other"])),
        ("priorityClassName", json!("a: b")),
        ("nvidia.runtimeClassName", json!("a #b")),
        ("bridge.podSelectors", json!(["a in (b)"])),
        ("bridge.podSelectors", json!(["a' || true"])),
        ("bridge.deviceTaints", json!("Evict")),
        ("bridge.rackLabel", json!("a b")),
        ("tpu.exporter", json!("localhost:2112")),
        ("tpu.exporter", json!("127.0.0.1:2112 --no-libraries")),
    ]);
    for (path, value) in wrong {
        let mut values = json!({});
        insert(&mut values, path, value.clone());
        ensure!(daemonset(&bed, &values).is_err(), "the schema accepts {path}: {value}");
    }
    // They would query nothing, with a right to all pods of the cluster.
    for other in ["profile=labels", "libraries=false"] {
        let rendered = render(&bed, &["--set", &format!("pods.watch=true,{other}")]);
        let error = rendered.err().with_context(|| format!("the chart accepts {other}"))?;
        let message = format!("{error:#}");
        ensure!(message.contains("pods.watch needs profile: full, by"), "{other}: {message}");
        ensure!(message.contains("and libraries: true"), "{other}: {message}");
    }
    Ok(())
}
