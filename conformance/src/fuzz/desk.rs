//! One engine whose driver does nothing by itself, in a moment that does not pass.

use std::net::SocketAddr;

use linksocks_sansio::config::Limits;
use linksocks_sansio::{Engine, Input, Output};

use crate::sim::Time;
use crate::sim::check::{Contract, Verdict};

/// The longest message that anybody here sends.
const LONGEST: usize = 1 << 20;

/// An engine and the rules of the border between it and its driver.
#[derive(Debug)]
pub(super) struct Desk<E> {
    engine: E,
    contract: Contract,
}

impl<E: Engine> Desk<E> {
    /// The moment in which everything happens.
    pub(super) const NOW: Time = Time::ZERO;

    /// Takes an engine that has just been made with these limits.
    pub(super) fn new(engine: E, limits: &Limits) -> Self {
        Self { engine, contract: Contract::new(limits, LONGEST, false) }
    }

    /// What the engine says before it has been told anything.
    pub(super) fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        loop {
            let output = self.engine.poll_output();
            keep(self.contract.output(Self::NOW, &output));
            if let Output::Timeout(deadline) = output {
                let (deadline, stats) = (deadline.map(Time::from_instant), self.engine.stats());
                keep(self.contract.drained(Self::NOW, deadline, &stats));
                return outputs;
            }
            outputs.push(output);
        }
    }

    /// Tells the engine something; what it says to that.
    pub(super) fn tell(&mut self, input: Input) -> Vec<Output> {
        keep(self.contract.input(&input));
        self.engine.handle_input(Self::NOW.instant(), input);
        self.drain()
    }
}

fn keep(verdict: Verdict) {
    if let Err(violation) = verdict {
        panic!("{violation}");
    }
}

/// Somebody out there; a number of his own each.
pub(super) fn peer(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, (number >> 8) as u8], 1000 + number))
}
