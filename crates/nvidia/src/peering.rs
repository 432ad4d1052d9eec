//! How NICs and other nodes reach the GPUs: modules, parameters of the driver, and the version of its libraries by their file names.
//! Nothing is loaded.

use afd_host::Host;
use afd_model::{Known, Missing, PeerFacts};
use afd_probe::{Facts, node::KERNEL_RELEASE};

use crate::{library::SPEC, procfs};

/// The modules that are loaded or part of the kernel.
const MODULES: &str = "/sys/module";
/// A module that every kernel lists: without it the list is not complete, as in partial copies of a host.
const ALWAYS: &str = "kernel";
/// By which NICs reach the memory of GPUs: the driver's own module, and that of older drivers
/// (<https://docs.nvidia.com/cuda/gpudirect-rdma/>, "nvidia-peermem").
const PEER_MEMORY: [&str; 2] = ["nvidia_peermem", "nv_peer_mem"];
/// GDRCopy's module (<https://github.com/NVIDIA/gdrcopy>).
const GDR_COPY: &str = "gdrdrv";
/// The parameters with which the module was loaded (driver README, "Configuring a kernel module").
const PARAMETERS: &str = "/proc/driver/nvidia/params";
/// The device files of IMEX channels (IMEX documentation, "Creating channels").
const CHANNELS: &str = "/dev/nvidia-caps-imex-channels";
/// The first kernel with which the driver's memory can be shared as a dma-buf (GPU operator, "GPUDirect RDMA", prerequisites).
const DMA_BUF_KERNEL: [u32; 2] = [5, 12];

/// What is known of all GPUs. `driver` is the version of the loaded driver.
pub(crate) fn read(facts: &mut Facts<'_>, driver: Option<&str>) -> PeerFacts {
    let modules = facts.names("modules", MODULES);
    let is_complete = modules.iter().any(|name| name == ALWAYS);
    let is_loaded = |names: &[&str]| match modules.iter().any(|name| names.contains(&name.as_str())) {
        true => Known::Value(true),
        false if is_complete => Known::Value(false),
        false => Missing::NotExposed.into(),
    };
    let parameters = match facts.host().read(PARAMETERS) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    };
    PeerFacts {
        peer_memory_module: is_loaded(&PEER_MEMORY),
        dma_buf: dma_buf(facts),
        gdr_copy: is_loaded(&[GDR_COPY]),
        peer_mapping: peer_mapping(&parameters),
        import_channels: import_channels(facts.host(), &parameters),
        library_version: library_version(facts.host(), driver),
    }
}

/// The open kernel module can on kernels that are new enough, and the proprietary one cannot.
fn dma_buf(facts: &mut Facts<'_>) -> Known<bool> {
    procfs::is_open_module(facts).and_then(|is_open| {
        if !is_open {
            return Known::Value(false);
        }
        facts.text("kernel_release", KERNEL_RELEASE).and_then(|release| {
            let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
            let version = parts.next().flatten().zip(parts.next().flatten());
            Known::from_option(
                version.map(|(major, minor)| [major, minor] >= DMA_BUF_KERNEL),
                Missing::Malformed,
            )
        })
    })
}

/// `RegistryDwords: "PeerMappingOverride=1;"`, with which NVSHMEM's IBGDA needs no privileges (NVSHMEM installation guide).
fn peer_mapping(parameters: &str) -> Known<bool> {
    let Some(keys) = parameter(parameters, "RegistryDwords") else { return Missing::NotExposed.into() };
    let keys = keys.split([';', ',']).filter_map(|key| key.trim().split_once('='));
    let is_set =
        keys.into_iter().any(|(name, value)| name.trim() == "PeerMappingOverride" && value.trim() == "1");
    Known::Value(is_set)
}

/// The number of device files; without the host's `/dev` at least the one that the driver makes itself.
fn import_channels(host: &Host, parameters: &str) -> Known<u32> {
    if host.exists("/dev/nvidiactl") {
        let names = host.list(CHANNELS).unwrap_or_default();
        let channels = names.iter().filter(|name| name.starts_with("channel")).count();
        return Known::Value(u32::try_from(channels).unwrap_or(u32::MAX));
    }
    match parameter(parameters, "CreateImexChannel0") {
        Some("1") => Known::Value(1),
        _ => Missing::NotExposed.into(),
    }
}

/// A line `Name: value` of the parameters, without quotes.
fn parameter<'t>(parameters: &'t str, name: &str) -> Option<&'t str> {
    let lines = parameters.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(own, _)| own.trim() == name).map(|(_, value)| value.trim());
    values.next().map(|value| value.trim_matches('"'))
}

/// The version in the name to which `libnvidia-ml.so.1` links: that of the driver, if one of several libraries has it.
fn library_version(host: &Host, driver: Option<&str>) -> Known<String> {
    let mut first = None;
    let folders = SPEC.directories.iter().copied().flatten().filter(|folder| !folder.contains('*'));
    for folder in folders.flat_map(|folder| SPEC.roots.iter().map(move |root| format!("{root}{folder}"))) {
        for file in SPEC.files {
            let target = host.link(&format!("{folder}/{file}")).ok();
            let Some(version) = target.as_deref().and_then(version_of_file) else { continue };
            if Some(version) == driver {
                return Known::Value(version.to_owned());
            }
            first.get_or_insert_with(|| version.to_owned());
        }
    }
    Known::from_option(first, Missing::NotExposed)
}

