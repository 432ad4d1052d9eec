//! The metadata of a TPU machine: `tpu-env`, which Google's images off GKE have as a file and every machine at the metadata server,
//! and what else the server has. Pure.
//!
//! Lines `KEY: 'value'`, on newer images without quotes. Two keys have another name on newer images. Unknown keys are ignored, and
//! so is a value that is none of its key: others decide by these values which devices a node has.

use std::{collections::BTreeMap, str::FromStr};

use afd_model::{Known, TpuSlice};

use crate::node;

/// The file.
pub(crate) const PATH: &str = "/etc/tpu/tpu-env";

const ACCELERATOR_TYPE: [&str; 2] = ["ACCELERATOR_TYPE", "TPU_ACCELERATOR_TYPE"];
const TOPOLOGY: &str = "TOPOLOGY";
const CHIPS_PER_HOST: &str = "CHIPS_PER_HOST_BOUNDS";
const HOSTS: &str = "HOST_BOUNDS";
const WORKER: [&str; 2] = ["WORKER_ID", "TPU_WORKER_ID"];
const ICI_RESILIENCY: &str = "ENABLE_ICI_RESILIENCY";
/// The ports at which the runtimes of the machine report.
const PORTS: &str = "TPU_RUNTIME_METRICS_PORTS";
/// No machine has more chips and cores.
const MAX_PORTS: usize = 16;
/// The name of the slice, which is unique in its zone.
const NAME: &str = "NODE_ID";
const ZONE: &str = "ZONE";

/// The slice that the file describes; none if it says nothing of one.
pub fn parse(text: &str) -> Option<TpuSlice> {
    let one_of = |keys: &[&str]| keys.iter().find_map(|key| value(text, key));
    let name = value(text, NAME).zip(value(text, ZONE)).map(|(name, zone)| format!("{name}.{zone}"));
    let named = one_of(&ACCELERATOR_TYPE).filter(|name| is_type(name));
    let slice = TpuSlice {
        accelerator: known(named.and_then(accelerator).map(str::to_owned)),
        accelerator_type: known(named.map(str::to_owned)),
        topology: known(value(text, TOPOLOGY).filter(|shape| is_shape(shape)).map(str::to_owned)),
        chips_per_host: known(value(text, CHIPS_PER_HOST).and_then(product)),
        hosts: known(value(text, HOSTS).and_then(product)),
        worker: known(one_of(&WORKER).and_then(natural)),
        ici_resiliency: known(value(text, ICI_RESILIENCY).and_then(|flag| flag.parse().ok())),
        identity: known(name.filter(|name| is_name(name))),
        labelled_by_platform: Known::default(),
    };
    (slice != TpuSlice::default()).then_some(slice)
}

/// The ports at which the runtimes of the machine report; none if the file names none.
pub fn runtime_ports(text: &str) -> Vec<u16> {
    value(text, PORTS).map(ports).unwrap_or_default()
}

/// The ports of a list; none if one of it is no port.
pub(crate) fn ports(list: &str) -> Vec<u16> {
    let ports = list.split(',').map(|port| natural::<u16>(port.trim()));
    let ports: Option<Vec<u16>> = ports.filter(|port| *port != Some(0)).take(MAX_PORTS).collect();
    ports.unwrap_or_default()
}

/// What the metadata server has of a machine; each is empty where it has it not.
#[derive(Debug, Default)]
pub struct ServerMetadata {
    /// Labels of GKE.
    pub kube_labels: String,
    /// What the file has on other machines.
    pub tpu_env: String,
    /// Ids of the slices to which the machine belongs, by topology.
    pub topology_ids: String,
    /// The type of the machine, after the project.
    pub machine_type: String,
}

impl ServerMetadata {
    /// The slice that they describe.
    pub fn slice(&self) -> TpuSlice {
        let mut slice = node::slice_of_kube_labels(&self.kube_labels);
        slice.complete_with(parse(&self.tpu_env).unwrap_or_default());
        slice.chips_per_host.fill(|| known(chips_of_machine(&self.machine_type)));
        let ids: BTreeMap<String, String> = serde_json::from_str(&self.topology_ids).unwrap_or_default();
        let id = slice.topology.value().and_then(|topology| ids.get(topology));
        if let Some(id) = id.filter(|id| is_name(id)) {
            slice.identity = Known::Value(id.clone());
        }
        slice
    }
}

