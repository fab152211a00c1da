//! Time goes on: no deadline in the past after a drain, no loop within one instant.

use linksocks_sansio::{Input, Output};

use super::{Verdict, require};
use crate::sim::clock::Time;

const RULE: &str = "time always advances";

/// More outputs than any input can cause. The largest cause is a link that is lost with all its
/// channels, or credit that lets everything out that had to wait.
const OUTPUTS_PER_INPUT: u64 = 20_000;

/// More turns of an owner than any instant needs; each must be for a reason that came from outside.
const TURNS_PER_INSTANT: u64 = 10_000;

/// Counts what happens without time passing.
#[derive(Debug, Default)]
pub(super) struct Progress {
    now: Time,
    turns: u64,
    outputs: u64,
}

impl Progress {
    pub(super) fn turn(&mut self, now: Time) -> Verdict {
        if now > self.now {
            *self = Self { now, ..Self::default() };
        }
        self.turns += 1;
        require(self.turns <= TURNS_PER_INSTANT, RULE, || {
            format!("more than {TURNS_PER_INSTANT} turns at {now}")
        })
    }

    /// An input allows for more outputs.
    pub(super) fn input(&mut self, _input: &Input) {
        self.outputs = 0;
    }

    pub(super) fn output(&mut self, now: Time, output: &Output) -> Verdict {
        if let Output::Timeout(_) = output {
            return Ok(());
        }
        self.outputs += 1;
        require(self.outputs <= OUTPUTS_PER_INPUT, RULE, || format!("endless outputs at {now}"))
    }

    pub(super) fn drained(&self, now: Time, deadline: Option<Time>) -> Verdict {
        let past = deadline.filter(|deadline| *deadline <= now);
        require(past.is_none(), RULE, || format!("drained at {now}, yet the deadline is {past:?}"))
    }
}
