use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    process::Command,
    thread,
};

use super::*;
use crate::child::run_registered;

#[test]
fn the_filters_can_be_installed() {
    for allowed in all_allowed() {
        let rules = rules(allowed);
        let length = program(rules, libc::EPERM).expect("it compiles").len();
        assert!(length < 4096, "the limit of the kernel");
    }
}

/// What the kernel would do with a call by a filter: the instructions that filters of seccompiler have.
fn carried_out(program: &BpfProgram, call: i64, arguments: [u64; 6]) -> u32 {
    // `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64`.
    let architecture: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let mut data = (call as u32).to_ne_bytes().to_vec();
    data.extend(architecture.to_ne_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
    let (mut at, mut value) = (0, 0);
    loop {
        let instruction = &program[at];
        let k = instruction.k;
        let jump = |is_met: bool| usize::from(if is_met { instruction.jt } else { instruction.jf });
        at += 1;
        match u32::from(instruction.code) {
            0x20 => value = u32::from_ne_bytes(*data[k as usize..].first_chunk().expect("it is within")),
            0x54 => value &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(value == k),
            0x25 => at += jump(value > k),
            0x35 => at += jump(value >= k),
            0x06 => return k,
            other => panic!("an instruction that is not expected: {other:#x}"),
        }
    }
}

/// Installs the filters for this thread. Where the kernel has none, the test ends early and says so on the standard error of the
/// program: what a macro prints of a test that passes is dropped.
fn is_filtered(allowed: AllowedCalls) -> bool {
    let applied = filter(allowed).expect("the filters can be installed");
    if applied != "seccomp" {
        let _ = writeln!(io::stderr(), "a part of a test did not run: {applied}");
    }
    applied == "seccomp"
}

/// Whether a call is forbidden; it is allowed otherwise.
fn is_forbidden(allowed: AllowedCalls, call: i64, arguments: [u64; 6]) -> bool {
    let program = program(rules(allowed), libc::EPERM).expect("it compiles");
    let action = carried_out(&program, call, arguments);
    assert!([0x7fff_0000, 0x0005_0000 | libc::EPERM as u32].contains(&action), "{action:#x}");
    action != 0x7fff_0000
}

/// What processes may do: nothing of their own, each thing, and all.
fn all_allowed() -> Vec<AllowedCalls> {
    let none = AllowedCalls::default();
    vec![
        none,
        AllowedCalls { connecting: true, ..none },
        AllowedCalls { counting: true, ..none },
        AllowedCalls { executing: true, ..none },
        AllowedCalls { sharing: true, ..none },
        AllowedCalls { connecting: true, counting: true, executing: true, sharing: true },
    ]
}

#[test]
fn memory_that_no_limit_bounds_is_forbidden() {
    let calls = [
        libc::SYS_shmget,
        libc::SYS_semget,
        libc::SYS_msgget,
        libc::SYS_mq_open,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
    ];
    for allowed in all_allowed() {
        for call in calls {
            assert!(is_forbidden(allowed, call, [0; 6]), "{call} {allowed:?}");
        }
    }
}

#[test]
fn what_is_written_of_a_file_beside_its_content_is_set_by_programs_and_for_shared_files_alone() {
    let mut always = vec![
        libc::SYS_fchown,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        463,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        466,
        469,
        libc::SYS_utimensat,
        libc::SYS_truncate,
    ];
    let mut without_programs = vec![libc::SYS_fchmodat, 452, libc::SYS_fchownat];
    // The older forms that this platform alone has: `utime`, `utimes`, `futimesat`, and `chmod`, `chown`, `lchown`.
    if cfg!(target_arch = "x86_64") {
        always.extend([132, 235, 261]);
        without_programs.extend([90, 92, 94]);
    }
    for allowed in all_allowed() {
        let is_forbidden = |call| is_forbidden(allowed, call, [0; 6]);
        assert!(always.iter().all(|call| is_forbidden(*call)), "{allowed:?}");
        let are_forbidden = without_programs.iter().all(|call| is_forbidden(*call));
        assert_eq!(are_forbidden, !allowed.executing, "{allowed:?}");
        assert_eq!(without_programs.iter().any(|call| is_forbidden(*call)), !allowed.executing);
        assert_eq!(is_forbidden(libc::SYS_fchmod), !allowed.sharing, "{allowed:?}");
        // The length of what is open for writing.
        assert!(!is_forbidden(libc::SYS_ftruncate));
    }
}

#[test]
fn ioctls_of_devices_are_allowed_and_those_of_files_are_not() {
    let is_forbidden =
        |request| is_forbidden(AllowedCalls::default(), libc::SYS_ioctl, [3, request, 0, 0, 0, 0]);
    assert!(is_forbidden(0x4008_6602), "FS_IOC_SETFLAGS");
    assert!(is_forbidden(0x401c_5820), "FS_IOC_FSSETXATTR");
    assert!(is_forbidden(0x8901) && is_forbidden(0x8902), "who is signalled for a socket");
    // Of drivers, whose types are `d`, `F` and `K`; and `FIONREAD`.
    for request in [0xc040_6400, 0xca00_46c8, 0x8008_4b01, libc::FIONREAD] {
        assert!(!is_forbidden(request), "{request:#x}");
    }
}

#[test]
fn a_process_schedules_and_has_signalled_itself_alone() {
    let own = u64::from(std::process::id());
    let is_forbidden = |call, arguments: [u64; 2]| {
        let [first, second] = arguments;
        is_forbidden(AllowedCalls::default(), call, [first, second, 0, 0, 0, 0])
    };
    for call in [libc::SYS_sched_setscheduler, libc::SYS_sched_setattr, libc::SYS_sched_setparam] {
        assert!(!is_forbidden(call, [0, 0]) && !is_forbidden(call, [own, 0]), "{call}");
        assert!(is_forbidden(call, [own + 1, 0]) && is_forbidden(call, [1, 0]), "{call}");
    }
    // Kinds of a target: a process, a group, all of a user.
    for (call, [process, group, user]) in
        [(libc::SYS_setpriority, [0, 1, 2]), (libc::SYS_ioprio_set, [1, 2, 3])]
    {
        for kind in [process, group] {
            assert!(!is_forbidden(call, [kind, 0]) && !is_forbidden(call, [kind, own]), "{call} {kind}");
            assert!(is_forbidden(call, [kind, 1]), "{call} {kind}");
        }
        assert!(is_forbidden(call, [user, 0]), "{call}");
    }
    for command in [libc::F_SETOWN, 15, 10] {
        assert!(is_forbidden(libc::SYS_fcntl, [3, command as u64]), "{command}");
    }
    for command in [libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC, libc::F_SETLK, libc::F_GETOWN] {
        assert!(!is_forbidden(libc::SYS_fcntl, [3, command as u64]), "{command}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn no_call_gets_past_the_filter_by_the_numbers_of_the_x32_abi() {
    let ioctl = 514 | X32;
    for call in [libc::SYS_bind | X32, libc::SYS_setxattr | X32, ioctl, 521 | X32, 540 | X32] {
        assert!(all_allowed().into_iter().all(|allowed| is_forbidden(allowed, call, [0; 6])), "{call:#x}");
    }
}

#[test]
fn counters_are_opened_by_whom_the_record_allows_it_and_never_of_a_process() {
    let is_forbidden = |counting, pid: i32, flags: u64| {
        let arguments = [0x7000, pid as u32 as u64, 0, u64::MAX, flags, 0];
        let allowed = AllowedCalls { counting, ..AllowedCalls::default() };
        is_forbidden(allowed, libc::SYS_perf_event_open, arguments)
    };
    // As Level Zero opens them, and as this program does.
    for flags in [0, CLOSE_COUNTER_ON_EXEC] {
        assert!(!is_forbidden(true, -1, flags));
        assert!(is_forbidden(false, -1, flags), "the record does not name it");
        assert!(is_forbidden(true, 0, flags), "its own process");
        assert!(is_forbidden(true, 1, flags), "another one");
    }
    // Those of the output to another counter and of a control group, and one that the kernel does not have.
    for flags in [1 << 1, 1 << 2, 1 << 4] {
        assert!(is_forbidden(true, -1, flags), "{flags}");
    }
}

/// A filter is of the thread that installs it.
#[test]
fn a_process_that_may_connect_makes_sockets_of_tcp_alone() {
    use rustix::{
        io::Errno,
        net::{AddressFamily, Protocol, RawProtocol, SendFlags, SocketType, ipproto, send, socket},
    };
    let thread = thread::spawn(|| {
        if !is_filtered(AllowedCalls { connecting: true, ..AllowedCalls::default() }) {
            return;
        }
        let tcp = |kind, protocol| socket(AddressFamily::INET, kind, protocol);
        let stream = tcp(SocketType::STREAM, Some(ipproto::TCP)).expect("TCP is allowed");
        tcp(SocketType::STREAM, None).expect("it is TCP by default");
        let raw = |number| RawProtocol::new(number).map(Protocol::from_raw);
        for (kind, protocol) in [
            (SocketType::STREAM, raw(libc::IPPROTO_MPTCP as u32)),
            (SocketType::STREAM, raw(libc::IPPROTO_SCTP as u32)),
            (SocketType::DGRAM, None),
            (SocketType::from_raw(6), raw(33)),
        ] {
            assert_eq!(tcp(kind, protocol).err(), Some(Errno::PERM), "{kind:?} {protocol:?}");
        }
        assert_eq!(socket(AddressFamily::UNIX, SocketType::STREAM, None).err(), Some(Errno::PERM));
        let fast_open = SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32);
        assert_eq!(send(&stream, b"x", fast_open), Err(Errno::PERM));
        assert_eq!(send(&stream, b"x", SendFlags::NOSIGNAL), Err(Errno::PIPE), "it is not connected");
    });
    thread.join().expect("the thread ends");
}

/// A filter is of the thread that installs it.
#[test]
fn a_pair_of_sockets_is_a_stream_and_reaches_no_other_socket() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("socket");
    let other = UnixDatagram::bind(&path).expect("a socket can be bound");
    other.set_nonblocking(true).expect("it can be set");
    let thread = thread::spawn(move || {
        let unfiltered = UnixDatagram::pair().expect("without the filter there are such pairs");
        unfiltered.0.send_to(b"x", &path).expect("it reaches the other socket");
        if !is_filtered(AllowedCalls::default()) {
            return;
        }
        // As tokio makes for signals.
        let (mut one, mut two) = UnixStream::pair().expect("a stream is allowed");
        one.write_all(b"x").expect("it is connected");
        two.read_exact(&mut [0]).expect("it is connected");
        let error = UnixDatagram::pair().expect_err("it is forbidden");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    });
    thread.join().expect("the thread ends");
    other.recv(&mut [0]).expect("it was reached once");
    assert!(other.recv(&mut [0]).is_err(), "and not again");
    for allowed in all_allowed() {
        let pair = |domain: i32, kind: i32| {
            is_forbidden(allowed, libc::SYS_socketpair, [domain as u64, kind as u64, 0, 0, 0, 0])
        };
        assert!(!pair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK));
        for kind in FORBIDDEN_SOCKETS {
            assert!(pair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC), "{kind} {allowed:?}");
        }
        assert!(pair(libc::AF_TIPC, libc::SOCK_STREAM), "a protocol whose module the kernel would load");
    }
}

