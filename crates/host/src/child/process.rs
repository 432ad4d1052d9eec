//! A running child process, and the thread that reads what it writes.

use std::{
    ffi::OsString,
    io::{PipeReader, Read, Write, pipe},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use procfs::process::Process;
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    ChildNote, ChildRegistry, Launcher,
    inbox::{DroppedMessages, Inbox, InboxEnd, LineEffect},
    killed::KilledProcess,
    lines::{LineBuffer, MAX_LINE_BYTES},
    protocol::ChildRequest,
    registry::children,
};

/// The processes that one may have started, with itself. No library needs more than one other.
const MAX_PROCESSES: usize = 64;
/// How much is read at once.
const READ_BYTES: usize = 16 << 10;
/// The longest line of standard error that is kept for the log.
const MAX_ERROR_LINE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct ChildProcess {
    process: std::process::Child,
    inbox: Arc<Inbox>,
    pub(super) started_at: Instant,
    pub(super) pending: Option<PendingRequest>,
}

/// A request that has no response yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingRequest {
    pub(super) request: &'static str,
    pub(super) sent_at: Instant,
    pub(super) deadline: Duration,
}

impl PendingRequest {
    /// The time until its deadline; zero once it is over.
    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_sub(self.sent_at.elapsed())
    }
}

impl ChildProcess {
    /// Starts it as the leader of a process group, with no environment but the launcher's.
    pub(super) fn start(launcher: &Launcher, arguments: &[OsString]) -> std::io::Result<ChildProcess> {
        let (output, output_end) = pipe()?;
        let (errors, errors_end) = pipe()?;
        let mut command = Command::new(&launcher.program);
        command
            .args(arguments)
            .env_clear()
            .envs(launcher.environment.iter().copied())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output_end)
            .stderr(errors_end);
        let process = launcher.registry.start(&mut command)?;
        // It has the ends of the pipes for writing, which would keep them open.
        drop(command);
        // A library that answers without reading its input would block the agent once the pipe is full.
        if let Some(input) = &process.stdin {
            let _ = rustix::io::ioctl_fionbio(input, true);
        }
        let inbox = Arc::new(Inbox::default());
        let receiver = Receiver { inbox: Arc::clone(&inbox), launcher: launcher.clone() };
        thread::spawn(move || receiver.run(output, errors));
        Ok(ChildProcess { process, inbox, started_at: Instant::now(), pending: None })
    }

    /// Sends a request, which becomes the pending one.
    ///
    /// # Errors
    /// When the pipe is closed, because the process has ended, or full, because it reads no requests.
    pub(super) fn send(&mut self, request: &'static str, deadline: Duration) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&ChildRequest { request: request.to_owned() })?;
        line.push(b'\n');
        self.inbox.requests(request);
        self.process.stdin.as_mut().expect("stdin is piped").write_all(&line)?;
        self.pending = Some(PendingRequest { request, sent_at: Instant::now(), deadline });
        Ok(())
    }

    /// What it has sent.
    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Whether no more messages come.
    pub(super) fn has_ended(&self) -> bool {
        self.inbox.ended().is_some()
    }

    /// Why it has to be killed, if the memory that it and all that it started have resident exceeds a limit. What they share counts
    /// for each of them. Not more processes than [`MAX_PROCESSES`] are looked at: a library could fork them faster.
    pub(super) fn excess(&self, registry: &ChildRegistry, max_resident_bytes: u64) -> Option<String> {
        let leader = self.process.id();
        let (mut sum, mut number, mut unread) = (0, 0, registry.orphans_of(leader, MAX_PROCESSES));
        unread.push(leader);
        while let Some(pid) = unread.pop() {
            number += 1;
            if number > MAX_PROCESSES {
                return Some(format!("it started more than {MAX_PROCESSES} processes"));
            }
            // One that has ended meanwhile has none.
            let Ok(process) = Process::new(pid as i32) else { continue };
            sum += resident_bytes(&process).unwrap_or(0);
            if sum > max_resident_bytes {
                return Some(format!("it grew to {} MiB", sum >> 20));
            }
            unread.extend(children(&process));
        }
        None
    }

    /// Kills the process, whatever its pipes say. Returns why no more messages came, what was dropped, and the process.
    pub(super) fn end(self, launcher: &Launcher) -> (Option<InboxEnd>, DroppedMessages, KilledProcess) {
        let end = self.inbox.ended();
        let closed_output = end == Some(InboxEnd::Closed);
        let killed = KilledProcess::new(self.process, launcher.registry.clone(), closed_output);
        (end, self.inbox.dropped(), killed)
    }
}

