//! `linksocks-interop-matrix`: which programs work with which, in every mode.

use std::fs;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use conformance::interop::matrix::{self, CELL_TIME, Case, Cell, Outcome, Report};
use conformance::interop::{Cast, Mode, Program};

/// The command that writes the published table.
const COMMAND: &str = "cargo run --release --bin linksocks-interop-matrix -- --output docs/interop.md";

/// Asks every combination of programs in every mode for the same few things, and prints a Markdown table
#[derive(Debug, Parser)]
#[command(name = "linksocks-interop-matrix", version)]
struct Arguments {
    /// Who takes part: ours, real (LinkSocks 1.10.1), real-1.8.13 or pywssocks, see conformance/peers/install.sh; repeat
    /// for several [default: all, and all must be installed]
    #[arg(long = "program", value_name = "PROGRAM", value_parser = program)]
    programs: Vec<Program>,
    /// Only this mode: forward, reverse, agent or autonomy; repeat for several
    #[arg(long = "mode", value_name = "MODE", value_parser = mode)]
    modes: Vec<Mode>,
    /// Only this case; repeat for several
    #[arg(long = "case", value_name = "CASE", value_parser = case)]
    cases: Vec<Case>,
    /// Combinations without ours, too, for comparison
    #[arg(long)]
    foreign: bool,
    /// How many cells run at once
    #[arg(long, default_value = "4")]
    jobs: NonZero<usize>,
    /// Show what the programs printed in cells that don't work
    #[arg(long)]
    verbose: bool,
    /// Write a document here in place of printing the table
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn program(text: &str) -> Result<Program, String> {
    Program::ALL
        .into_iter()
        .find(|program| program.name() == text)
        .ok_or_else(|| "no such program".to_owned())
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| "no such mode".to_owned())
}

fn case(text: &str) -> Result<Case, String> {
    Case::ALL.into_iter().find(|case| case.name() == text).ok_or_else(|| "no such case".to_owned())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    or_all(&mut arguments.programs, &Program::ALL);
    or_all(&mut arguments.modes, &Mode::ALL);
    or_all(&mut arguments.cases, &Case::ALL);
    if let Some(missing) = arguments.programs.iter().find(|program| !program.is_installed()) {
        eprintln!("{}", missing.installation_hint());
        return ExitCode::from(2);
    }
    let report = run(&arguments);
    let written = match &arguments.output {
        None => write!(io::stdout(), "{report}"),
        Some(path) => fs::write(path, document(&report)),
    };
    if let Err(error) = written {
        eprintln!("can't write the table: {error}");
        return ExitCode::from(2);
    }
    if report.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn or_all<T: Copy>(chosen: &mut Vec<T>, all: &[T]) {
    if chosen.is_empty() {
        chosen.extend(all);
    }
}

fn run(arguments: &Arguments) -> Report {
    let Arguments { programs, modes, cases, foreign, .. } = arguments;
    let casts: Vec<_> = modes
        .iter()
        .flat_map(|&mode| Cast::all(mode, programs))
        .filter(|cast| *foreign || cast.has(Program::OURS))
        .collect();
    let cells = Cell::all(&casts, cases);
    let most = CELL_TIME * u32::try_from(cells.len().div_ceil(arguments.jobs.get())).unwrap_or(u32::MAX);
    eprintln!("{} cells, which take at most {} min", cells.len(), most.as_secs().div_ceil(60));

    let (done, started) = (AtomicUsize::new(0), Instant::now());
    let outcomes = matrix::run(&cells, arguments.jobs.get(), |cell, outcome| {
        let number = 1 + done.fetch_add(1, Ordering::Relaxed);
        let (mark, problem) = match outcome {
            Outcome::Works => ("ok", ""),
            Outcome::Absent => ("not offered", ""),
            Outcome::Fails(problem) => ("FAILS: ", problem.as_str()),
            Outcome::PeersFault(_, problem) => ("peer's fault: ", problem.as_str()),
        };
        let problem = if arguments.verbose { problem } else { problem.lines().next().unwrap_or_default() };
        eprintln!("{number}/{} {cell}: {mark}{problem}", cells.len());
    });
    eprintln!("took {} s", started.elapsed().as_secs());
    Report::new(cells, outcomes)
}

fn document(report: &Report) -> String {
    format!(
        "# Which programs work with which

`ours` is this repository's `linksocks`, `real` is LinkSocks 1.10.1, `real-1.8.13` an older release of it, and
`pywssocks` its predecessor, version 1.5.1. Each cell is a network of fresh processes:

- TCP: 3 MiB to an echo target and back at the same time, every byte compared.
- UDP: datagrams of 1 to 4000 bytes to an echo target and back, by address and by name.
- refused: a target that refuses the connection is told to the application at once.
- server first: 10 connections to a target that speaks first.
- early data: 10 applications that send greeting, request and data in one segment.
- FastOpen: the same, and data right after success, with `--fast-open` where the applications connect.
- end: all that a target sends before it closes arrives, and then the end.

A dash is a mode of operation that a program does not offer. Written by this command, after
`conformance/peers/install.sh` with nothing, with `1.8.13` and with `pywssocks 1.5.1`:

```sh
{COMMAND}
```

{report}"
    )
}
