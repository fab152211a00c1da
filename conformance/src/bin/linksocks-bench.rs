//! `linksocks-bench`: measures our programs and others against each other.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use conformance::bench::{self, Peer, Plan, Row};
use conformance::interop::Program;

/// Measures SOCKS tunnels against each other, interleaved, in fresh processes, checking every byte
#[derive(Debug, Parser)]
#[command(name = "linksocks-bench", version)]
struct Arguments {
    /// Who takes part: ours, ours-async-std (its other driver), real (the published program, see
    /// conformance/peers/install.sh), direct (no tunnel), or 'NAME=SERVER COMMAND => CLIENT COMMAND' with {port}, {token}
    /// and {socks}; repeat for several [default: ours, and real if installed]
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<Peer>,
    /// The peer to which the others are compared [default: real, or else the first]
    #[arg(long, value_name = "NAME")]
    against: Option<String>,
    /// Measure only this; repeat for several
    #[arg(long = "row", value_name = "ROW")]
    rows: Vec<Row>,
    /// How often everything is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Print JSON in place of the table
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=600.0).contains(&seconds) { Ok(seconds) } else { Err("not within 0.1 and 600".to_owned()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = match plan(&arguments) {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let report = bench::run(&plan, |round, row, peer| {
        eprintln!("round {} of {}: {}, {}", round + 1, plan.rounds, row.metrics()[0].name, peer.name());
    });
    if arguments.json {
        println!("{:#}", report.to_json());
    } else {
        println!("\n{report}");
    }
    if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plan(arguments: &Arguments) -> Result<Plan, String> {
    let peers = if arguments.peers.is_empty() { default_peers()? } else { arguments.peers.clone() };
    let position = |name: &str| peers.iter().position(|peer| peer.name() == name);
    let against = match &arguments.against {
        Some(name) => position(name).ok_or_else(|| format!("no peer is named {name:?}"))?,
        None => position("real").unwrap_or(0),
    };
    let rows =
        if arguments.rows.is_empty() { Row::value_variants().to_vec() } else { arguments.rows.clone() };
    let duration = Duration::from_secs_f64(arguments.seconds);
    Ok(Plan { peers, rows, rounds: arguments.rounds, duration, against })
}

fn default_peers() -> Result<Vec<Peer>, String> {
    let parse = |name: &str| name.parse::<Peer>().map_err(|error| error.to_string());
    let mut peers = vec![parse("ours")?];
    if Program::REAL.is_installed() {
        peers.push(parse("real")?);
    } else {
        eprintln!(
            "the published LinkSocks is not installed and takes no part; see conformance/peers/install.sh"
        );
    }
    Ok(peers)
}