/// `580.65.06` of `libnvidia-ml.so.580.65.06`.
fn version_of_file(target: &str) -> Option<&str> {
    let (_, version) = target.rsplit('/').next()?.split_once(".so.")?;
    let is_version = version.contains('.')
        && version.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_version.then_some(version)
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    fn read_of(folder: &TestHost) -> PeerFacts {
        let host = folder.open();
        let mut facts = Facts::new(&host, "nvidia");
        let peers = read(&mut facts, Some("580.65.06"));
        assert_eq!(facts.into_problems(), []);
        peers
    }

    fn module(folder: TestHost, name: &str) -> TestHost {
        folder.file(&format!("/sys/module/{name}/refcnt"), "0\n")
    }

    #[test]
    fn a_module_that_is_not_listed_is_missing_only_where_the_list_is_complete() {
        let of = |names: &[&str]| {
            let peers = read_of(&names.iter().fold(TestHost::new(), |folder, name| module(folder, name)));
            (peers.peer_memory_module.into_value(), peers.gdr_copy.into_value())
        };
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&["nvidia"]), (None, None), "a partial copy");
        assert_eq!(of(&["nvidia", "kernel"]), (Some(false), Some(false)));
        assert_eq!(of(&["nvidia", "nvidia_peermem"]), (Some(true), None));
        assert_eq!(of(&["kernel", "nv_peer_mem", "gdrdrv"]), (Some(true), Some(true)));
    }

    #[test]
    fn the_open_module_shares_memory_on_new_kernels() {
        let of = |flavour: &str, release: &str| {
            let version = format!("NVRM version: NVIDIA UNIX {flavour}  580.65.06  Release Build\n");
            let folder = TestHost::new()
                .file("/proc/driver/nvidia/version", version)
                .file("/proc/sys/kernel/osrelease", format!("{release}\n"));
            read_of(&folder).dma_buf.into_value()
        };
        let (open, proprietary) = ("Open Kernel Module for x86_64", "x86_64 Kernel Module");
        assert_eq!(of(open, "6.8.0-52-generic"), Some(true));
        assert_eq!(of(open, "5.12.0"), Some(true));
        assert_eq!(of(open, "5.11.22-1"), Some(false));
        assert_eq!(of(open, "4.18.0-553.el8_10.x86_64"), Some(false));
        assert_eq!(of(proprietary, "6.8.0"), Some(false));
        assert_eq!(read_of(&TestHost::new()).dma_buf.into_value(), None);
    }

    #[test]
    fn parameters_of_the_driver_are_read_as_it_shows_them() {
        let of = |text: &str| {
            let peers = read_of(&TestHost::new().file("/proc/driver/nvidia/params", text));
            (peers.peer_mapping.into_value(), peers.import_channels.into_value())
        };
        assert_eq!(
            of("ResmanDebugLevel: 4294967295\nRegistryDwords: \"\"\nCreateImexChannel0: 0\n"),
            (Some(false), None)
        );
        assert_eq!(
            of("RegistryDwords: \"PeerMappingOverride=1;\"\nCreateImexChannel0: 1\n"),
            (Some(true), Some(1))
        );
        assert_eq!(of("RegistryDwords: \"A=2;PeerMappingOverride=1\"\n"), (Some(true), None));
        assert_eq!(of("RegistryDwords: \"NoPeerMappingOverride=1;PeerMappingOverride=0\"\n").0, Some(false));
        assert_eq!(of("RegistryDwordsPerDevice: \"PeerMappingOverride=1\"\n"), (None, None));
        assert_eq!(of(""), (None, None));
        let with_files = |channels: &[&str]| {
            let folder = TestHost::new().file("/dev/nvidiactl", "");
            let add = |folder: TestHost, name: &&str| folder.file(&format!("{CHANNELS}/{name}"), "");
            read_of(&channels.iter().fold(folder, add)).import_channels.into_value()
        };
        assert_eq!([with_files(&[]), with_files(&["channel0", "channel7"])], [Some(0), Some(2)]);
    }

    #[test]
    fn the_version_of_the_library_is_in_the_name_of_its_file() {
        let of = |links: &[(&str, &str)]| {
            let add = |folder: TestHost, (folder_name, target): &(&str, &str)| {
                folder.link(&format!("{folder_name}/libnvidia-ml.so.1"), target)
            };
            read_of(&links.iter().fold(TestHost::new(), add)).library_version.into_value()
        };
        assert_eq!(of(&[]), None);
        let old = ("/usr/lib64", "libnvidia-ml.so.570.86.10");
        assert_eq!(of(&[old]).as_deref(), Some("570.86.10"));
        let current = ("/run/nvidia/driver/usr/lib/x86_64-linux-gnu", "/usr/lib/libnvidia-ml.so.580.65.06");
        assert_eq!(of(&[old, current]).as_deref(), Some("580.65.06"), "that of the loaded driver");
        for target in ["libnvidia-ml.so.1", "libnvidia-ml.so.580.65.06.bak", "libnvidia-ml.so.", "x"] {
            assert_eq!(of(&[("/usr/lib64", target)]), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (peer_mapping(&text), parameter(&text, "RegistryDwords"), version_of_file(&text));
        }
    }
}
