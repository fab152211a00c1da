//! A view of all that goes into an engine and comes out of it.

use std::fmt;
use std::time::Instant;

use linksocks_sansio::{Engine, Input, Output, Stats};

/// Sees what reaches an engine and what it says, in order.
///
/// An engine is a function of its configuration, its seed and its inputs, so a tap that keeps the
/// inputs, with their times and how many outputs were polled in between, can repeat the run.
///
/// It sees everything as it is, tokens and payloads included: whoever keeps that keeps it secret.
///
/// Called by the task that runs the engine: it must not block.
pub trait Tap: Send + 'static {
    /// The engine was made at `now`.
    fn start(&mut self, now: Instant);

    /// The engine is about to be given `input`.
    fn input(&mut self, now: Instant, input: &Input);

    /// The engine has returned `output`.
    fn output(&mut self, output: &Output);
}

/// A tap, if there is one.
#[derive(Default)]
pub(crate) struct Tapping(pub(crate) Option<Box<dyn Tap>>);

impl fmt::Debug for Tapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tapping" } else { "NotTapping" })
    }
}

/// An engine, and who watches it.
pub(crate) struct Tapped<E> {
    engine: E,
    tap: Option<Box<dyn Tap>>,
}

impl<E: Engine> Tapped<E> {
    /// Makes an engine that starts at `now`.
    pub(crate) fn new(now: Instant, Tapping(mut tap): Tapping, engine: impl FnOnce(Instant) -> E) -> Self {
        if let Some(tap) = &mut tap {
            tap.start(now);
        }
        Self { engine: engine(now), tap }
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input) {
        if let Some(tap) = &mut self.tap {
            tap.input(now, &input);
        }
        self.engine.handle_input(now, input);
    }

    pub(crate) fn poll_output(&mut self) -> Output {
        let output = self.engine.poll_output();
        if let Some(tap) = &mut self.tap {
            tap.output(&output);
        }
        output
    }

    pub(crate) fn stats(&self) -> Stats {
        self.engine.stats()
    }
}
