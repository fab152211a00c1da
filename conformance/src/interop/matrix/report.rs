//! The matrix as a Markdown table.

use std::fmt;

use super::{Case, Cell, Fault, Outcome};
use crate::interop::Cast;

/// Outcomes of cells that are in the order of their casts; shown as one table.
#[derive(Debug)]
pub struct Report {
    cells: Vec<(Cell, Outcome)>,
}

impl Report {
    /// Puts cells and their outcomes together.
    #[must_use]
    pub fn new(cells: Vec<Cell>, outcomes: Vec<Outcome>) -> Self {
        Self { cells: cells.into_iter().zip(outcomes).collect() }
    }

    /// How many cells failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.cells.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Fails(_))).count()
    }

    fn cases(&self) -> Vec<Case> {
        let asked = |case: &Case| self.cells.iter().any(|(cell, _)| cell.case == *case);
        Case::ALL.into_iter().filter(asked).collect()
    }

    fn casts(&self) -> Vec<Cast> {
        let mut casts: Vec<_> = self.cells.iter().map(|(cell, _)| cell.cast).collect();
        casts.dedup();
        casts
    }

    /// The faults that were met, in the order of their footnotes.
    fn faults(&self) -> Vec<&'static Fault> {
        let mut faults: Vec<&'static Fault> = Vec::new();
        for (_, outcome) in &self.cells {
            if let Outcome::PeersFault(fault, _) = outcome
                && !faults.iter().any(|known| known.reason == fault.reason)
            {
                faults.push(fault);
            }
        }
        faults
    }

    fn mark(&self, cast: Cast, case: Case, faults: &[&Fault]) -> String {
        let outcome = self.cells.iter().find(|(cell, _)| cell.cast == cast && cell.case == case);
        match outcome.map(|(_, outcome)| outcome) {
            None | Some(Outcome::Absent) => "–".to_owned(),
            Some(Outcome::Works) => "ok".to_owned(),
            Some(Outcome::Fails(_)) => "**fails**".to_owned(),
            Some(Outcome::PeersFault(fault, _)) => {
                let number = faults.iter().position(|known| known.reason == fault.reason);
                format!("peer's fault [{}]", number.map_or(0, |number| number + 1))
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cases, faults) = (self.cases(), self.faults());
        let titles: Vec<_> = cases.iter().map(|case| case.title()).collect();
        writeln!(f, "| mode | server | provider | client or connector | {} |", titles.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(4 + cases.len()))?;
        for cast in self.casts() {
            let name = |part: Option<crate::interop::Program>| part.map_or("", |program| program.name());
            let marks: Vec<_> = cases.iter().map(|&case| self.mark(cast, case, &faults)).collect();
            writeln!(
                f,
                "| {} | {} | {} | {} | {} |",
                cast.mode().name(),
                cast.server().name(),
                name(cast.provider()),
                name(cast.client()),
                marks.join(" | ")
            )?;
        }
        for (number, fault) in faults.iter().enumerate() {
            writeln!(f, "\n[{}] {}", number + 1, fault.reason)?;
        }
        Ok(())
    }
}
