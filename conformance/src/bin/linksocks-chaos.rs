//! `linksocks-chaos`: our programs under load while links are cut and processes are killed.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use conformance::chaos::{self, Class, Plan, Report};
use conformance::interop::{Mode, Program};

/// Lets applications talk through real processes while links are cut and processes are killed, and checks every byte
#[derive(Debug, Parser)]
#[command(
    name = "linksocks-chaos",
    version,
    after_help = "Exit status:
  0  everything held
  1  something did not: see what is printed
  2  wrong arguments, a program is missing or does not start, a file can't be written"
)]
struct Arguments {
    /// How long faults happen, in all modes together [default: 60 s]
    #[arg(long, value_name = "M", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: Option<u64>,
    /// The same in seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// What all decisions follow from [default: a random one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Who plays the server: ours, ours-async-std or real (see conformance/peers/install.sh)
    #[arg(long, default_value = "ours", value_name = "PROGRAM", value_parser = program)]
    server: Program,
    /// Who plays clients, connectors and providers
    #[arg(long, default_value = "ours", value_name = "PROGRAM", value_parser = program)]
    client: Program,
    /// The modes, one after the other: forward, reverse, agent
    #[arg(long, default_value = "forward", value_delimiter = ',', value_name = "MODES", value_parser = mode)]
    modes: Vec<Mode>,
    /// What may happen [default: everything]
    #[arg(long, value_delimiter = ',', value_enum, value_name = "CLASSES")]
    faults: Option<Vec<Class>>,
    /// Streams at a time
    #[arg(long, default_value = "40", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    streams: u16,
    /// How long our programs keep what a lost link has carried, in seconds
    #[arg(long, default_value = "10", value_name = "S", value_parser = clap::value_parser!(u64).range(3..=300))]
    grace: u64,
    /// How long a stream may stand still without a fault, in seconds
    #[arg(long, default_value = "15", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    patience: u64,
    /// Memory that a process may use above idle when everything is over
    #[arg(long, default_value = "48", value_name = "MIB")]
    idle_margin: u64,
    /// Memory that a process may use above idle at any time
    #[arg(long, default_value = "256", value_name = "MIB")]
    peak_margin: u64,
    /// Draw memory and descriptors over time
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the numbers as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn program(text: &str) -> Result<Program, String> {
    [Program::OURS, Program::OURS_ASYNC_STD, Program::REAL]
        .into_iter()
        .find(|program| program.name() == text)
        .ok_or_else(|| "expected ours, ours-async-std or real".to_owned())
}

fn mode(text: &str) -> Result<Mode, String> {
    [Mode::Forward, Mode::Reverse, Mode::Agent]
        .into_iter()
        .find(|mode| mode.name() == text)
        .ok_or_else(|| "expected forward, reverse or agent".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = plan(&arguments);
    if let Some(missing) = [plan.server, plan.client].into_iter().find(|program| !program.is_installed()) {
        eprintln!("{}", missing.installation_hint());
        return ExitCode::from(2);
    }
    eprintln!("seed {}", plan.seed);
    let report = match chaos::run(&plan, &|line| eprintln!("{line}")) {
        Ok(report) => report,
        Err(problem) => {
            eprintln!("seed {}: {problem}", plan.seed);
            return ExitCode::from(2);
        }
    };
    println!("\n{report}");
    if let Err(error) = write(&arguments, &report) {
        eprintln!("can't write: {error}");
        return ExitCode::from(2);
    }
    if report.failures() == 0 {
        ExitCode::SUCCESS
    } else {
        eprintln!("{}", report.evidence());
        ExitCode::FAILURE
    }
}

fn plan(arguments: &Arguments) -> Plan {
    const MIB: u64 = 1 << 20;
    /// What is a long run, which is looked at less often.
    const LONG: Duration = Duration::from_secs(300);
    let minutes = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let seconds = arguments.seconds.map(Duration::from_secs);
    let duration = minutes.or(seconds).unwrap_or(Duration::from_secs(60));
    Plan {
        server: arguments.server,
        client: arguments.client,
        modes: arguments.modes.clone(),
        faults: arguments.faults.clone().unwrap_or_else(|| Class::value_variants().to_vec()),
        duration,
        seed: arguments.seed.unwrap_or_else(|| RandomState::new().hash_one(()) >> 32),
        streams: arguments.streams.into(),
        grace: Duration::from_secs(arguments.grace),
        patience: Duration::from_secs(arguments.patience),
        interval: Duration::from_millis(if duration >= LONG { 500 } else { 250 }),
        idle_margin: arguments.idle_margin * MIB,
        peak_margin: arguments.peak_margin * MIB,
    }
}

fn write(arguments: &Arguments, report: &Report) -> std::io::Result<()> {
    if let Some(path) = &arguments.svg {
        fs::write(path, report.to_svg())?;
    }
    if let Some(path) = &arguments.json {
        fs::write(path, format!("{:#}\n", report.to_json()))?;
    }
    Ok(())
}
