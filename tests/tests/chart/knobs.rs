//! The values that charts usually have: what each of them changes, and what it cannot.

use std::{collections::BTreeSet, fs};

use afd_test_cluster::{Bed, succeed};
use afd_tests::chart::{chart, values_option};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{agent, arguments, objects, of_kind};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// With the hooks of Helm, and the objects that are off by default.
const ALL: &str = "networkPolicy.enabled=true,resourceQuota.enabled=true,openshift.scc=true,podMonitor.enabled=true,\
                   prometheusRule.enabled=true,service.enabled=true,rulesConfigMap.enabled=true,pathRules=# none,\
                   nvidia.devicePluginConfig=version: v1";

pub(crate) async fn knobs() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let with = |values: Value| {
        objects(&bed, &["--no-hooks=false", "--set", ALL, &values_option(bed.folder(), &values)])
    };
    extras(&with, &bed)?;
    names_and_labels(&with)?;
    accounts(&with, &bed)?;
    containers(&with)?;
    cleanup(&with)?;
    release_names(&bed)?;
    no_collision(&bed)
}

/// A release may have any name that Helm accepts: with a dot, which no Service may have, or one that is a number or a boolean in YAML.
fn release_names(bed: &Bed) -> anyhow::Result<()> {
    for (release, service) in [
        ("gpus.west", "gpus-west"),
        ("1.5", "afd-1-5"),
        ("123", "afd-123"),
        ("true", "true"),
        ("1e3", "afd-1e3"),
    ] {
        let mut helm = bed.helm()?;
        helm.args(["template", release, "--namespace", "default", "--no-hooks"]).arg(chart());
        let builtin = "service.enabled=true,bridge.enabled=true,networkPolicy.enabled=true,openshift.monitoring=true,\
                       resourceQuota.enabled=true,rulesConfigMap.enabled=true,pathRules=# none";
        let text = succeed(helm.args(["--set", builtin]))?;
        ensure!(
            text.contains(&format!("up{{job=~\\\"default/{}|{service}\\\"}}", release.replace('.', "[.]"))),
            "{text}"
        );
        let file = bed.folder().join("rendered.yaml");
        fs::write(&file, text)?;
        let mut apply = bed.kubectl()?;
        apply.args(["apply", "--dry-run=server", "--validate=strict", "--output=json", "-f"]);
        let applied: Value =
            serde_json::from_str(&succeed(apply.arg(&file)).with_context(|| release.to_owned())?)?;
        let items = applied["items"].as_array().context("it is a list")?;
        let names = |kind: &str| -> Vec<_> {
            of_kind(items, kind).iter().map(|one| one["metadata"]["name"].clone()).collect()
        };
        ensure!(names("Service") == [service] && names("DaemonSet") == [release], "{release}: {items:?}");
    }
    Ok(())
}

fn set(objects: &[Value]) -> anyhow::Result<&Value> {
    of_kind(objects, "DaemonSet").first().copied().context("there is a DaemonSet")
}

fn has_all(list: &Value, items: &[Value]) -> bool {
    items.iter().all(|item| list.as_array().is_some_and(|list| list.contains(item)))
}

