//! System calls that the process of a library may not make, by seccomp.
//!
//! A list of what is forbidden: what a vendor's library calls is not documented and changes from release to release. A forbidden
//! call fails with EPERM, so that a library which only tries goes on.

mod conditions;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};

use self::conditions::{is_none_of, when, when_long};
use super::SandboxError;

/// Forbidden whatever their arguments.
const FORBIDDEN: &[i64] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // It makes other calls past this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    // Leaving the process group, by which all that a library forks is killed.
    libc::SYS_setsid,
    libc::SYS_setpgid,
    // Mounts, namespaces and the root.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files without a path, past Landlock.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // The kernel and the machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Keys of the user and of the session.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Memory that is neither private nor in a file that a limit bounds. Segments and queues outlive the process besides.
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    // What is written of a file beside its content, which Landlock does not know; and its length by its path, which it knows from
    // its third version on.
    libc::SYS_fchown,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    // Raising a limit again, which `limits.rs` has lowered.
    libc::SYS_setrlimit,
];

/// Forbidden where no program may be executed: a program that makes a device file sets its owner and its mode by its path.
const FORBIDDEN_WITHOUT_PROGRAMS: [i64; 3] = [libc::SYS_fchmodat, FCHMODAT2, libc::SYS_fchownat];

/// Calls for which the C library has no names on every platform: their numbers are the same on all.
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;

/// Forbidden where no port may be connected to: no library needs a socket, and the agent's host has many that would serve root.
const FORBIDDEN_OFFLINE: [i64; 2] = [libc::SYS_socket, libc::SYS_connect];

/// Kinds of sockets that no process may make: those that are no stream, of which Landlock knows no port. The C library has no names
/// for the last two, DCCP and packets of a link.
const FORBIDDEN_SOCKETS: [i32; 6] =
    [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, 6, 10];
/// The kind of a socket; its flags are in the same argument.
const SOCKET_KIND: u64 = 0xf;
/// Calls that connect with this flag, past Landlock, and the argument that has their flags.
const SENDING: [(i64, u8); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];

/// `PERF_FLAG_FD_CLOEXEC`: of the flags of a counter, the one that says nothing of what it counts.
const CLOSE_COUNTER_ON_EXEC: u64 = 1 << 3;

/// Forbidden on x86 in addition: access to ports, and older forms of other calls.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_HERE: &[i64] = &[
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_HERE: &[i64] = &[];
/// The same where no program may be executed.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_HERE_WITHOUT_PROGRAMS: &[i64] =
    &[libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_HERE_WITHOUT_PROGRAMS: &[i64] = &[];

/// The bit that turns the number of a call into that of the x32 ABI, which has the same architecture for a filter.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
/// Calls that have a number of their own in that ABI. Nothing here needs them.
#[cfg(target_arch = "x86_64")]
const X32_OWN: std::ops::RangeInclusive<i64> = 512..=547;

/// Calls of `ioctl` that change what is written of a file beside its content (`FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`), or whom the
/// kernel signals for a socket (`FIOSETOWN`, `SIOCSPGRP`).
const FORBIDDEN_IOCTLS: [u64; 4] = [0x4008_6602, 0x401c_5820, 0x8901, 0x8902];
/// Commands of `fcntl` by which the kernel signals another process for a file, with a signal of choice. The C library has no names
/// for the last two on every platform: `F_SETSIG`, `F_SETOWN_EX`.
const FORBIDDEN_FILE_COMMANDS: [u64; 3] = [libc::F_SETOWN as u64, 10, 15];
/// Calls that schedule the process, or the thread, of their first argument: 0 for the thread that makes them. A filter cannot
/// distinguish another thread from another process. On which processors something runs is left out: libraries bind threads that
/// they start.
const SCHEDULING: [i64; 3] =
    [libc::SYS_sched_setscheduler, libc::SYS_sched_setattr, libc::SYS_sched_setparam];
/// The kind of a target that is all processes of a user, for `setpriority` and for `ioprio_set`.
const OF_A_USER: [(i64, u64); 2] = [(libc::SYS_setpriority, 2), (libc::SYS_ioprio_set, 3)];

/// Flags of `clone` that make a namespace or a sibling of this process.
const FORBIDDEN_CLONES: [i32; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_PARENT,
];

/// What a process may do that others may not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AllowedCalls {
    /// Make sockets of TCP, and connect them.
    pub(super) connecting: bool,
    /// Open counters of a processor or a device, not of a process.
    pub(super) counting: bool,
    /// Start processes and execute programs, which set the owner and the mode of device files that they make.
    pub(super) executing: bool,
    /// Make files that other processes use, and set the mode of what is open.
    pub(super) sharing: bool,
}

/// Installs the filters; what was applied.
pub(super) fn filter(allowed: AllowedCalls) -> Result<&'static str, SandboxError> {
    install(allowed, |program| apply_filter(program))
}

