//! What to do about each reason, on each distribution: a TOML file of commands for people. Nothing runs them.

use std::collections::BTreeMap;

use afd_model::{Inventory, OsRelease};
use toml::de::DeTable;

use super::{
    rule_file::{RuleError, RuleFile},
    rule_table::{RuleTable, tables},
};
use crate::{labels::primary_product, vendors};

/// The built-in file.
const BUILT_IN: &str = include_str!("remedies.toml");

/// Distributions that differ in what is done on them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Distribution {
    /// Debian and what is like it.
    Debian,
    /// Red Hat Enterprise Linux and what is like it.
    RedHat,
    /// The image of OpenShift, which is not changed by hand.
    OpenShift,
    /// SUSE's distributions.
    Suse,
    /// Talos, which has no shell.
    Talos,
    /// Bottlerocket.
    Bottlerocket,
    /// Container-Optimized OS.
    Cos,
    /// Amazon Linux.
    AmazonLinux,
}

impl Distribution {
    /// All of them.
    pub const ALL: [Distribution; 8] = [
        Distribution::Debian,
        Distribution::RedHat,
        Distribution::OpenShift,
        Distribution::Suse,
        Distribution::Talos,
        Distribution::Bottlerocket,
        Distribution::Cos,
        Distribution::AmazonLinux,
    ];

    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Distribution::Debian => "Debian, Ubuntu",
            Distribution::RedHat => "RHEL and its like",
            Distribution::OpenShift => "OpenShift (RHEL CoreOS)",
            Distribution::Suse => "SLES, openSUSE",
            Distribution::Talos => "Talos",
            Distribution::Bottlerocket => "Bottlerocket",
            Distribution::Cos => "Container-Optimized OS",
            Distribution::AmazonLinux => "Amazon Linux",
        }
    }

    /// Its key in the file.
    fn key(self) -> &'static str {
        match self {
            Distribution::Debian => "debian",
            Distribution::RedHat => "red_hat",
            Distribution::OpenShift => "openshift",
            Distribution::Suse => "suse",
            Distribution::Talos => "talos",
            Distribution::Bottlerocket => "bottlerocket",
            Distribution::Cos => "cos",
            Distribution::AmazonLinux => "amazon_linux",
        }
    }

    /// That of a host; none of one that is like none of these.
    pub fn of(os: &OsRelease) -> Option<Distribution> {
        let exact = match (os.id.as_str(), os.variant.as_deref()) {
            ("rhcos" | "scos", _) | ("rhel" | "centos", Some("coreos")) => Distribution::OpenShift,
            ("talos", _) => Distribution::Talos,
            ("bottlerocket", _) => Distribution::Bottlerocket,
            ("cos", _) => Distribution::Cos,
            ("amzn", _) => Distribution::AmazonLinux,
            _ => {
                let names = [os.id.as_str()].into_iter().chain(os.id_like.iter().map(String::as_str));
                return names.into_iter().find_map(Distribution::family);
            }
        };
        Some(exact)
    }

    fn family(name: &str) -> Option<Distribution> {
        match name {
            "debian" | "ubuntu" => Some(Distribution::Debian),
            "rhel" | "centos" | "fedora" | "rocky" | "almalinux" | "ol" => Some(Distribution::RedHat),
            "sles" | "sled" | "suse" | "sl-micro" | "sle-micro" => Some(Distribution::Suse),
            name if name.starts_with("opensuse") => Some(Distribution::Suse),
            _ => None,
        }
    }
}

/// What to do about a reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remedy {
    reasons: Vec<String>,
    /// The probe of the devices that it is for.
    devices: Option<String>,
    /// What to do, in a sentence.
    pub what: String,
    everywhere: Vec<String>,
    on: BTreeMap<Distribution, Vec<String>>,
}

impl Remedy {
    /// The commands for a distribution.
    pub fn commands(&self, distribution: Distribution) -> &[String] {
        self.on.get(&distribution).unwrap_or(&self.everywhere)
    }

    /// Whether the commands are the same everywhere.
    pub fn is_the_same_everywhere(&self) -> bool {
        self.on.is_empty()
    }
}

/// All remedies.
#[derive(Debug)]
pub struct Remedies(Vec<Remedy>);

