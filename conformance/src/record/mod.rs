//! Recordings: everything that reached an engine, with the times, so that a run can be repeated.
//!
//! An engine is a function of its configuration, its seed and its inputs. A recording holds the
//! inputs; fed to a new engine of the same configuration and seed it yields the same outputs, byte
//! for byte. That is the form of a bug report from the field, and a test of determinism.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use linksocks_sansio::{Engine, Input, Output, Stats};

/// How much a [`Recorder`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the engine runs as if alone.
    Nothing,
    /// The last so many inputs: enough to read what led to a crash, not to repeat it.
    Last(usize),
    /// Everything.
    All,
}

/// An engine whose inputs are kept.
#[derive(Debug)]
pub struct Recorder<E> {
    engine: E,
    log: Log,
}

/// The recording of an engine that somebody else runs, who tells of every input and output.
#[derive(Debug)]
pub struct Log {
    start: Instant,
    keep: Keep,
    recording: Recording,
}

/// What reached an engine.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// How many outputs were polled before the first input.
    pub first_polls: u64,
    /// How many steps at the beginning are missing.
    pub forgotten: u64,
    /// The inputs in order.
    pub steps: VecDeque<Step>,
}

/// One input.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, counted from the start of the engine.
    pub at: Duration,
    /// What.
    pub input: Input,
    /// How many outputs were polled before the next input. Outputs may depend on it: what is
    /// produced late sees what came meanwhile.
    pub polls: u64,
}

impl<E: Engine> Recorder<E> {
    /// Records an engine that was made at `start`.
    #[must_use]
    pub fn new(engine: E, start: Instant, keep: Keep) -> Self {
        Self { engine, log: Log::new(start, keep) }
    }

    /// As [`Engine::handle_input`].
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.log.input(now, &input);
        self.engine.handle_input(now, input);
    }

    /// As [`Engine::poll_output`].
    #[must_use]
    pub fn poll_output(&mut self) -> Output {
        self.log.output();
        self.engine.poll_output()
    }

    /// As [`Engine::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What was kept so far.
    #[must_use]
    pub const fn recording(&self) -> &Recording {
        self.log.recording()
    }

    /// Ends the recording.
    #[must_use]
    pub fn into_recording(self) -> Recording {
        self.log.recording
    }
}

impl Log {
    /// Records an engine that was made at `start`.
    #[must_use]
    pub fn new(start: Instant, keep: Keep) -> Self {
        Self { start, keep, recording: Recording::default() }
    }

    /// When the engine was made.
    #[must_use]
    pub const fn start(&self) -> Instant {
        self.start
    }

    /// The engine is given an input.
    pub fn input(&mut self, now: Instant, input: &Input) {
        let limit = match self.keep {
            Keep::Nothing => 0,
            Keep::Last(count) => count,
            Keep::All => usize::MAX,
        };
        if limit > 0 {
            let at = now.saturating_duration_since(self.start);
            self.recording.steps.push_back(Step { at, input: input.clone(), polls: 0 });
        } else {
            self.recording.forgotten += 1;
        }
        if self.recording.steps.len() > limit {
            self.recording.steps.pop_front();
            self.recording.forgotten += 1;
        }
    }

    /// An output is polled.
    pub fn output(&mut self) {
        match self.recording.steps.back_mut() {
            Some(step) => step.polls += 1,
            None => self.recording.first_polls += 1,
        }
    }

    /// What was kept so far.
    #[must_use]
    pub const fn recording(&self) -> &Recording {
        &self.recording
    }
}

impl Recording {
    /// Whether nothing is missing, so that it can be replayed.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.forgotten == 0
    }

    /// Feeds everything to a new engine, made at the instant that `new` is given, and hands each
    /// output with its time (counted from the start) to `observe`.
    ///
    /// # Panics
    /// If the recording [is not complete](Self::is_complete).
    pub fn replay<E: Engine>(
        &self,
        start: Instant,
        new: impl FnOnce(Instant) -> E,
        mut observe: impl FnMut(Duration, Output),
    ) {
        assert!(self.is_complete(), "a recording whose beginning is missing can't be replayed");
        let mut engine = new(start);
        for _ in 0..self.first_polls {
            observe(Duration::ZERO, engine.poll_output());
        }
        for step in &self.steps {
            engine.handle_input(start + step.at, step.input.clone());
            for _ in 0..step.polls {
                observe(step.at, engine.poll_output());
            }
        }
    }
}
