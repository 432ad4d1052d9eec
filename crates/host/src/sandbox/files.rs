//! Which files and ports the process of a library may use, by Landlock.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

use super::SandboxPolicy;

/// What is known of Landlock here. A kernel with less applies less.
const NEWEST: ABI = ABI::V6;

/// What every library may read: the system's libraries, what the loader needs to find them, what the kernel reports.
///
/// Of procfs, not the folders of other processes: their environment and command line may hold secrets.
const READ_PATHS: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/filesystems",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/stat",
    "/proc/sys",
    "/proc/version",
    "/sys",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
];
/// What every library may write.
const WRITE_PATHS: [&str; 1] = ["/dev/null"];
/// The loader, which the kernel executes for a program.
const LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];
const DEVICES: &str = "/dev";

/// The device files that patterns stand for. A folder stands for all that is or will be in it.
pub(super) fn matching(patterns: &[&str]) -> BTreeSet<PathBuf> {
    patterns.iter().flat_map(|pattern| matching_one(pattern)).collect()
}

fn matching_one(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    match name.strip_suffix('*') {
        // All of a folder below /dev belongs to the vendor's devices.
        Some(_) if folder != Path::new(DEVICES) => {
            Some(folder.to_owned()).filter(|path| path.is_dir()).into_iter().collect()
        }
        Some(prefix) => fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
            .collect(),
        None => Some(path.to_owned()).filter(|path| path.exists()).into_iter().collect(),
    }
}

/// Restricts this process; what was applied.
pub(super) fn restrict(
    policy: &SandboxPolicy<'_>,
    devices: &BTreeSet<PathBuf>,
) -> Result<String, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut rules = Rules(
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?,
    );
    let own_folder = policy.library.and_then(Path::parent).into_iter();
    let paths = READ_PATHS.iter().chain(policy.read_paths).map(Path::new);
    rules = rules.add(paths.chain(own_folder), read)?;
    rules = rules.add(WRITE_PATHS.iter().map(Path::new), write)?;
    // Names alone: the files in it are not readable.
    rules = rules.add([Path::new(DEVICES)].into_iter(), AccessFs::ReadDir.into())?;
    rules = rules.add(devices.iter().map(PathBuf::as_path), write | AccessFs::ReadDir)?;
    let shared = read | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate | AccessFs::RemoveFile;
    rules = rules.add(policy.shared_folders.iter().map(Path::new), shared)?;
    if !policy.programs.is_empty() {
        let programs = policy.programs.iter().chain(&LOADERS).map(Path::new);
        rules = rules.add(programs, AccessFs::Execute | AccessFs::ReadFile)?;
        rules = rules.add([Path::new(DEVICES)].into_iter(), AccessFs::MakeChar.into())?;
    }
    let ports =
        policy.ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    let status = rules.0.add_rules(ports)?.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => "no Landlock".to_owned(),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            format!("Landlock ABI {}", effective_abi as i32)
        }
        _ => "Landlock".to_owned(),
    })
}

/// Rules that are being added to.
struct Rules(RulesetCreated);