impl Remedies {
    /// The built-in ones.
    ///
    /// # Panics
    /// Never: a test reads them.
    pub fn built_in() -> Remedies {
        match Remedies::read(BUILT_IN) {
            Ok(remedies) => remedies,
            Err(errors) => panic!("the built-in remedies: {errors:?}"),
        }
    }

    fn read(text: &str) -> Result<Remedies, Vec<RuleError>> {
        let mut file = RuleFile::new("remedies.toml", text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            file.error(error.span().map_or(0, |span| span.start), error.message());
        }
        let mut remedies = Vec::new();
        for mut table in tables(&mut file, document.get_ref(), "remedy") {
            remedies.extend(remedy(&mut file, &mut table));
            table.finish(&mut file);
        }
        let errors = file.into_errors();
        if errors.is_empty() { Ok(Remedies(remedies)) } else { Err(errors) }
    }

    /// The remedy of a reason for the primary product of a node; the one for any device where there is none for these.
    pub fn find(&self, reason: &str, inventory: &Inventory, include_integrated: bool) -> Option<&Remedy> {
        let product = primary_product(inventory, include_integrated);
        let device = product.and_then(|(devices, _)| devices.first().copied());
        let probe = device.and_then(vendors::of_device).map(|record| record.probe);
        let of_reason = || self.0.iter().filter(|remedy| remedy.reasons.iter().any(|own| own == reason));
        let own = of_reason().find(|remedy| remedy.devices.is_some() && remedy.devices.as_deref() == probe);
        own.or_else(|| of_reason().find(|remedy| remedy.devices.is_none())).or_else(|| of_reason().next())
    }
}