fn extras(with: &impl Fn(Value) -> anyhow::Result<Vec<Value>>, bed: &Bed) -> anyhow::Result<()> {
    let env = json!({ "name": "AFD_LOG", "value": "debug" });
    let volume = json!({ "name": "extra", "persistentVolumeClaim": { "claimName": "extra" } });
    let mount = json!({ "name": "extra", "mountPath": "/extra", "readOnly": true });
    let objects = with(json!({ "extraArgs": ["--of-a-newer-image", "--other=1"], "extraEnv": [env],
        "extraVolumes": [volume], "extraVolumeMounts": [mount], "image": { "digest": DIGEST } }))?;
    let set = set(&objects)?;
    ensure!(arguments(set).ends_with(&["--of-a-newer-image", "--other=1"]), "{set}");
    let container = agent(set);
    ensure!(
        has_all(&container["env"], &[env]) && has_all(&container["volumeMounts"], &[mount]),
        "{container}"
    );
    ensure!(has_all(&set["spec"]["template"]["spec"]["volumes"], &[volume]), "{set}");
    // OpenShift has to allow the kind of the volume.
    let constraints = of_kind(&objects, "SecurityContextConstraints");
    ensure!(has_all(&constraints[0]["volumes"], &[json!("persistentVolumeClaim")]), "{constraints:?}");
    let image = format!("localhost/afd@{DIGEST}");
    let job = &of_kind(&objects, "Job")[0]["spec"]["template"]["spec"]["containers"][0];
    ensure!(container["image"] == image && job["image"] == image, "{container} {job}");
    for (values, message) in [
        ("extraArgs={--listen=[::1]:1}", "--listen belongs to the value metrics.port"),
        ("extraArgs={--offer-grace=3}", "--offer-grace belongs to the value graces.offerGrace"),
        (
            "extraArgs={--web.config.file=/x}",
            "--web.config.file belongs to the value metrics.webConfigSecret",
        ),
        ("extraArgs={--no-libraries}", "--no-libraries belongs to the value libraries"),
        ("extraArgs={--state-dir=/x}", "--state-dir is set by the chart"),
        ("extraArgs={--other 1}", "does not match pattern"),
        ("extraEnv[0].name=NODE_NAME", "NODE_NAME is set by the chart"),
        ("image.digest=latest", "does not match pattern"),
    ] {
        let error = super::render(bed, &["--set", values]).err().with_context(|| values.to_owned())?;
        ensure!(format!("{error:#}").contains(message), "{values}: {error:#}");
    }
    Ok(())
}

fn names_and_labels(with: &impl Fn(Value) -> anyhow::Result<Vec<Value>>) -> anyhow::Result<()> {
    let common = json!({ "team": "ml", "app.kubernetes.io/instance": "other", "app.kubernetes.io/component": "other" });
    let objects = with(
        json!({ "fullnameOverride": "gpu", "nameOverride": "short", "namespaceOverride": "apart",
        "commonLabels": common, "commonAnnotations": { "owner": "us" }, "podLabels": { "app.kubernetes.io/name": "other" } }),
    )?;
    for object in &objects {
        let (name, metadata) = (&object["metadata"]["name"], &object["metadata"]);
        let labels = &metadata["labels"];
        ensure!(name.as_str().is_some_and(|name| name.starts_with("gpu")), "{name}");
        ensure!(labels["team"] == "ml" && metadata["annotations"]["owner"] == "us", "{metadata}");
        // Standard labels are those of the chart.
        ensure!(
            labels["app.kubernetes.io/instance"] == "afd" && labels["app.kubernetes.io/name"] == "short",
            "{labels}"
        );
        ensure!(labels["app.kubernetes.io/version"].is_string(), "{labels}");
        let chart = labels["helm.sh/chart"].as_str().unwrap_or_default();
        ensure!(chart.starts_with("accelerator-feature-discovery-"), "{labels}");
        let namespace = &metadata["namespace"];
        let is_events = name == "gpu.apart" && namespace == "default";
        ensure!(namespace.is_null() || namespace == "apart" || is_events, "{object}");
        let subject = &object["subjects"][0];
        ensure!(subject.is_null() || subject["namespace"] == "apart", "{object}");
    }
    let text = serde_json::to_string(&objects)?;
    ensure!(
        text.contains("system:serviceaccount:apart:gpu\\\"")
            && text.contains("system:serviceaccount:apart:gpu-cleanup")
    );
    let pod = &set(&objects)?["spec"]["template"]["metadata"];
    ensure!(pod["labels"]["team"] == "ml" && pod["annotations"]["owner"] == "us", "{pod}");
    // A new version of the chart restarts no agent.
    ensure!(
        pod["labels"]["helm.sh/chart"].is_null() && pod["labels"]["app.kubernetes.io/name"] == "short",
        "{pod}"
    );
    let job = &of_kind(&objects, "Job")[0]["spec"]["template"]["metadata"];
    ensure!(job["labels"]["team"] == "ml" && job["labels"]["helm.sh/chart"].is_null(), "{job}");
    for (pod, component) in [(pod, "agent"), (job, "cleanup")] {
        ensure!(pod["labels"]["app.kubernetes.io/component"] == component, "{pod}");
    }
    let named = with(json!({ "nameOverride": "gpus" }))?;
    ensure!(set(&named)?["metadata"]["name"] == "afd-gpus", "{named:?}");
    Ok(())
}

