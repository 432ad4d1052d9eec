//! A program on a pseudo terminal, and what its user sees.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};

use crate::agent::TIMEOUT;

/// A program on a terminal of its own; killed on drop.
pub struct TerminalProgram {
    child: Child,
    terminal: File,
    /// The other side, as long as which is open the terminal keeps its settings.
    user_side: File,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl TerminalProgram {
    /// Starts a command on a terminal of this size.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &Command, columns: u16, rows: u16) -> TerminalProgram {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are pseudo terminals");
        grantpt(&terminal).expect("it is our own");
        unlockpt(&terminal).expect("it is our own");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name");
        let path = name.to_str().expect("names of terminals are ASCII").to_owned();
        let open = || {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true);
            let flags = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).expect("it is a flag");
            std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags)
                .open(&path)
                .expect("it can be opened")
        };
        let user_side = open();
        let terminal = File::from(terminal);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&user_side, size).expect("a terminal has a size");
        let before = tcgetattr(&user_side).expect("a terminal has attributes");
        // A session of its own, whose terminal this is: changes of the size are signalled to it.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        session.env("TERM", "xterm-256color").env_remove("NO_COLOR").env("RUST_BACKTRACE", "0");
        let child = session
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()))
            .spawn()
            .expect("util-linux is part of Debian");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (shared, mut output) = (Arc::clone(&screen), terminal.try_clone().expect("it can be shared"));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = output.read(&mut bytes) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..length]);
            }
        });
        TerminalProgram { child, terminal, user_side, before, screen }
    }

    /// The lines that are visible.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Whether what is visible is the alternate screen, and whether the cursor is hidden.
    pub fn modes(&self) -> (bool, bool) {
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        (parser.screen().alternate_screen(), parser.screen().hide_cursor())
    }

    /// Whether the terminal reads lines and echoes as before the program was started.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn is_as_before(&self) -> bool {
        let now = tcgetattr(&self.user_side).expect("a terminal has attributes");
        (now.local_modes, now.input_modes, now.output_modes)
            == (self.before.local_modes, self.before.input_modes, self.before.output_modes)
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Changes the size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let mut parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        parser.screen_mut().set_size(rows, columns);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.terminal, size).expect("a terminal has a size");
    }

    /// Sends a signal to the program.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        // `setsid` has become the program: it is no leader of a group, so that it need not fork.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it is a process id"), signal).expect("it runs");
    }

    /// Waits until what is visible fulfils a condition.
    ///
    /// # Panics
    /// When it does not within [`TIMEOUT`].
    pub fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !holds(&self.screen()) {
            assert!(start.elapsed() < TIMEOUT, "timed out waiting until {what}:\n{}", self.screen());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the program has ended.
    ///
    /// # Panics
    /// When it does not within [`TIMEOUT`].
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                // What it has written last is read.
                thread::sleep(Duration::from_millis(100));
                return status;
            }
            assert!(start.elapsed() < TIMEOUT, "it does not end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for TerminalProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a program ended by itself and without an error.
pub fn is_success(status: ExitStatus) -> bool {
    status.success() && status.signal().is_none()
}
