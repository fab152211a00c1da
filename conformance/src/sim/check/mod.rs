//! What must hold in every run, one file per rule.
//!
//! Two kinds: rules of the border between one engine and its driver, which [`Contract`] bundles and
//! which see nothing but inputs, outputs and statistics; and rules about conversations, which see
//! what the applications at both ends sent, received and heard.

mod answers;
mod completeness;
mod credit;
pub(crate) mod exemptions;
mod forgotten;
mod identity;
mod isolation;
mod memory;
mod progress;
mod provocation;
mod tickets;

use std::fmt;

use linksocks_sansio::config::Limits;
use linksocks_sansio::{Input, Output, Stats};

pub(crate) use self::answers::answered_once;
pub(crate) use self::completeness::{delivered, whole_or_reset};
use self::credit::Credit;
pub(crate) use self::forgotten::ended_when_forgotten;
use self::identity::Identity;
use self::isolation::Isolation;
pub(crate) use self::isolation::dialled_by_the_right_host;
use self::memory::Memory;
use self::progress::Progress;
pub(crate) use self::provocation::{Disturbances, served_unless_provoked};
use self::tickets::Tickets;
use super::clock::Time;

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// How.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.details)
    }
}

impl std::error::Error for Violation {}

/// What a checker says.
pub type Verdict = Result<(), Violation>;

/// Says what is wrong unless the condition holds.
pub(crate) fn require(holds: bool, rule: &'static str, details: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { rule, details: details() }) }
}

/// All rules of the border between one engine and its driver.
#[derive(Debug)]
pub struct Contract {
    identity: Identity,
    isolation: Isolation,
    tickets: Tickets,
    credit: Credit,
    memory: Memory,
    progress: Progress,
}

impl Contract {
    /// For an engine with these limits, whose peers send messages of up to `longest` bytes. `joins`:
    /// whether it passes messages on from one to the other.
    #[must_use]
    pub fn new(limits: &Limits, longest: usize, joins: bool) -> Self {
        Self {
            identity: Identity::default(),
            isolation: Isolation::default(),
            tickets: Tickets::default(),
            credit: Credit::new(limits.clone(), longest, joins),
            memory: Memory::new(limits.clone(), longest, joins),
            progress: Progress::default(),
        }
    }

    pub(crate) fn input(&mut self, input: &Input) -> Verdict {
        self.progress.input(input);
        self.tickets.input(input);
        self.credit.input(input)?;
        self.identity.input(input);
        self.isolation.input(input);
        Ok(())
    }

    pub(crate) fn output(&mut self, now: Time, output: &Output) -> Verdict {
        self.progress.output(now, output)?;
        let comes_too_late = self.identity.is_ending(output);
        self.identity.output(output)?;
        self.tickets.output(output)?;
        self.isolation.output(output)?;
        if comes_too_late { Ok(()) } else { self.credit.output(output) }
    }

    pub(crate) fn turn(&mut self, now: Time) -> Verdict {
        self.progress.turn(now)
    }

    pub(crate) fn drained(&mut self, now: Time, deadline: Option<Time>, stats: &Stats) -> Verdict {
        self.progress.drained(now, deadline)?;
        self.memory.drained(stats)
    }

    /// Nothing is connected and nothing is under way.
    pub(crate) fn idle(&self, stats: &Stats) -> Verdict {
        self.tickets.idle()?;
        self.identity.idle()?;
        self.memory.idle(stats)
    }
}