fn remedy(file: &mut RuleFile<'_>, table: &mut RuleTable<'_>) -> Option<Remedy> {
    let mut strings = |file: &mut RuleFile<'_>, key| -> Option<Vec<String>> {
        let strings = table.strings(file, key)?;
        Some(strings.into_iter().map(|string| string.value).collect())
    };
    let reasons = strings(file, "reasons").unwrap_or_default();
    let everywhere = strings(file, "everywhere");
    let on: BTreeMap<Distribution, Vec<String>> = Distribution::ALL
        .into_iter()
        .filter_map(|distribution| Some((distribution, strings(file, distribution.key())?)))
        .collect();
    let is_complete = if everywhere.is_some() { on.is_empty() } else { on.len() == Distribution::ALL.len() };
    let is_empty = |commands: &Vec<String>| commands.is_empty();
    if reasons.is_empty() || !is_complete || everywhere.iter().chain(on.values()).any(is_empty) {
        file.error(
            table.span.start,
            "a remedy has reasons, and commands for everywhere or for every distribution",
        );
    }
    let devices = table.optional(file, "devices").map(|devices| devices.value);
    let what = table.required(file, "what")?.value;
    Some(Remedy { reasons, devices, what, everywhere: everywhere.unwrap_or_default(), on })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use afd_model::Device;

    use super::*;
    use crate::{paths::PathRules, vendors::VENDORS};

    /// Words by which commands of one distribution are known.
    const PROGRAMS: [(Distribution, &[&str]); 8] = [
        (Distribution::Debian, &["apt-get", "apt-mark", "update-initramfs"]),
        (Distribution::RedHat, &["dnf"]),
        (Distribution::OpenShift, &["oc", "OperatorHub"]),
        (Distribution::Suse, &["zypper"]),
        (Distribution::Talos, &["talosctl"]),
        (Distribution::Bottlerocket, &["apiclient"]),
        (Distribution::Cos, &["gcloud", "cos-extensions"]),
        (Distribution::AmazonLinux, &["yum", "dnf", "setup-local-disks", "./efa_installer.sh"]),
    ];

    #[test]
    fn every_reason_has_a_remedy_for_every_vendor_on_every_distribution() {
        let (rules, remedies) = (PathRules::built_in(), Remedies::built_in());
        let of_path = |path| rules.requirements_of(path).chain(rules.notes_of(path));
        let reasons: BTreeSet<&str> =
            rules.paths().iter().flat_map(of_path).map(|requirement| requirement.reason.as_str()).collect();
        for reason in &reasons {
            for record in VENDORS {
                let address = vendors::bare_device(1).id.0;
                let devices = vec![Device::bare(address, record.vendor, record.variant)];
                let inventory = Inventory { devices, ..Inventory::default() };
                let remedy = remedies.find(reason, &inventory, true);
                let remedy = remedy.unwrap_or_else(|| panic!("{reason} has no remedy for {}", record.title));
                for distribution in Distribution::ALL {
                    let commands = remedy.commands(distribution);
                    assert!(!commands.is_empty(), "{reason} on {}", distribution.title());
                    for command in commands {
                        assert!(
                            !command.contains('\n') && !command.trim().is_empty(),
                            "{reason}: {command:?}"
                        );
                    }
                }
            }
        }
        let known = remedies.0.iter().flat_map(|remedy| &remedy.reasons);
        let unknown: Vec<&String> = known.filter(|reason| !reasons.contains(reason.as_str())).collect();
        assert!(unknown.is_empty(), "no rule has the reasons {unknown:?}");
    }

    #[test]
    fn a_distribution_gets_no_program_of_another_one() {
        for remedy in Remedies::built_in().0 {
            for (distribution, commands) in &remedy.on {
                let own = PROGRAMS.iter().find(|(own, _)| own == distribution).map(|(_, own)| *own);
                let own = own.unwrap_or_default();
                let foreign = PROGRAMS.iter().flat_map(|(_, programs)| *programs);
                let foreign: Vec<&&str> = foreign.filter(|program| !own.contains(program)).collect();
                for command in commands.iter().filter(|command| !command.starts_with('#')) {
                    let mut words = command.split_whitespace();
                    let wrong = words.find(|word| foreign.iter().any(|program| **program == *word));
                    assert_eq!(wrong, None, "{:?} on {}: {command}", remedy.reasons, distribution.title());
                }
            }
        }
    }

    #[test]
    fn a_remedy_that_lacks_a_distribution_is_an_error() {
        let error = |text: &str| Remedies::read(text).is_err();
        assert!(error("[[remedy]]\nreasons = ['A']\nwhat = 'w'\ndebian = ['x']\n"));
        assert!(error("[[remedy]]\nreasons = ['A']\nwhat = 'w'\neverywhere = []\n"));
        assert!(error("[[remedy]]\nreasons = ['A']\nwhat = 'w'\neverywhere = ['x']\ndebian = ['x']\n"));
        assert!(error("[[remedy]]\nreasons = ['A']\neverywhere = ['x']\n"));
        assert!(error("[[remedy]]\nreasons = ['A']\nwhat = 'w'\neverywhere = ['x']\nplan9 = ['x']\n"));
        assert!(!error("[[remedy]]\nreasons = ['A']\nwhat = 'w'\neverywhere = ['x']\n"));
    }

    #[test]
    fn hosts_are_of_the_distribution_that_they_are_like() {
        let of = |id: &str, like: &str, variant: Option<&str>| {
            Distribution::of(&OsRelease {
                id: id.to_owned(),
                id_like: like.split_whitespace().map(str::to_owned).collect(),
                version: None,
                variant: variant.map(str::to_owned),
            })
        };
        for (id, like, variant, expected) in [
            ("ubuntu", "debian", None, Distribution::Debian),
            ("debian", "", None, Distribution::Debian),
            ("pop", "ubuntu debian", None, Distribution::Debian),
            ("rhel", "fedora", None, Distribution::RedHat),
            ("rocky", "rhel centos fedora", None, Distribution::RedHat),
            ("ol", "fedora", None, Distribution::RedHat),
            ("rhcos", "rhel fedora", None, Distribution::OpenShift),
            ("rhel", "fedora", Some("coreos"), Distribution::OpenShift),
            ("sles", "suse", None, Distribution::Suse),
            ("opensuse-leap", "suse opensuse", None, Distribution::Suse),
            ("talos", "", None, Distribution::Talos),
            ("bottlerocket", "", Some("aws-k8s-1.33-nvidia"), Distribution::Bottlerocket),
            ("cos", "", None, Distribution::Cos),
            ("amzn", "centos rhel fedora", None, Distribution::AmazonLinux),
        ] {
            assert_eq!(of(id, like, variant), Some(expected), "{id}");
        }
        assert_eq!(of("plan9", "", None), None);
    }
}