fn accounts(with: &impl Fn(Value) -> anyhow::Result<Vec<Value>>, bed: &Bed) -> anyhow::Result<()> {
    let names = |objects: &[Value], kind: &str| -> Vec<String> {
        of_kind(objects, kind)
            .iter()
            .filter_map(|one| one["metadata"]["name"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let objects = with(json!({ "serviceAccount": { "annotations": { "a": "b" }, "automount": true } }))?;
    let account = of_kind(&objects, "ServiceAccount")[0];
    ensure!(
        account["metadata"]["annotations"]["a"] == "b" && account["automountServiceAccountToken"] == true,
        "{account}"
    );
    let existing = json!({ "serviceAccount": { "create": false, "name": "mine" }, "rbac": { "create": false },
        "cleanup": { "serviceAccountName": "mine-too" }, "bridge": { "enabled": true } });
    let objects = with(existing)?;
    ensure!(names(&objects, "Deployment") == ["afd-bridge"], "the bridge is rendered");
    let is_right = |kind: &&str| !names(&objects, kind).is_empty();
    ensure!(
        names(&objects, "ServiceAccount") == ["afd-bridge"],
        "only the bridge has an account of the chart"
    );
    let rights = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    ensure!(rights.iter().find(|kind| is_right(kind)).is_none(), "{objects:?}");
    let pod = &set(&objects)?["spec"]["template"]["spec"];
    ensure!(pod["serviceAccountName"] == "mine" && pod["automountServiceAccountToken"] == true, "{pod}");
    let job = &of_kind(&objects, "Job")[0]["spec"]["template"]["spec"];
    ensure!(job["serviceAccountName"] == "mine-too" && job["automountServiceAccountToken"] == true, "{job}");
    // The policies restrict these accounts.
    let text = serde_json::to_string(&objects)?;
    ensure!(
        text.contains("system:serviceaccount:afd:mine\\\"")
            && text.contains("system:serviceaccount:afd:mine-too\\\"")
    );
    // Such agents keep their rights until their pods have ended.
    for (values, waits) in [
        ("rbac.create=true", false),
        ("serviceAccount.create=false,serviceAccount.name=mine", true),
        ("rbac.create=false", true),
        ("rbac.create=false,cleanup.enabled=false", false),
    ] {
        let mut helm = bed.helm()?;
        helm.args(["install", "afd", "--namespace", "afd", "--dry-run=client", "--set", values]).arg(chart());
        let notes = succeed(&mut helm)?;
        let command = "\n  helm uninstall afd --namespace afd --cascade foreground --wait\n";
        ensure!(notes.contains(command) == waits, "{values}: {notes}");
    }
    let unnamed =
        with(json!({ "serviceAccount": { "create": false } })).err().context("an account without a name")?;
    ensure!(format!("{unnamed:#}").contains("set serviceAccount.name"), "{unnamed:#}");
    Ok(())
}

fn containers(with: &impl Fn(Value) -> anyhow::Result<Vec<Value>>) -> anyhow::Result<()> {
    let objects = with(json!({}))?;
    let default = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true, "runAsUser": 0, "seccompProfile": { "type": "RuntimeDefault" } });
    let own = set(&objects)?;
    ensure!(agent(own)["securityContext"] == default, "{own}");
    ensure!(
        agent(own)["startupProbe"].is_null() && own["spec"]["template"]["spec"]["securityContext"].is_null(),
        "{own}"
    );
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "10%" } });
    ensure!(own["spec"]["updateStrategy"] == rolling, "{own}");

    let values = json!({
        "securityContext": { "seLinuxOptions": { "level": "s0:c1" }, "capabilities": { "add": ["PERFMON"] },
            "seccompProfile": { "type": "Localhost", "localhostProfile": "afd.json" }, "appArmorProfile": { "type": "RuntimeDefault" } },
        "seLinuxType": "spc_t",
        "podSecurityContext": { "supplementalGroups": [44] },
        "livenessProbe": { "periodSeconds": 60 }, "readinessProbe": { "timeoutSeconds": 3 },
        "startupProbe": { "failureThreshold": 30 },
        "updateStrategy": { "type": "OnDelete" }, "minReadySeconds": 7,
        "resourceQuota": { "pods": 50 },
    });
    let objects = with(values)?;
    let own = set(&objects)?;
    let context = &agent(own)["securityContext"];
    ensure!(context["seLinuxOptions"] == json!({ "type": "spc_t", "level": "s0:c1" }), "{context}");
    ensure!(context["capabilities"] == json!({ "drop": ["ALL"], "add": ["PERFMON"] }), "{context}");
    ensure!(
        context["seccompProfile"]["localhostProfile"] == "afd.json"
            && context["appArmorProfile"]["type"] == "RuntimeDefault",
        "{context}"
    );
    ensure!(
        own["spec"]["template"]["spec"]["securityContext"] == json!({ "supplementalGroups": [44] }),
        "{own}"
    );
    let probe = |name: &str, field: &str| agent(own)[name][field].clone();
    ensure!(
        probe("livenessProbe", "periodSeconds") == 60 && probe("livenessProbe", "timeoutSeconds") == 5,
        "{own}"
    );
    ensure!(
        probe("readinessProbe", "timeoutSeconds") == 3 && probe("startupProbe", "failureThreshold") == 30,
        "{own}"
    );
    ensure!(probe("startupProbe", "httpGet") == json!({ "path": "/healthz", "port": "health" }), "{own}");
    ensure!(
        own["spec"]["updateStrategy"] == json!({ "type": "OnDelete" }) && own["spec"]["minReadySeconds"] == 7,
        "{own}"
    );
    let constraints = of_kind(&objects, "SecurityContextConstraints")[0];
    ensure!(
        constraints["allowedCapabilities"] == json!(["PERFMON"])
            && constraints["seccompProfiles"] == json!(["*"]),
        "{constraints}"
    );
    ensure!(of_kind(&objects, "ResourceQuota")[0]["spec"]["hard"]["pods"] == 50, "{objects:?}");
    // Nothing of these makes the container more powerful.
    for looser in [
        json!({ "securityContext": { "privileged": true } }),
        json!({ "securityContext": { "allowPrivilegeEscalation": true } }),
        json!({ "securityContext": { "readOnlyRootFilesystem": false } }),
        json!({ "securityContext": { "runAsUser": 0 } }),
        json!({ "securityContext": { "capabilities": { "add": ["SYS_ADMIN"] } } }),
        json!({ "securityContext": { "capabilities": { "drop": [] } } }),
        json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } }),
        json!({ "securityContext": { "appArmorProfile": { "type": "Unconfined" } } }),
        json!({ "podSecurityContext": { "runAsUser": 0 } }),
        json!({ "podSecurityContext": { "supplementalGroups": [0] } }),
        json!({ "updateStrategy": { "rollingUpdate": { "maxSurge": 1 } } }),
    ] {
        ensure!(with(looser.clone()).is_err(), "the schema accepts {looser}");
    }
    Ok(())
}

