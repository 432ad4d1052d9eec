//! What a library may try against the node, and processes and memory that it may take.

use std::{
    ffi::CString,
    fs, io,
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    process::Command,
    time::Duration,
};

/// A command of `fcntl` for which the C library has no name on every platform.
const F_SETSIG: i32 = 10;

/// Starts children that hold everything open: one in the group of the process, one in a session of its own.
pub(crate) fn fork_and_hold() {
    for leaves in [false, true] {
        // SAFETY: the child makes system calls alone.
        if unsafe { libc::fork() } == 0 {
            if leaves {
                // SAFETY: it has no memory to harm.
                unsafe { libc::setsid() };
                // SAFETY: as above. The parent ends, so that its child is an orphan.
                if unsafe { libc::fork() } != 0 {
                    // SAFETY: the process ends here.
                    unsafe { libc::_exit(0) };
                }
            }
            // SAFETY: a child that holds on.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            loop {
                std::thread::sleep(Duration::from_secs(1000));
            }
        }
    }
}

/// Takes private memory in two processes.
pub(crate) fn fork_and_allocate(mebibytes: usize) {
    // SAFETY: memory is all that the child takes.
    unsafe { libc::fork() };
    allocate(mebibytes);
}

/// Takes private memory, and touches it.
pub(crate) fn allocate(mebibytes: usize) {
    std::mem::forget(vec![1_u8; mebibytes << 20]);
    super::hang()
}

/// Takes memory that could be shared, which no limit of private memory counts.
pub(crate) fn share(mebibytes: usize) {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), mebibytes << 20, protection, flags, -1, 0) };
    if memory != libc::MAP_FAILED {
        // SAFETY: the mapping has this length.
        unsafe { memory.cast::<u8>().write_bytes(1, mebibytes << 20) };
    }
    super::hang()
}

/// Tries everything, and prints what succeeded or how it failed, a line each. `folder` has a file `secret`, a socket `socket` and
/// the port of a listener in the file `port`, and belongs to the test.
pub(crate) fn all(folder: &str) {
    let path = |name: &str| format!("{folder}/{name}");
    report("read a secret", fs::read(path("secret")).map(drop));
    report("list a folder", fs::read_dir(folder).map(drop));
    report("write a file", fs::write(path("written"), "x"));
    report("change a file", fs::OpenOptions::new().append(true).open(path("secret")).map(drop));
    report("remove a file", fs::remove_file(path("secret")));
    report("write to sysfs", fs::OpenOptions::new().write(true).open("/sys/kernel/profiling").map(drop));
    report(
        "write to procfs",
        fs::OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern").map(drop),
    );
    report("open a foreign device", fs::OpenOptions::new().write(true).open("/dev/tty").map(drop));
    report("connect to a socket", UnixStream::connect(path("socket")).map(drop));
    let port = fs::read_to_string(path("port")).ok().and_then(|port| port.trim().parse().ok()).unwrap_or(1);
    report("make a pair of datagram sockets", UnixDatagram::pair().map(drop));
    report("connect to a port", TcpStream::connect(("127.0.0.1", port)).map(drop));
    report("execute a shell", Command::new("/bin/sh").args(["-c", "true"]).status().map(drop));
    report(
        "execute the loader",
        Command::new("/lib64/ld-linux-x86-64.so.2").arg("/bin/true").status().and_then(|status| {
            if status.success() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
        }),
    );
    // SAFETY: system calls whose arguments are numbers, or pointers to strings that outlive the call.
    unsafe {
        let empty = CString::default();
        let parent = libc::getppid();
        call("trace the agent", libc::ptrace(libc::PTRACE_ATTACH, parent, 0, 0) as i64);
        call("kill the agent", i64::from(libc::kill(parent, 0)));
        call(
            "mount",
            i64::from(libc::mount(empty.as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null())),
        );
        call("make a namespace", i64::from(libc::unshare(libc::CLONE_NEWUSER)));
        call(
            "load a module",
            libc::syscall(libc::SYS_init_module, std::ptr::null::<u8>(), 0, empty.as_ptr()),
        );
        call("load a program into the kernel", libc::syscall(libc::SYS_bpf, 0, 0, 0));
        call(
            "count what a processor executes",
            libc::syscall(libc::SYS_perf_event_open, std::ptr::null::<u8>(), -1, 0, -1, 0),
        );
        call("make keys", libc::syscall(libc::SYS_keyctl, 0, -3, 0));
        call("leave the group", i64::from(libc::setsid()));
        call("outlive the agent", i64::from(libc::prctl(libc::PR_SET_PDEATHSIG, 0)));
        let more = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        call("raise a limit", i64::from(libc::setrlimit(libc::RLIMIT_DATA, &raw const more)));
        call("make a file in memory", i64::from(libc::memfd_create(c"afd".as_ptr(), 0)));
        call("make a queue", i64::from(libc::msgget(libc::IPC_PRIVATE, 0o600)));
        call("make semaphores", i64::from(libc::semget(libc::IPC_PRIVATE, 1, 0o600)));
        let secret = CString::new(path("secret")).unwrap_or_default();
        call("truncate a file", i64::from(libc::truncate(secret.as_ptr(), 0)));
        call(
            "change the times of a file",
            i64::from(libc::utimensat(libc::AT_FDCWD, secret.as_ptr(), std::ptr::null(), 0)),
        );
        call(
            "set an attribute",
            i64::from(libc::setxattr(
                secret.as_ptr(),
                c"user.afd".as_ptr(),
                empty.as_ptr().cast(),
                0,
                libc::XATTR_CREATE,
            )),
        );
        call("change the mode of what is open", i64::from(libc::fchmod(0, 0o600)));
        call("have the agent signalled", i64::from(libc::fcntl(0, libc::F_SETOWN, parent)));
        call("choose a signal", i64::from(libc::fcntl(0, F_SETSIG, libc::SIGUSR1)));
        call("slow the agent down", i64::from(libc::setpriority(libc::PRIO_PROCESS, parent as u32, 1)));
        call("make a ring", libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()));
    }
    report("read the agent's environment", fs::read(format!("/proc/{}/environ", parent())).map(drop));
    eprintln!("environment: {:?}", std::env::vars_os().map(|(name, _)| name).collect::<Vec<_>>());
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    eprintln!("oom_score_adj: {}", score.trim());
    let core = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let core = core.lines().find(|line| line.starts_with("Max core")).unwrap_or_default().to_owned();
    eprintln!("{}", core.split_whitespace().collect::<Vec<_>>().join(" "));
    // What a library needs goes on working.
    report("read sysfs", fs::read_dir("/sys/devices").map(drop));
    report("make a pair of sockets", UnixStream::pair().map(drop));
    report("read procfs", fs::read("/proc/meminfo").map(drop));
    report("open a harmless device", fs::OpenOptions::new().write(true).open("/dev/null").map(drop));
    report("start a thread", std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join())));
}

fn parent() -> i32 {
    // SAFETY: it cannot fail.
    unsafe { libc::getppid() }
}

fn call(what: &str, result: i64) {
    report(what, if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
}

fn report(what: &str, result: io::Result<()>) {
    match result {
        Ok(()) => eprintln!("{what}: succeeded"),
        Err(error) => eprintln!("{what}: {:?}", error.kind()),
    }
}
