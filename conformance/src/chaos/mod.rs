//! Our programs as processes under load for minutes, while links are cut and processes are killed.
//!
//! | part | what it is |
//! |---|---|
//! | `network` | the programs, each of whose links leads through a `proxy` that makes trouble |
//! | `crowd` | applications that open stream after stream by SOCKS, and their targets; what both do is a `script` |
//! | `side` | one end of a stream at work |
//! | `conductor` | makes one `fault` after the other, and waits until everything works again |
//! | `watch`, `judge` | whether streams move, and whether their ends were right |
//! | `sampler` | memory and descriptors of the processes |
//! | `report` | all of it as text, JSON and SVG |
//!
//! Every decision follows from a seed. When a thing happens does not: the programs and the sockets are real.

mod conductor;
mod crowd;
mod datagrams;
mod fault;
mod judge;
mod network;
mod proxy;
mod registry;
mod report;
mod sampler;
mod script;
mod side;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod watch;

pub use fault::Class;
pub use report::Report;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use self::conductor::Conductor;
use self::crowd::{Crowd, Targets};
use self::fault::FaultLog;
use self::judge::{Outcome, Rules};
use self::network::Network;
use self::registry::Registry;
use self::sampler::{Profile, Sampler};
use self::stream::Clock;
use self::tally::Tally;
use self::watch::Watch;
use crate::interop::{Error, Mode, Program};

/// How long everything together may take until the first connection works.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// After the first connections, until the programs have closed what belonged to them.
const SETTLE: Duration = Duration::from_millis(2500);
/// How long streams may take to their end when no new ones are opened and nothing fails any more.
const DRAIN: Duration = Duration::from_secs(60);
/// How much longer than its grace time a program may keep what belongs to nobody any more.
const RELEASE: Duration = Duration::from_secs(15);
/// The grace time of other programs, which take no flag for it.
const FOREIGN_GRACE: Duration = Duration::from_secs(30);
/// How often somebody says how it goes.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often the end is looked for.
const POLL: Duration = Duration::from_millis(50);
/// Enough for an application.
const STACK: usize = 256 * 1024;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who plays the server.
    pub server: Program,
    /// Who plays everybody else.
    pub client: Program,
    /// The modes, one after the other.
    pub modes: Vec<Mode>,
    /// What may happen.
    pub faults: Vec<Class>,
    /// How long faults happen, in all modes together.
    pub duration: Duration,
    /// What all decisions follow from.
    pub seed: u64,
    /// Streams at a time.
    pub streams: usize,
    /// How long our programs keep what a lost link has carried.
    pub grace: Duration,
    /// How long a stream may stand still without a fault.
    pub patience: Duration,
    /// How often memory and descriptors are looked at.
    pub interval: Duration,
    /// Bytes of memory that a process may use above idle when everything is over.
    pub idle_margin: u64,
    /// Bytes of memory that a process may use above idle at any time.
    pub peak_margin: u64,
}

impl Plan {
    /// Whether lost links are resumed.
    fn has_sessions(&self) -> bool {
        self.server.is_ours() && self.client.is_ours()
    }

    /// How long programs keep what belongs to nobody any more.
    fn longest_grace(&self) -> Duration {
        if self.has_sessions() { self.grace } else { self.grace.max(FOREIGN_GRACE) }
    }

    fn rules(&self) -> Rules {
        Rules { exact_ends: self.has_sessions() }
    }
}

/// Runs it all. `progress` gets a line now and then.
///
/// # Errors
/// [`enum@Error`] when a program is missing, does not start, or this machine does not play along. What a program does
/// wrong is in the report.
pub fn run(plan: &Plan, progress: &(dyn Fn(&str) + Sync)) -> Result<Report, Error> {
    // Building them is no part of the run.
    plan.server.prepare()?;
    plan.client.prepare()?;
    let mut run = Run {
        plan,
        progress,
        clock: Clock::start(),
        faults: FaultLog::default(),
        tally: Arc::default(),
        next_key: 0,
        next_fault: 0,
        profiles: Vec::new(),
        transcripts: String::new(),
    };
    for &mode in &plan.modes {
        run.run_mode(mode)?;
    }
    let Run { clock, faults, tally, profiles, transcripts, .. } = run;
    Ok(Report::new(plan, clock.now(), tally.counts(), faults.all(), profiles, transcripts))
}