/// The chips of a machine with TPUs: 8 of `projects/7/machineTypes/ct6e-standard-8t`.
pub(crate) fn chips_of_machine(kind: &str) -> Option<u32> {
    let name = kind.trim().rsplit('/').next()?;
    let is_of_tpus = ["ct", "tpu"].iter().any(|prefix| name.starts_with(prefix));
    let count = name.rsplit_once('-')?.1.strip_suffix('t').and_then(natural);
    count.filter(|count| is_of_tpus && *count > 0)
}

/// The name that Google's labels have for a type, by the table of the DRA driver (`mapTpuEnvToLabels` of its `util.go`), where
/// its generation has one name only or the type decides it.
fn accelerator(name: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 4] = [
        ("v4-", "tpu-v4-podslice"),
        ("v5litepod-", "tpu-v5-lite-podslice"),
        ("v5p-", "tpu-v5p-slice"),
        ("v6e-", "tpu-v6e-slice"),
    ];
    NAMES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, accelerator)| *accelerator)
}

/// The lines of the file that are read and do not identify the machine: the others name the project, the zone, the slice and other machines.
pub fn blank(content: &[u8]) -> Vec<u8> {
    let keys = [TOPOLOGY, CHIPS_PER_HOST, HOSTS, ICI_RESILIENCY, PORTS]
        .into_iter()
        .chain(ACCELERATOR_TYPE)
        .chain(WORKER);
    let keys: Vec<&str> = keys.collect();
    let text = String::from_utf8_lossy(content);
    let is_read = |line: &&str| line.split_once(':').is_some_and(|(key, _)| keys.contains(&key.trim()));
    text.lines().filter(is_read).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

fn known<T>(value: Option<T>) -> Known<T> {
    value.map_or_else(Known::default, Known::Value)
}

/// The value of a key, without quotes; none if it is empty.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let line = text.lines().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        (own.trim() == key).then_some(value.trim())
    })?;
    let unquoted = ['\'', '"'].into_iter().find_map(|quote| line.strip_prefix(quote)?.strip_suffix(quote));
    Some(unquoted.unwrap_or(line).trim()).filter(|value| !value.is_empty())
}

/// A name or an id: it fits into a label.
fn is_name(name: &str) -> bool {
    is_label(name, "-_.")
}

pub(crate) fn is_type(name: &str) -> bool {
    is_label(name, "-")
}