/// The cleanup job runs after everything that is no hook is deleted: its NetworkPolicy is there as long as it is.
fn cleanup(with: &impl Fn(Value) -> anyhow::Result<Vec<Value>>) -> anyhow::Result<()> {
    let objects = with(json!({ "bridge": { "enabled": true } }))?;
    let job = of_kind(&objects, "Job")[0];
    // Helm waits for it, and one that has failed is removed.
    for limit in ["backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        ensure!(job["spec"][limit].as_u64().is_some_and(|limit| limit > 0), "the job has no {limit}");
    }
    let pods = of_kind(&objects, "Deployment").into_iter().chain(of_kind(&objects, "DaemonSet")).chain([job]);
    for pod in pods {
        let labels = &pod["spec"]["template"]["metadata"]["labels"];
        let is_selecting = |policy: &&Value| {
            let selector = policy["spec"]["podSelector"]["matchLabels"].as_object();
            selector.is_some_and(|own| own.iter().all(|(key, value)| labels[key] == *value))
        };
        let policies = of_kind(&objects, "NetworkPolicy");
        let selecting: Vec<_> = policies.into_iter().filter(is_selecting).collect();
        let [policy] = selecting[..] else { anyhow::bail!("{selecting:?} select {labels}") };
        let hook = |object: &Value, name: &str| {
            object["metadata"]["annotations"][format!("helm.sh/{name}")].as_str().map(str::to_owned)
        };
        for name in ["hook", "hook-delete-policy"] {
            ensure!(hook(policy, name) == hook(pod, name), "{name} of {policy} for {pod}");
        }
        let weight =
            |object: &Value| hook(object, "hook-weight").and_then(|own| own.parse::<i8>().ok()).unwrap_or(0);
        ensure!(pod != job || weight(policy) < weight(pod), "{policy} is created after {pod}");
        let ports = [443, 6443, 53].map(|port| json!({ "port": port }));
        ensure!(has_all(&policy["spec"]["egress"][0]["ports"], &ports), "{policy}");
    }
    // It gets no node on which the agent does not end, and no node keeps it that does not answer.
    let other = json!({ "key": "pool", "operator": "Exists" });
    let selected = with(json!({ "cleanup": { "tolerations": [other] } }))?;
    for (objects, own) in
        [(&objects, json!({ "operator": "Exists", "effect": "NoSchedule" })), (&selected, other.clone())]
    {
        let job = of_kind(objects, "Job")[0];
        let pod = &job["spec"]["template"];
        let tolerations = pod["spec"]["tolerations"].as_array().context("it has tolerations")?;
        ensure!(tolerations[0] == own, "{tolerations:?}");
        let gone: Vec<_> = tolerations[1..]
            .iter()
            .map(|one| (one["key"].as_str(), one["effect"].as_str(), one["tolerationSeconds"].as_u64()))
            .collect();
        let expected = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
            .map(|key| (Some(key), Some("NoExecute"), Some(30)));
        ensure!(gone == expected, "{tolerations:?}");
        let other =
            &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        let selector = other["labelSelector"]["matchLabels"].as_object().context("it has a selector")?;
        let labels = &set(objects)?["spec"]["template"]["metadata"]["labels"];
        ensure!(
            selector.len() > 2 && selector.iter().all(|(key, value)| labels[key] == *value),
            "{selector:?} and {labels}"
        );
        ensure!(pod["spec"]["terminationGracePeriodSeconds"] == 0, "{pod}");
        ensure!(other["topologyKey"] == "kubernetes.io/hostname", "{other}");
    }
    Ok(())
}

/// Two releases of one name in two namespaces have no object in common, in whatever mode.
fn no_collision(bed: &Bed) -> anyhow::Result<()> {
    for more in ["nvidia.mode=auto", "cleanup.enabled=true"] {
        let of = |namespace: &str| -> anyhow::Result<BTreeSet<String>> {
            let objects =
                objects(bed, &["--no-hooks=false", "--set", ALL, "--set", more, "--namespace", namespace])?;
            let id = |object: &Value| {
                let metadata = &object["metadata"];
                format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
            };
            let ids: BTreeSet<String> = objects.iter().map(id).collect();
            ensure!(ids.len() == objects.len() && ids.len() > 20, "{ids:?}");
            Ok(ids)
        };
        let (first, second) = (of("one")?, of("two")?);
        let both: Vec<_> = first.intersection(&second).collect();
        ensure!(both.is_empty(), "both releases have {both:?}");
    }
    Ok(())
}
