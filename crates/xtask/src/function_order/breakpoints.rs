//! Which functions a process calls, by a breakpoint at the entry of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use object::{Object, ObjectSymbol, SymbolKind};

/// `int3`.
const BREAKPOINT: u8 = 0xcc;
/// How often the process is polled while it runs.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A process that is traced.
struct Traced {
    memory: File,
    /// By address: the byte in whose place a breakpoint is, and the names of the function.
    entries: BTreeMap<u64, (u8, Vec<String>)>,
    called: BTreeSet<String>,
}

/// The names of the functions that a process calls within a time. It is killed after that.
pub(super) fn called_functions(
    process: u32,
    program: &Path,
    time: Duration,
) -> anyhow::Result<BTreeSet<String>> {
    attach(process)?;
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem"));
    let memory = memory.context("opening the memory of the agent")?;
    let entries = functions(program, base(process, program)?)?;
    let mut traced = Traced { memory, entries: BTreeMap::new(), called: BTreeSet::new() };
    for (address, names) in entries {
        let mut byte = [0];
        traced.memory.read_exact_at(&mut byte, address).context("reading the code of the agent")?;
        traced.memory.write_all_at(&[BREAKPOINT], address).context("setting a breakpoint")?;
        traced.entries.insert(address, (byte[0], names));
    }
    for thread in threads(process)? {
        ptrace::cont(thread, None).context("continuing the agent")?;
    }
    let begun = Instant::now();
    while begun.elapsed() < time {
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))
            .context("waiting for the agent")?
        {
            WaitStatus::StillAlive => thread::sleep(POLL_INTERVAL),
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid.as_raw() as u32 == process => {
                bail!("the agent ended while it was observed")
            }
            WaitStatus::Stopped(thread, signal) => traced.stopped(thread, signal)?,
            WaitStatus::PtraceEvent(thread, ..) => ptrace::cont(thread, None)?,
            _ => {}
        }
    }
    end(process)?;
    Ok(traced.called)
}

/// Kills the process, and waits for each of its threads as only their tracer can.
fn end(process: u32) -> anyhow::Result<()> {
    let process = Pid::from_raw(process.try_into()?);
    kill(process, Signal::SIGKILL).context("ending the agent")?;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::__WALL)) {
        if matches!(status, WaitStatus::Signaled(ended, ..) if ended == process) {
            break;
        }
    }
    Ok(())
}

impl Traced {
    fn stopped(&mut self, thread: Pid, signal: Signal) -> anyhow::Result<()> {
        let signal = match signal {
            Signal::SIGTRAP if self.is_at_breakpoint(thread)? => None,
            // A thread that has just been started.
            Signal::SIGSTOP => None,
            signal => Some(signal),
        };
        Ok(ptrace::cont(thread, signal)?)
    }

    /// Notes the function at whose entry a thread is, and restores its code.
    fn is_at_breakpoint(&mut self, thread: Pid) -> anyhow::Result<bool> {
        let mut registers = ptrace::getregs(thread).context("reading registers")?;
        let address = registers.rip - 1;
        let Some((byte, names)) = self.entries.get_mut(&address) else { return Ok(false) };
        self.called.extend(names.drain(..));
        self.memory.write_all_at(&[*byte], address).context("removing a breakpoint")?;
        registers.rip = address;
        ptrace::setregs(thread, registers).context("writing registers")?;
        Ok(true)
    }
}

/// Stops all threads, and all that they will start. One that is not stopped yet may start others meanwhile. At rest the agent starts no
/// process, which would have the breakpoints as well.
fn attach(process: u32) -> anyhow::Result<()> {
    let mut attached = BTreeSet::new();
    loop {
        let new: Vec<Pid> =
            threads(process)?.into_iter().filter(|thread| !attached.contains(thread)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            ptrace::attach(thread).context("tracing the agent")?;
            waitpid(thread, Some(WaitPidFlag::__WALL)).context("waiting for the agent")?;
            ptrace::setoptions(thread, ptrace::Options::PTRACE_O_TRACECLONE)?;
            attached.insert(thread);
        }
    }
}

fn threads(process: u32) -> anyhow::Result<Vec<Pid>> {
    let tasks = format!("/proc/{process}/task");
    let mut threads = Vec::new();
    for task in fs::read_dir(&tasks).with_context(|| format!("listing {tasks}"))? {
        threads.push(Pid::from_raw(task?.file_name().to_string_lossy().parse()?));
    }
    Ok(threads)
}

/// Where the program is in the memory of the process.
fn base(process: u32, program: &Path) -> anyhow::Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).context("reading the mappings")?;
    let program = program.to_str().context("the path of the program is text")?;
    let first = maps.lines().find(|line| line.ends_with(program)).context("the program is mapped")?;
    let start = first.split('-').next().unwrap_or_default();
    u64::from_str_radix(start, 16).context("reading an address")
}

/// The functions of a program with their names, by their addresses.
fn functions(program: &Path, base: u64) -> anyhow::Result<BTreeMap<u64, Vec<String>>> {
    let data = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let file = object::File::parse(&*data).context("reading the program")?;
    let mut functions: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        functions.entry(base + symbol.address()).or_default().push(symbol.name()?.to_owned());
    }
    if functions.is_empty() {
        bail!("{} has no symbols", program.display());
    }
    Ok(functions)
}