fn resident_bytes(process: &Process) -> Option<u64> {
    Some(process.statm().ok()?.resident * procfs::page_size())
}

/// Reads what a process writes to standard output and standard error, until both are closed or it is given up.
struct Receiver {
    inbox: Arc<Inbox>,
    launcher: Launcher,
}

impl Receiver {
    fn run(self, output: PipeReader, errors: PipeReader) {
        let end = self.receive(output, errors);
        self.inbox.end(end);
        (self.launcher.wake)();
    }

    fn receive(&self, output: PipeReader, errors: PipeReader) -> InboxEnd {
        let mut buffer = [0; READ_BYTES];
        let (mut lines, mut error_lines) = (LineBuffer::default(), LineBuffer::default());
        let (mut output, mut errors) = (Some(output), Some(errors));
        while output.is_some() || errors.is_some() {
            if self.inbox.is_given_up() {
                break;
            }
            let [can_read, can_read_errors] = readable([output.as_ref(), errors.as_ref()]);
            if can_read {
                match read(&mut output, &mut buffer) {
                    0 => self.close_output(),
                    length => {
                        let put = |line: &[u8]| self.have_effect(self.inbox.put_line(line));
                        if lines.push(&buffer[..length], MAX_LINE_BYTES, put).is_err() {
                            let mebibytes = MAX_LINE_BYTES >> 20;
                            return InboxEnd::GivenUp(format!(
                                "it wrote a line of more than {mebibytes} MiB"
                            ));
                        }
                    }
                }
            }
            if can_read_errors {
                let length = read(&mut errors, &mut buffer);
                let put = |line: &[u8]| self.have_effect(self.inbox.put_log_line(line));
                if error_lines.push(&buffer[..length], MAX_ERROR_LINE_BYTES, put).is_err() {
                    self.inbox.drop_log_bytes(error_lines.take().len() + length);
                }
            }
        }
        InboxEnd::Closed
    }

    /// The owner does not wait for standard error to be closed as well.
    fn close_output(&self) {
        self.inbox.end(InboxEnd::Closed);
        (self.launcher.wake)();
    }

    fn have_effect(&self, effect: LineEffect) {
        match effect {
            LineEffect::None => {}
            LineEffect::Wake => (self.launcher.wake)(),
            LineEffect::WakeForEvent => (self.launcher.wake_for_event)(),
            LineEffect::Log(line) => (self.launcher.log)(ChildNote::Printed(&line)),
            LineEffect::Confined(what) => (self.launcher.log)(ChildNote::Confined(&what)),
        }
    }
}

/// Waits until one of the pipes can be read; which of them can.
fn readable(pipes: [Option<&PipeReader>; 2]) -> [bool; 2] {
    let mut open: Vec<PollFd<'_>> =
        pipes.iter().flatten().map(|pipe| PollFd::new(*pipe, PollFlags::IN)).collect();
    // It fails only where a signal interrupts it.
    let _ = poll(&mut open, None);
    let mut ready = open.iter().map(|pipe| !pipe.revents().is_empty());
    pipes.map(|pipe| pipe.is_some() && ready.next().unwrap_or(false))
}

/// Reads from a pipe; at its end it is closed, and nothing was read.
fn read(pipe: &mut Option<PipeReader>, buffer: &mut [u8]) -> usize {
    let length = pipe.as_mut().and_then(|pipe| pipe.read(buffer).ok()).unwrap_or(0);
    if length == 0 {
        *pipe = None;
    }
    length
}