impl Rules {
    /// Allows access to those of these paths that exist, and to all below them.
    fn add<'p>(
        self,
        paths: impl Iterator<Item = &'p Path>,
        access: BitFlags<AccessFs>,
    ) -> Result<Rules, RulesetError> {
        let rule = |path: &Path| {
            let is_folder = path.is_dir();
            let of_files = access & AccessFs::from_file(NEWEST);
            let access = if is_folder { access } else { of_files };
            Some(PathBeneath::new(PathFd::new(path).ok()?, access))
        };
        let rules = paths.filter_map(rule).map(Ok::<_, RulesetError>);
        Ok(Rules(self.0.add_rules(rules)?))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::ErrorKind,
        net::{Ipv4Addr, TcpListener, TcpStream},
        process::Command,
        thread,
    };

    use super::*;
    use crate::child::run_registered;

    /// The version of Landlock that has rules of ports (Linux 6.7).
    const RULES_OF_PORTS: u32 = 4;

    #[test]
    fn a_process_connects_to_its_ports_alone() {
        let listeners = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)].map(|address| {
            let listener = TcpListener::bind((address, 0)).expect("loopback has a free port");
            (listener.local_addr().expect("it is bound"), listener)
        });
        let [(own, _), (other, _)] = &listeners;
        let (own, other) = (*own, *other);
        // Landlock restricts a thread.
        let restricted = thread::spawn(move || {
            let ports = [own.port()];
            let policy = SandboxPolicy {
                library: None,
                ports: &ports,
                may_count: false,
                read_paths: &[],
                device_files: &[],
                shared_folders: &[],
                programs: &[],
                max_data_bytes: 0,
            };
            let status = restrict(&policy, &BTreeSet::new()).expect("it can be restricted");
            let refused = |address| TcpStream::connect(address).err().map(|error| error.kind());
            (status, refused(own), refused(other))
        });
        let (status, own, other) = restricted.join().expect("the thread ends");
        let version = status.strip_prefix("Landlock ABI ").and_then(|version| version.parse::<u32>().ok());
        let has_rules = version.is_some_and(|version| version >= RULES_OF_PORTS);
        assert_eq!(own, None, "{status}");
        assert_eq!(other, has_rules.then_some(ErrorKind::PermissionDenied), "{status}");
    }

    #[test]
    fn what_a_record_allows_works_and_its_neighbours_do_not() {
        let temporary = || tempfile::tempdir().expect("a temporary folder can be made");
        let (shared, readable, other) = (temporary(), temporary(), temporary());
        for folder in [&readable, &other] {
            fs::write(folder.path().join("file"), "x").expect("a file can be written");
        }
        let [shared, readable, other] = [&shared, &readable, &other].map(|folder| folder.path().to_owned());
        // Landlock restricts a thread.
        let restricted = thread::spawn(move || {
            let [shared_folders, read_paths] =
                [&shared, &readable].map(|path| [path.to_str().expect("temporary paths are UTF-8")]);
            let policy = SandboxPolicy {
                library: None,
                ports: &[],
                may_count: false,
                read_paths: &read_paths,
                device_files: &["/dev/full"],
                shared_folders: &shared_folders,
                programs: &["/bin/true"],
                max_data_bytes: 0,
            };
            let status = restrict(&policy, &matching(policy.device_files)).expect("it can be restricted");
            let open = |path: &str| File::options().read(true).write(true).open(path).map(drop);
            let run = |program: &str| run_registered(Command::new(program).args(["-c", "true"])).map(drop);
            let made = shared.join("lock");
            let allowed = [
                ("run a program", run("/bin/true")),
                ("open a device", open("/dev/full")),
                ("read", fs::read(readable.join("file")).map(drop)),
                ("list", fs::read_dir(&readable).map(drop)),
                ("make a file", fs::write(&made, "x")),
                ("write it again", fs::write(&made, "y")),
                ("read it", fs::read(&made).map(drop)),
                ("remove it", fs::remove_file(&made)),
            ];
            let refused = [
                ("run a shell", run("/bin/sh")),
                // Readable alone, as for every library.
                ("write to a device", open("/dev/zero")),
                ("read beside it", fs::read(other.join("file")).map(drop)),
                ("list beside it", fs::read_dir(&other).map(drop)),
                ("make a file beside it", fs::write(other.join("made"), "x")),
                ("make a file where it may read", fs::write(readable.join("made"), "x")),
                ("write what it may read", fs::write(readable.join("file"), "y")),
                ("make a folder", fs::create_dir(shared.join("folder"))),
                ("make a link", std::os::unix::fs::symlink("/", shared.join("link"))),
            ];
            (status, allowed, refused)
        });
        let (status, allowed, refused) = restricted.join().expect("the thread ends");
        for (what, result) in allowed {
            result.unwrap_or_else(|error| panic!("{status}: {what}: {error}"));
        }
        let expected = (status != "no Landlock").then_some(ErrorKind::PermissionDenied);
        for (what, result) in refused {
            assert_eq!(result.err().map(|error| error.kind()), expected, "{status}: {what}");
        }
    }

    #[test]
    fn a_pattern_stands_for_names_in_dev_and_for_the_whole_of_a_folder_below_it() {
        let null = PathBuf::from("/dev/null");
        assert!(matching(&["/dev/nul*"]).contains(&null));
        assert_eq!(
            matching(&["/dev/null", "/dev/nonexistent", "/dev/nonexistent/*"]),
            BTreeSet::from([null])
        );
        if Path::new("/dev/pts").is_dir() {
            assert_eq!(matching(&["/dev/pts/*"]), BTreeSet::from(["/dev/pts".into()]));
        }
    }
}
