//! Simulated runs. `LINKSOCKS_SEED=n` runs one seed and prints its trace; `LINKSOCKS_CASES=n` sets
//! how many seeds run.

use std::env;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{process, thread};

use conformance::record::Keep;
use conformance::sim::{self, Watch};

/// How many seeds run unless `LINKSOCKS_CASES` says otherwise.
const CASES: u64 = 500;

/// How many of them are recorded and replayed.
const RECORDED: u64 = 60;

/// A run that takes so much longer than the usual fraction of a second never ends: an engine turns
/// in circles within one call, where no checker looks.
const HANG: Duration = Duration::from_secs(120);

/// Names the seed of a run that hangs and ends the process.
struct Watchdog {
    /// Dropped when the run is over.
    _run: mpsc::Sender<()>,
}

impl Watchdog {
    fn new(seed: u64) -> Self {
        let (run, over) = mpsc::channel();
        thread::spawn(move || {
            if over.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("seed {seed} hangs\nreplay: {}", sim::replay_command(seed));
                process::abort();
            }
        });
        Self { _run: run }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Runs `check` for all seeds below `count`, on all processors. Fails with what went wrong for the
/// lowest seeds.
fn for_each_seed(count: u64, check: impl Fn(u64) -> Result<(), String> + Sync) {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let worker = || {
        let mut failures = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                break;
            }
            let _watchdog = Watchdog::new(seed);
            let result = catch_unwind(AssertUnwindSafe(|| check(seed))).unwrap_or_else(|_| {
                Err(format!("seed {seed} panicked\nreplay: {}", sim::replay_command(seed)))
            });
            if let Err(failure) = result {
                // One failure is enough, unless somebody wants to see them all.
                failed.store(env::var_os("LINKSOCKS_ALL").is_none(), Ordering::Relaxed);
                failures.push((seed, failure));
            }
        }
        failures
    };
    let threads = thread::available_parallelism().map_or(2, Into::into);
    let mut failures: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("workers catch panics")).collect()
    });
    failures.sort();
    let mut text = String::new();
    for (_, failure) in &failures {
        writeln!(text, "{failure}\n").expect("a string takes everything");
    }
    assert!(failures.is_empty(), "{} seeds failed\n\n{text}", failures.len());
}

#[test]
fn every_rule_holds_and_every_run_repeats_itself() {
    if let Some(seed) = number("LINKSOCKS_SEED") {
        let watch = Watch { echo: true, ..Watch::SILENT };
        let result = sim::run(seed, watch);
        assert!(result.is_ok(), "{}", result.expect_err("it is not ok"));
        return;
    }
    let cases = number("LINKSOCKS_CASES").unwrap_or(CASES);
    let resumed = AtomicU64::new(0);
    for_each_seed(cases, |seed| {
        let run = || sim::run(seed, Watch::SILENT).map_err(|failure| failure.to_string());
        let (first, second) = (run()?, run()?);
        if first.hash != second.hash {
            return Err(format!("seed {seed} ran differently the second time"));
        }
        resumed.fetch_add(first.resumed as u64, Ordering::Relaxed);
        Ok(())
    });
    let resumed = resumed.into_inner();
    assert!(resumed >= cases / 20, "only {resumed} links were resumed with their channels in {cases} runs");
}

#[test]
fn every_recording_replays_with_equal_outputs() {
    let watch = Watch { keep: Keep::All, ..Watch::SILENT };
    for_each_seed(RECORDED, |seed| {
        let report = sim::run(seed, watch).map_err(|failure| failure.to_string())?;
        for (number, engine) in report.engines.iter().enumerate() {
            if engine.replay() != engine.outputs {
                return Err(format!("seed {seed}: engine {number} said something else when replayed"));
            }
        }
        Ok(())
    });
}
