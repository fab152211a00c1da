//! Trials in every mode, each with every cast of our program and the published one, and with some that have our other
//! driver.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use conformance::interop::matrix::{Case, Cell, Fault, Outcome};
use conformance::interop::{Cast, Layout, Mode, Network, Program};
use libtest_mimic::{Failed, Trial};

use crate::{TestResult, failover, fairness, on_this_machine, release, server_first};

/// One behaviour of networks, and which casts promise it.
struct NetworkCase {
    name: &'static str,
    promise: fn(Cast) -> bool,
    layout: Layout,
    /// Whether it measures how fast something is.
    measures: bool,
    run: fn(&mut Network) -> TestResult,
}

const OURS: Program = Program::OURS;
const OTHER: Program = Program::OURS_ASYNC_STD;
const REAL: Program = Program::REAL;

/// Our other driver in each part that links to others, with the published program and with ours at the other end. All
/// casts of three programs would take too long.
const OTHER_DRIVER: [Cast; 10] = [
    Cast::Reverse { server: OTHER, provider: REAL },
    Cast::Reverse { server: OTHER, provider: OURS },
    Cast::Reverse { server: REAL, provider: OTHER },
    Cast::Reverse { server: OURS, provider: OTHER },
    Cast::Agent { server: OTHER, provider: REAL, connector: OURS },
    Cast::Agent { server: REAL, provider: OTHER, connector: OTHER },
    Cast::Agent { server: OURS, provider: OTHER, connector: OTHER },
    Cast::Autonomy { server: OTHER, provider: REAL, connector: OURS },
    Cast::Autonomy { server: REAL, provider: OTHER, connector: OTHER },
    Cast::Autonomy { server: OURS, provider: OTHER, connector: OTHER },
];

const CASES: &[NetworkCase] = &[
    NetworkCase {
        name: "a_hundred_targets_speak_first",
        promise: speaks_first,
        layout: Layout::DEFAULT,
        measures: false,
        run: server_first::a_hundred_targets_speak_first,
    },
    NetworkCase {
        name: "lost_providers_are_passed_over",
        promise: shares_providers,
        layout: Layout { providers: 3, ..Layout::DEFAULT },
        measures: false,
        run: failover::lost_providers_are_passed_over,
    },
    NetworkCase {
        name: "an_application_that_never_reads_stalls_nobody_else",
        promise: shares_server,
        layout: Layout { clients: 3, ..Layout::DEFAULT },
        measures: true,
        run: fairness::an_application_that_never_reads_stalls_nobody_else,
    },
    NetworkCase {
        name: "a_connector_that_never_reads_stalls_nobody_else",
        promise: shares_server,
        layout: Layout { clients: 3, ..Layout::DEFAULT },
        measures: true,
        run: fairness::a_connector_that_never_reads_stalls_nobody_else,
    },
    NetworkCase {
        name: "targets_of_a_killed_connector_are_released",
        promise: |cast| has_connectors(cast) && our_server(cast),
        // With a session, the server could not know that nobody comes back.
        layout: Layout { without_sessions: true, ..Layout::DEFAULT },
        measures: false,
        run: release::targets_of_a_killed_connector_are_released,
    },
];

fn our_server(cast: Cast) -> bool {
    cast.server().is_ours()
}

fn has_connectors(cast: Cast) -> bool {
    matches!(cast.mode(), Mode::Agent | Mode::Autonomy)
}

/// All providers serve the same applications, by way of our programs.
fn shares_providers(cast: Cast) -> bool {
    matches!(cast.mode(), Mode::Reverse | Mode::Agent)
        && our_server(cast)
        && cast.entry().is_ours()
        && is_worth_a_while(cast)
}

/// Connectors share our server.
fn shares_server(cast: Cast) -> bool {
    cast.mode() == Mode::Agent && our_server(cast) && is_worth_a_while(cast)
}

/// Whether a case that takes long is tried: of our other driver, its server with every other program is enough.
fn is_worth_a_while(cast: Cast) -> bool {
    !cast.has(OTHER) || cast.server() == OTHER && cast.client().is_some()
}

fn speaks_first(cast: Cast) -> bool {
    cast.provider().is_some() && Fault::of(Cell { cast, case: Case::ServerFirst }).is_none()
}

/// All trials here. With `control`, also those of the published program alone; `ignore_real` ignores all that need it.
pub(crate) fn trials(control: bool, ignore_real: bool) -> Vec<Trial> {
    let casts: Vec<_> = Mode::ALL
        .into_iter()
        .flat_map(|mode| Cast::all(mode, &[OURS, REAL]))
        .filter(|cast| control || cast.has(OURS))
        .chain(OTHER_DRIVER)
        .collect();
    let ignored = |cast: Cast| ignore_real && cast.has(REAL);
    let cells = Cell::all(&casts, &Case::ALL).into_iter().map(|cell| {
        Trial::test(cell.to_string(), move || on_this_machine(false, || ask(cell)))
            .with_ignored_flag(ignored(cell.cast))
    });
    let networks = CASES.iter().flat_map(|case| {
        casts.iter().copied().filter(move |&cast| (case.promise)(cast)).map(move |cast| {
            let name = format!("{}::{}::{}", cast.mode().name(), cast.name(), case.name);
            Trial::test(name, move || on_this_machine(case.measures, || run(case, cast)))
                .with_ignored_flag(ignored(cast))
        })
    });
    cells.chain(networks).collect()
}

/// A cell of the matrix. What a foreign program makes impossible is said, and does not fail.
fn ask(cell: Cell) -> TestResult {
    match cell.run() {
        Outcome::Works | Outcome::Absent => Ok(()),
        Outcome::Fails(problem) => Err(Failed::from(problem)),
        Outcome::PeersFault(fault, problem) => {
            let problem = problem.lines().next().unwrap_or_default();
            eprintln!("{cell}: the peer's fault ({}): {problem}", fault.reason);
            Ok(())
        }
    }
}

/// Runs a case in a network of its own; when it fails, shows what the programs printed.
fn run(case: &NetworkCase, cast: Cast) -> TestResult {
    let mut network = Network::start(cast, case.layout)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&mut network)));
    if !matches!(outcome, Ok(Ok(()))) {
        eprintln!("{} failed with {cast:?}\n{}", case.name, network.transcript());
    }
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}