/// A filter is of the thread that installs it.
#[test]
fn a_process_without_programs_starts_threads_alone() {
    for executing in [false, true] {
        let thread = thread::spawn(move || {
            if !is_filtered(AllowedCalls { executing, ..AllowedCalls::default() }) {
                return;
            }
            thread::spawn(|| ()).join().expect("threads are allowed");
            match run_registered(&mut Command::new("/bin/true")) {
                Ok(status) => assert!(executing && status.success(), "{status}"),
                Err(error) => {
                    assert_eq!((executing, error.kind()), (false, io::ErrorKind::PermissionDenied));
                }
            }
        });
        thread.join().expect("the thread ends");
    }
    for allowed in all_allowed() {
        let clone =
            |flags: i32| !is_forbidden(allowed, libc::SYS_clone, [flags as u32 as u64, 0, 0, 0, 0, 0]);
        let thread = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        assert!(clone(thread), "{allowed:?}");
        assert!(!clone(thread | libc::CLONE_NEWUSER) && !clone(libc::CLONE_PARENT | libc::SIGCHLD));
        // As fork, and as vfork and posix_spawn.
        for process in [libc::SIGCHLD, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD] {
            assert_eq!(clone(process), allowed.executing, "{allowed:?}");
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_fork, libc::SYS_vfork] {
            assert_eq!(is_forbidden(allowed, call, [0; 6]), !allowed.executing, "{allowed:?}");
        }
    }
}

#[test]
fn what_was_applied_is_said_of_each_filter() {
    let refuse = |errno: i32| seccompiler::Error::Seccomp(io::Error::from_raw_os_error(errno));
    for (refused, expected) in [
        ([false, false], "seccomp"),
        ([false, true], "seccomp except for clone3"),
        ([true, false], "seccomp for clone3 only"),
        ([true, true], "no seccomp"),
    ] {
        let mut filters = refused.into_iter();
        let applied = install(AllowedCalls::default(), |_| match filters.next() {
            Some(true) => Err(refuse(libc::EINVAL)),
            Some(false) => Ok(()),
            None => panic!("there are two filters"),
        });
        assert_eq!(applied.expect("a refusal is no error"), expected);
        assert_eq!(filters.next(), None, "both were tried");
    }
    assert!(
        install(AllowedCalls::default(), |_| Err(refuse(libc::EFAULT))).is_err(),
        "any other failure is an error"
    );
}
