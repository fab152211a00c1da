//! One machine: an engine and a driver that keeps the contract to the letter.
//!
//! The driver is the one of the design in small: an owner with an inbox, and a pump for each
//! socket and link. Because inputs wait in the inbox while outputs reach pumps at once, closes
//! race with IO here as they do in a real driver.

mod datagrams;
mod driver;
mod front;
mod habits;
mod link;
mod resolver;
mod socket;

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use linksocks_sansio::error::StopReason;
use linksocks_sansio::{Command, Engine, Input, Output, Stats};

pub(crate) use self::datagrams::second_address;
pub use self::driver::Site;
use self::driver::{Driver, Surroundings};
pub use self::habits::{Batching, Habits};
pub use self::resolver::Resolver;
use super::check::{Contract, Verdict};
use super::clock::Time;
use super::dice::Dice;
use super::model::LinkHistory;
use super::net::{Network, Wake};
use super::trace::{Trace, hash_output};
use crate::record::{Keep, Recorder, Recording};

/// An engine with its driver, and the checkers that watch the border between them.
#[derive(Debug)]
pub struct Host<E> {
    name: String,
    number: usize,
    engine: Recorder<E>,
    /// The hash of all outputs, if there is something to compare it with.
    outputs: Option<DefaultHasher>,
    driver: Driver,
    contract: Contract,
    history: LinkHistory,
    /// What the engine asked to be woken at.
    deadline: Option<Time>,
    /// When the owner looks into its inbox next.
    turn: Option<Time>,
    suspended_until: Time,
    /// What happened while the machine was suspended.
    missed: BTreeSet<Wake>,
}

/// All of a machine but its engine.
#[derive(Debug)]
pub struct Setup {
    /// Its name in traces.
    pub name: String,
    /// Its number among all engines of the run.
    pub number: usize,
    /// What to keep of the engine's inputs.
    pub keep: Keep,
    /// Where it stands.
    pub site: Site,
    /// What its engine has to obey.
    pub contract: Contract,
    /// Its driver's whims.
    pub dice: Dice,
}

impl<E: Engine> Host<E> {
    /// A machine that starts now.
    #[must_use]
    pub fn new(setup: Setup, engine: E, net: &mut Network, now: Time) -> Self {
        let Setup { name, number, keep, site, contract, dice } = setup;
        Self {
            name,
            number,
            engine: Recorder::new(engine, now.instant(), keep),
            outputs: (keep == Keep::All).then(DefaultHasher::new),
            driver: Driver::new(site, dice, net),
            contract,
            history: LinkHistory::default(),
            deadline: None,
            // An engine that has just been made has things to say.
            turn: Some(now),
            suspended_until: Time::ZERO,
            missed: BTreeSet::new(),
        }
    }

    /// When it must run even if nothing happens on the network.
    #[must_use]
    pub fn wake(&self) -> Option<Time> {
        if self.driver.stopped.is_some() {
            return None;
        }
        let wake = [self.deadline, self.turn, self.driver.deadline()].into_iter().flatten().min();
        wake.map(|wake| wake.max(self.suspended_until))
    }

    /// Why the engine has stopped, if it has.
    #[must_use]
    pub const fn stopped(&self) -> Option<&StopReason> {
        self.driver.stopped.as_ref()
    }

    /// What became of its links.
    #[must_use]
    pub const fn history(&self) -> &LinkHistory {
        &self.history
    }

    /// What the engine says of itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Its name in traces.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the embedder's command.
    pub fn command(&mut self, command: Command, now: Time) {
        self.driver.inbox.push_back(Input::Command(command));
        self.turn.get_or_insert(now);
    }

    /// Stops the whole machine until then, as a laptop that is closed.
    pub const fn suspend(&mut self, until: Time) {
        self.suspended_until = until;
    }

    /// What it looks names up with.
    pub const fn resolver_mut(&mut self) -> &mut Resolver {
        self.driver.resolver_mut()
    }

    /// Ends the process without a word. `silently`: even its kernel is gone, so that nobody learns
    /// of it. Returns the number it was given, the hash of all outputs, and what was recorded.
    pub fn end(mut self, silently: bool, net: &mut Network) -> (usize, u64, Recording) {
        self.driver.crash(silently, net);
        let outputs = self.outputs.map_or(0, |hasher| hasher.finish());
        (self.number, outputs, self.engine.into_recording())
    }

    /// What must hold once nothing is connected and nothing is under way.
    ///
    /// # Errors
    /// What is left over.
    pub fn check_idle(&self) -> Verdict {
        self.contract.idle(&self.stats())
    }

    /// Lets pumps and owner do what can be done now.
    ///
    /// # Errors
    /// What the engine did wrong.
    pub fn run(&mut self, net: &mut Network, trace: &mut Trace, now: Time) -> Verdict {
        let wakes = net.take_wakes(self.driver.site().owner);
        if self.driver.stopped.is_some() {
            return Ok(());
        }
        self.missed.extend(wakes);
        if now < self.suspended_until {
            return Ok(());
        }
        self.driver.run(std::mem::take(&mut self.missed), net, now);
        if !self.driver.inbox.is_empty() {
            let delay = self.driver.site().habits.turn_delay;
            self.turn.get_or_insert_with(|| now + delay);
        }
        if [self.turn, self.deadline].into_iter().flatten().any(|due| due <= now) {
            self.take_turn(net, trace, now)?;
        }
        Ok(())
    }

    /// The owner empties its inbox and drains the engine.
    fn take_turn(&mut self, net: &mut Network, trace: &mut Trace, now: Time) -> Verdict {
        self.contract.turn(now)?;
        let mut inputs = std::mem::take(&mut self.driver.inbox);
        if self.deadline.is_some_and(|deadline| deadline <= now) && inputs.is_empty() {
            inputs.push_back(Input::Timeout);
        }
        self.feed(inputs, net, trace, now)?;
        let stats = self.stats();
        self.contract.drained(now, self.deadline, &stats)?;
        let delay = self.driver.site().habits.turn_delay;
        self.turn = (!self.driver.inbox.is_empty()).then(|| now + delay);
        Ok(())
    }

    fn feed(
        &mut self,
        mut inputs: VecDeque<Input>,
        net: &mut Network,
        trace: &mut Trace,
        now: Time,
    ) -> Verdict {
        while let Some(input) = inputs.pop_front() {
            trace.input(now, &self.name, &input);
            self.contract.input(&input)?;
            self.history.input(&input);
            self.engine.handle_input(now.instant(), input);
            if !inputs.is_empty() && self.driver.drains_between_inputs() {
                self.drain(net, trace, now)?;
                if self.driver.stopped.is_some() {
                    return Ok(());
                }
            }
        }
        self.drain(net, trace, now)
    }

    fn drain(&mut self, net: &mut Network, trace: &mut Trace, now: Time) -> Verdict {
        loop {
            let output = self.engine.poll_output();
            trace.output(now, &self.name, &output);
            if let Some(outputs) = &mut self.outputs {
                hash_output(&output, outputs);
            }
            self.contract.output(now, &output)?;
            self.history.output(&output);
            if let Output::Timeout(deadline) = output {
                self.deadline = deadline.map(Time::from_instant);
                return Ok(());
            }
            self.driver.apply(output, net, now);
        }
    }
}