/// A run in progress.
struct Run<'a> {
    plan: &'a Plan,
    progress: &'a (dyn Fn(&str) + Sync),
    clock: Clock,
    faults: FaultLog,
    tally: Arc<Tally>,
    next_key: u64,
    next_fault: u64,
    profiles: Vec<Profile>,
    /// What the programs of modes with failures have printed.
    transcripts: String,
}

impl Run<'_> {
    fn run_mode(&mut self, mode: Mode) -> Result<(), Error> {
        let (plan, failures) = (self.plan, self.tally.failures());
        let network = Network::start(plan, mode)?;
        let registry = Arc::new(Registry::new(self.clock, Arc::clone(&self.tally), self.next_key));
        let targets = Targets::bind(&registry)?;
        let tally = Arc::clone(&self.tally);
        let mut conductor = Conductor::new(plan, mode, &network, &self.faults, &tally, self.clock)?;
        conductor.wait_until_all_work(&network.entries, START_TIMEOUT).map_err(std::io::Error::other)?;
        thread::sleep(SETTLE);

        let mut sampler = Sampler::new(&network, &tally, mode.name());
        let until = self.clock.now() + plan.duration / u32::try_from(plan.modes.len()).unwrap_or(u32::MAX);
        let (stopping, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let crowd = Crowd {
            seed: plan.seed,
            entries: &network.entries,
            rules: plan.rules(),
            registry: &registry,
            targets: &targets,
            faults: &self.faults,
            stopping: &stopping,
        };
        let (next_fault, watched) = thread::scope(|scope| {
            let watching = scope.spawn(|| self.watch(mode, &registry, &mut sampler, &done));
            let applications: Result<Vec<_>, _> = (0..plan.streams)
                .map(|_| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || crowd.play()))
                .collect();
            let next_fault = match &applications {
                Ok(_) => conductor.run(self.next_fault, until),
                Err(error) => Err(std::io::Error::from(error.kind()).into()),
            };
            stopping.store(true, SeqCst);
            drain(&registry, applications.unwrap_or_default());
            done.store(true, SeqCst);
            (next_fault, watching.join().unwrap_or_else(|_| Err(std::io::Error::other("the watch panicked"))))
        });
        watched?;
        self.next_fault = next_fault?;
        self.next_key = registry.unused_key();
        self.profiles
            .extend(sampler.settle(Instant::now() + plan.longest_grace() + RELEASE, plan.idle_margin));
        if self.tally.failures() > failures {
            self.transcripts += &format!("=== {}\n{}", mode.name(), network.transcript());
        }
        Ok(())
    }

    /// Looks at streams and processes until it is done.
    fn watch(
        &self,
        mode: Mode,
        registry: &Registry,
        sampler: &mut Sampler,
        done: &AtomicBool,
    ) -> std::io::Result<()> {
        let plan = self.plan;
        let mut watch = Watch::new(registry, &self.faults, plan.rules(), plan.patience, plan.longest_grace());
        let (mut said, mut told) = (self.clock.now(), self.tally.counts().problems.len());
        while !done.load(SeqCst) {
            thread::sleep(plan.interval);
            watch.look();
            sampler.sample(self.clock.now(), plan.peak_margin)?;
            for problem in self.tally.problems_after(told) {
                (self.progress)(&problem);
                told += 1;
            }
            if self.clock.now() >= said + PROGRESS {
                said = self.clock.now();
                (self.progress)(&self.line(mode, registry.len()));
            }
        }
        Ok(())
    }

    /// How it goes, in a line.
    fn line(&self, mode: Mode, streams: usize) -> String {
        let counts = self.tally.counts();
        let outcomes: Vec<_> = Outcome::ALL
            .into_iter()
            .map(|outcome| format!("{} {}", counts.with_outcome(outcome), outcome.name()))
            .collect();
        format!(
            "{:4} s, {}: {streams} streams, {}; {} MiB checked, {} faults, {} failures",
            self.clock.now().as_secs(),
            mode.name(),
            outcomes.join(", "),
            counts.bytes >> 20,
            self.faults.all().len(),
            counts.failures
        )
    }
}

/// Waits until all applications are gone and all streams over.
fn drain(registry: &Registry, applications: Vec<ScopedJoinHandle<'_, ()>>) {
    let deadline = Instant::now() + DRAIN;
    while applications.iter().any(|application| !application.is_finished()) || registry.len() > 0 {
        for stream in registry.all() {
            stream.dismiss();
            if Instant::now() > deadline {
                stream.give_up(format!("not over {DRAIN:?} after the last fault"));
            }
        }
        thread::sleep(POLL);
    }
}
