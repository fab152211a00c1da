//! Every runtime behaves alike: each scenario runs on each of them, with real sockets.
//!
//! Trials are named `RUNTIME::SCENARIO`. Each shows two things. What was recorded of every engine
//! replays with equal outputs; and its transcript (per channel the reply, the bytes, the ends and the
//! events of each engine) equals that of the runtime that played the scenario first in this process.

mod cast;
mod relay;
mod scenarios;
mod script;
mod transcript;
mod watch;

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, TcpListener};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::cast::{Runtime, Stage};
use crate::scenarios::SCENARIOS;
use crate::transcript::Transcript;

/// One behaviour.
struct Scenario {
    name: &'static str,
    play: fn(&mut Stage) -> Result<(), Failed>,
}

/// What the first runtime has shown, by the name of the scenario.
static FIRST: Mutex<BTreeMap<&str, (Runtime, Transcript)>> = Mutex::new(BTreeMap::new());

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let no_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err();
    if no_ipv6 {
        eprintln!("this machine has no IPv6 loopback, so the trials over IPv6 are ignored");
    }
    let trials = SCENARIOS.iter().flat_map(|scenario| {
        Runtime::ALL.map(|runtime| {
            let name = format!("{}::{}", runtime.name(), scenario.name);
            let ignored = no_ipv6 && scenario.name.contains("ipv6");
            Trial::test(name, move || run(scenario, runtime)).with_ignored_flag(ignored)
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run(scenario: &'static Scenario, runtime: Runtime) -> Result<(), Failed> {
    let tokio = match runtime {
        Runtime::Tokio => Some(tokio::runtime::Builder::new_multi_thread().enable_all().build()?),
        Runtime::AsyncStd | Runtime::Smol => None,
    };
    let _entered = tokio.as_ref().map(tokio::runtime::Runtime::enter);
    let mut stage = Stage::new(runtime);
    (scenario.play)(&mut stage)?;
    let transcript = stage.finish()?;
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    let (other, expected) = first.entry(scenario.name).or_insert_with(|| (runtime, transcript.clone()));
    Ok(transcript.compare(runtime.name(), expected, other.name())?)
}
