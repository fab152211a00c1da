//! Every mode, with every program in every part, asked for the same few things.

mod case;
mod fault;
mod report;

pub use case::Case;
pub use fault::Fault;
pub use report::Report;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::{Cast, Layout, Network};

/// The longest that an answer takes.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// The longest that one cell takes: its programs start, and it answers.
pub const CELL_TIME: Duration = Layout::DEFAULT.start_timeout.saturating_add(ANSWER_TIME);

/// One question to one cast.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Who takes part.
    pub cast: Cast,
    /// What is asked.
    pub case: Case,
}

/// What became of a [`Cell`].
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It works.
    Works,
    /// It does not, for this reason.
    Fails(String),
    /// It does not, and no program of ours could change that.
    PeersFault(&'static Fault, String),
    /// The program at the applications' side does not offer it.
    Absent,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}::{}", self.cast.mode().name(), self.cast.name(), self.case.name())
    }
}

impl Cell {
    /// Every case with each of `casts`.
    #[must_use]
    pub fn all(casts: &[Cast], cases: &[Case]) -> Vec<Self> {
        casts.iter().flat_map(|&cast| cases.iter().map(move |&case| Self { cast, case })).collect()
    }

    /// Asks in a network of its own, within [`CELL_TIME`].
    #[must_use]
    pub fn run(self) -> Outcome {
        if self.case.needs_fast_open() && !self.cast.entry().has_fast_open() {
            return Outcome::Absent;
        }
        match (self.ask(), Fault::of(self)) {
            (Ok(()), _) => Outcome::Works,
            (Err(problem), Some(fault)) => Outcome::PeersFault(fault, problem),
            (Err(problem), None) => Outcome::Fails(problem),
        }
    }

    fn ask(self) -> Result<(), String> {
        let layout = Layout { fast_open: self.case.needs_fast_open(), ..Layout::DEFAULT };
        let network = Network::start(self.cast, layout).map_err(|error| format!("no start: {error}"))?;
        let (socks, case) = (network.socks(), self.case);
        let (answer, answered) = mpsc::channel();
        // If it is late nobody listens any more; it ends soon after the programs.
        thread::spawn(move || answer.send(case.check(socks).map_err(|error| error.to_string())));
        let result = answered
            .recv_timeout(ANSWER_TIME)
            .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIME:?}")));
        result.map_err(|problem| format!("{problem}\n{}", network.transcript()))
    }
}

/// Runs `cells`, `jobs` of them at once, and tells `progress` of each outcome. The outcomes have the order of `cells`.
#[must_use]
pub fn run(cells: &[Cell], jobs: usize, progress: impl Fn(Cell, &Outcome) + Sync) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![Outcome::Absent; cells.len()]);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((index, cell)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cells.get(index).map(|cell| (index, cell))
                } {
                    let outcome = cell.run();
                    progress(*cell, &outcome);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner)[index] = outcome;
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}