fn install(
    allowed: AllowedCalls,
    mut apply: impl FnMut(&BpfProgram) -> Result<(), seccompiler::Error>,
) -> Result<&'static str, SandboxError> {
    let mut is_applied = |rules, errno| {
        let program = program(rules, errno).map_err(|error| SandboxError::SystemCalls(error.into()))?;
        match apply(&program) {
            // The kernel has none, or what confines the container does not let it add to that.
            Err(seccompiler::Error::Seccomp(error))
                if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)) =>
            {
                Ok(false)
            }
            result => result.map(|()| true).map_err(SandboxError::SystemCalls),
        }
    };
    let forbidden = is_applied(rules(allowed), libc::EPERM)?;
    // Its flags are in memory, where no filter sees them. The C library falls back to `clone`.
    let unknown = is_applied(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?;
    Ok(match (forbidden, unknown) {
        (true, true) => "seccomp",
        (true, false) => "seccomp except for clone3",
        (false, true) => "seccomp for clone3 only",
        (false, false) => "no seccomp",
    })
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let forbid = SeccompAction::Errno(errno as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, forbid, architecture)?.try_into()
}

/// The forbidden calls, each with the conditions under which it is; without conditions always.
fn rules(allowed: AllowedCalls) -> BTreeMap<i64, Vec<SeccompRule>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in FORBIDDEN.iter().chain(FORBIDDEN_HERE) {
        rules.insert(*call, Vec::new());
    }
    if allowed.counting {
        rules.insert(libc::SYS_perf_event_open, counting_conditions());
    }
    if allowed.connecting {
        rules.insert(libc::SYS_socket, socket_conditions());
        let fast_open = libc::MSG_FASTOPEN as u64;
        let connects = |flags| when(flags, SeccompCmpOp::MaskedEq(fast_open), fast_open);
        rules.extend(SENDING.map(|(call, flags)| (call, vec![connects(flags)])));
    } else {
        rules.extend(FORBIDDEN_OFFLINE.map(|call| (call, Vec::new())));
    }
    if !allowed.executing {
        let calls = FORBIDDEN_WITHOUT_PROGRAMS.iter().chain(FORBIDDEN_HERE_WITHOUT_PROGRAMS);
        rules.extend(calls.map(|call| (*call, Vec::new())));
    }
    if !allowed.sharing {
        rules.insert(libc::SYS_fchmod, Vec::new());
    }
    rules.insert(libc::SYS_ioctl, FORBIDDEN_IOCTLS.map(|request| when(1, SeccompCmpOp::Eq, request)).into());
    rules.insert(libc::SYS_socketpair, pair_conditions());
    let own = u64::from(std::process::id());
    // Signals to itself are how a process aborts.
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, vec![when(0, SeccompCmpOp::Ne, own)]);
    }
    let is_of_another = |argument| is_none_of(argument, [0, own as i32]);
    rules.extend(SCHEDULING.map(|call| (call, vec![is_of_another(0)])));
    for (call, user) in OF_A_USER {
        rules.insert(call, vec![is_of_another(1), when(0, SeccompCmpOp::Eq, user)]);
    }
    let commands = FORBIDDEN_FILE_COMMANDS.map(|command| when(1, SeccompCmpOp::Eq, command));
    rules.insert(libc::SYS_fcntl, commands.into());
    // The new limit is a pointer; without it the call reads one.
    rules.insert(libc::SYS_prlimit64, vec![when_long(2, SeccompCmpOp::Ne, 0)]);
    // It would outlive the agent.
    let prctl = [libc::PR_SET_PDEATHSIG, libc::PR_SET_CHILD_SUBREAPER];
    rules.insert(libc::SYS_prctl, prctl.map(|option| when(0, SeccompCmpOp::Eq, option as u64)).into());
    rules.insert(libc::SYS_clone, clone_conditions(allowed.executing));
    #[cfg(target_arch = "x86_64")]
    {
        let x32: Vec<_> = rules.iter().map(|(call, conditions)| (call | X32, conditions.clone())).collect();
        rules.extend(x32);
        rules.extend(X32_OWN.map(|call| (call | X32, Vec::new())));
    }
    rules
}

/// Namespaces, siblings, and without programs whatever is no thread: each process has limits of memory of its own.
fn clone_conditions(executing: bool) -> Vec<SeccompRule> {
    let flags = FORBIDDEN_CLONES.map(|flag| flag as u32 as u64);
    let forbidden = flags.map(|flag| when(0, SeccompCmpOp::MaskedEq(flag), flag)).into_iter();
    let is_process = when(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0);
    forbidden.chain((!executing).then_some(is_process)).collect()
}

/// Pairs that are not of streams within the machine. A socket of another kind is not bound to its pair: it sends to any socket.
fn pair_conditions() -> Vec<SeccompRule> {
    forbidden_kinds().chain([when(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)]).collect()
}

fn forbidden_kinds() -> impl Iterator<Item = SeccompRule> {
    FORBIDDEN_SOCKETS.into_iter().map(|kind| when(1, SeccompCmpOp::MaskedEq(SOCKET_KIND), kind as u64))
}

/// Sockets that are not of IP, or not of TCP: SCTP and MPTCP have streams as well.
fn socket_conditions() -> Vec<SeccompRule> {
    let others = [is_none_of(0, [libc::AF_INET, libc::AF_INET6]), is_none_of(2, [0, libc::IPPROTO_TCP])];
    forbidden_kinds().chain(others).collect()
}

/// A counter that is not of all processes, or is opened in another way than that its descriptor alone reads it. What it counts is in
/// memory, where no filter sees it: the kernel asks for `CAP_PERFMON` where `perf_event_paranoid` does.
fn counting_conditions() -> Vec<SeccompRule> {
    let all_processes = u64::from(u32::MAX);
    vec![when(1, SeccompCmpOp::Ne, all_processes), is_none_of(4, [0, CLOSE_COUNTER_ON_EXEC as i32])]
}

#[cfg(test)]
mod tests;