/// Whether it is a label value of Kubernetes, with these characters between letters and digits.
fn is_label(text: &str, separators: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || separators.contains(c);
    text.len() <= 63
        && text.chars().all(fits)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// A number of digits alone: `str::parse` takes a sign as well.
pub(crate) fn natural<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `2x4` or `2x2x1`.
pub(crate) fn is_shape(shape: &str) -> bool {
    let mut dimensions = shape.split('x');
    (2..=3).contains(&dimensions.clone().count())
        && dimensions.all(|size| natural::<u16>(size).is_some_and(|size| size > 0))
}

/// The product of bounds: 4 of `2,2,1`.
fn product(bounds: &str) -> Option<u32> {
    let product =
        bounds.split(',').try_fold(1_u32, |product, bound| product.checked_mul(natural(bound.trim())?));
    product.filter(|product| *product > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: &str = "ACCELERATOR_TYPE: 'v4-16'\nNODE_ID: 'train'\nZONE: 'us-central2-b'\nCHIPS_PER_HOST_BOUNDS: '2,2,1'\n\
                          HOST_BOUNDS: '1,1,2'\nTOPOLOGY: '2x2x2'\nWORKER_ID: '1'\nENABLE_ICI_RESILIENCY: 'false'\n";

    fn slice() -> TpuSlice {
        TpuSlice {
            accelerator: Known::Value("tpu-v4-podslice".to_owned()),
            accelerator_type: Known::Value("v4-16".to_owned()),
            topology: Known::Value("2x2x2".to_owned()),
            chips_per_host: Known::Value(4),
            hosts: Known::Value(2),
            worker: Known::Value(1),
            ici_resiliency: Known::Value(false),
            identity: Known::Value("train.us-central2-b".to_owned()),
            labelled_by_platform: Known::default(),
        }
    }

    #[test]
    fn every_form_of_the_file_is_read() {
        let newer =
            QUOTED.replace("ACCELERATOR_TYPE", "TPU_ACCELERATOR_TYPE").replace("WORKER_ID", "TPU_WORKER_ID");
        for text in [
            QUOTED.to_owned(),
            QUOTED.replace('\'', ""),
            QUOTED.replace('\'', "\""),
            QUOTED.replace('\n', "\r\n"),
            newer.replace('\'', ""),
            newer,
        ] {
            assert_eq!(parse(&text), Some(slice()), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_of_its_key_is_not_known() {
        for text in [
            "",
            "\n\n",
            "garbage",
            "ZONE: 'a'",
            "TOPOLOGY:",
            "TOPOLOGY: ''",
            "TOPOLOGY: 4",
            "TOPOLOGY: 0x4",
            "TOPOLOGY: 2x2x2x2",
            "TOPOLOGY: +2x4",
            "TOPOLOGY: 2x+4",
            "ACCELERATOR_TYPE: -",
            "ACCELERATOR_TYPE: v6e-",
            "ACCELERATOR_TYPE: -v6e",
            "NODE_ID: ..\nZONE: -",
            "CHIPS_PER_HOST_BOUNDS: +2,2",
            "HOST_BOUNDS: +1",
            "WORKER_ID: +1",
            "ACCELERATOR_TYPE: a b",
            "CHIPS_PER_HOST_BOUNDS: 2,0,1",
            "CHIPS_PER_HOST_BOUNDS: 65536,65536",
            "HOST_BOUNDS: x",
            "WORKER_ID: -1",
            "ENABLE_ICI_RESILIENCY: maybe",
            "# TOPOLOGY: 2x2",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_recording_has_only_the_lines_that_are_read() {
        let blanked = String::from_utf8(blank(QUOTED.as_bytes())).expect("it is text");
        let anonymous = TpuSlice { identity: Known::default(), ..slice() };
        assert_eq!(parse(&blanked), Some(anonymous));
        assert!(!blanked.contains("us-central2") && !blanked.contains("train"));
    }

    #[test]
    fn ports_are_a_list_of_at_most_sixteen() {
        assert_eq!(runtime_ports("TPU_RUNTIME_METRICS_PORTS: '8431, 8432'\n"), [8431, 8432]);
        assert_eq!(runtime_ports(&format!("{PORTS}: {}", ["8431"; 99].join(","))).len(), MAX_PORTS);
        for text in [
            "",
            "TPU_RUNTIME_METRICS_PORTS: ''",
            "TPU_RUNTIME_METRICS_PORTS: x",
            "TPU_RUNTIME_METRICS_PORTS: +8431",
            "TPU_RUNTIME_METRICS_PORTS: 0",
        ] {
            assert!(runtime_ports(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_type_of_a_machine_with_tpus_ends_in_the_number_of_its_chips() {
        for (kind, chips) in [
            ("projects/1/machineTypes/ct6e-standard-8t", Some(8)),
            ("tpu7x-standard-4t\n", Some(4)),
            ("ct5lp-hightpu-1t", Some(1)),
            ("n2-standard-8", None),
            ("e2-standard-4t", None),
            ("ct6e-standard-0t", None),
            ("ct6e-standard-+8t", None),
            ("ct6e", None),
            ("", None),
        ] {
            assert_eq!(chips_of_machine(kind), chips, "{kind}");
        }
    }

    #[test]
    fn the_server_has_labels_before_tpu_env_and_the_id_of_the_topology() {
        let metadata = ServerMetadata {
            kube_labels: "cloud.google.com/gke-tpu-topology=4x4,cloud.google.com/gke-accelerator-count=4"
                .to_owned(),
            tpu_env: QUOTED.to_owned(),
            topology_ids: r#"{"2x2": "part", "4x4": "whole"}"#.to_owned(),
            machine_type: "projects/1/machineTypes/ct5p-hightpu-8t".to_owned(),
        };
        let slice = metadata.slice();
        assert_eq!(slice.topology, Known::Value("4x4".to_owned()));
        assert_eq!((slice.hosts, slice.worker), (Known::Value(4), Known::Value(1)));
        assert_eq!(slice.identity, Known::Value("whole".to_owned()));
        assert_eq!(slice.chips_per_host, Known::Value(4), "the type of the machine is the last to say it");
        let alone = ServerMetadata { machine_type: metadata.machine_type, ..ServerMetadata::default() };
        assert_eq!(alone.slice().chips_per_host, Known::Value(8));
        let garbage = ServerMetadata {
            kube_labels: "<html>".to_owned(),
            tpu_env: "\u{0}".to_owned(),
            topology_ids: "[]".to_owned(),
            machine_type: "n2-standard-8".to_owned(),
        };
        assert_eq!(garbage.slice(), TpuSlice::default());
    }
}
