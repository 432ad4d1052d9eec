//! The commands, one after the other.

use std::io::Write;

use afd_host::{Host, RootError};
use anyhow::Context;
use clap::CommandFactory;

use crate::{
    args::{Args, Command, ShowOutput, TopologyOutput},
    record, run,
    show::{self, Style},
    survey::Survey,
    topology,
};

/// Does what the command line says, and writes the answer for people to `output`.
///
/// # Errors
/// When the host root cannot be opened, when something cannot be written, or when the address to serve on is taken.
pub fn execute(args: Args, style: Style, output: &mut impl Write) -> anyhow::Result<()> {
    let host = || Host::open(&args.host_root);
    match args.command.clone() {
        Command::Show { output: form, labels } => {
            let mut survey = Survey::new(host()?);
            let text = match form {
                ShowOutput::Table => show::table(&survey.discover(), &args.host_root, style),
                ShowOutput::Json => show::json(&survey.discover())?,
                ShowOutput::Labels => show::labels(&survey.discover(), &labels.into()),
                ShowOutput::Metrics => show::metrics(&mut survey)?,
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Topology { output: form } => {
            let inventory = Survey::new(host()?).discover();
            let text = match form {
                TopologyOutput::Text => topology::text::draw(&inventory),
                TopologyOutput::Svg => topology::svg::draw(&inventory),
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Record { directory, no_redact } => {
            let told = record::record(host()?.recorded(), &directory, !no_redact)
                .with_context(|| format!("recording to {}", directory.display()))?;
            output.write_all(told.as_bytes())?;
        }
        Command::Run(arguments) => run::run(host()?, &arguments)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "afd", output);
        }
        Command::Man => clap_mangen::Man::new(Args::command()).render(output)?,
    }
    output.flush()?;
    Ok(())
}

/// Whether the mistake is in the command line.
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<RootError>()
}

/// Whether the reader of our output went away, as `head` does.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
