//! `afd`: discovers the accelerators of a node, of any vendor.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use afd_agent::{
    args::{Args, Command},
    command,
    log_filter::log_filter,
    text_table::TextStyle,
    top::is_interactive,
    visible::visible,
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Exit status after wrong usage or configuration (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "the command line is read only here")]
    let args = match Args::parse_line(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let is_error = error.use_stderr();
            // Fails only if the reader of a pipe has closed it.
            let _ = error.print();
            return if is_error { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let style = TextStyle::new(io::stdout().is_terminal(), environment("NO_COLOR").is_some());
    // Lines of a log would be written over what the terminal shows.
    if !matches!(&args.command, Command::Top(top) if !top.once && is_interactive(style)) {
        log_to_stderr();
    }
    match command::execute(args, program(), style, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if command::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "afd: {}", visible(&format!("{error:#}")));
            if command::is_usage(&error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// This program, even if its file was replaced by a newer one.
fn program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

fn log_to_stderr() {
    const DEFAULT: &str = "info";
    let setting = environment("AFD_LOG").unwrap_or_else(|| DEFAULT.to_owned());
    let selected = log_filter(&setting);
    let ansi = io::stderr().is_terminal() && environment("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(ansi);
    let default = || log_filter(DEFAULT).expect("the default is valid");
    let filter = selected.as_ref().map_or_else(|_| default(), Clone::clone);
    tracing_subscriber::registry().with(lines).with(filter).init();
    if let Err(error) = selected {
        tracing::warn!(AFD_LOG = setting, %error, "not a log level, such as debug or info,afd_publish=debug; using info");
    }
}

/// The value of an environment variable, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the environment is read only here")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
