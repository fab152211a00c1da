//! What has come of everything so far.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::judge::Outcome;
use super::script::Kind;
use super::stream::lock;

/// Failures that are kept in words; all are counted.
const KEPT_FAILURES: usize = 20;

/// Counts that all threads add to.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

/// What a [`Tally`] holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) streams: BTreeMap<(Kind, Outcome), u64>,
    /// Bytes that arrived and were compared.
    pub(super) bytes: u64,
    /// Datagrams sent, and those whose echo came back.
    pub(super) datagrams: (u64, u64),
    pub(super) failures: u64,
    /// The first of them.
    pub(super) problems: Vec<String>,
    /// The longest that a stream stood still, although both its ends wanted to go on.
    pub(super) longest_pause: Duration,
    /// The same, of the time when there was no fault.
    pub(super) longest_quiet_pause: Duration,
    /// The longest from the end of a fault until everything worked again.
    pub(super) longest_recovery: Duration,
}

impl Tally {
    /// Adds a stream and the bytes that both its ends have received.
    pub(super) fn add_stream(&self, kind: Kind, outcome: Outcome, bytes: u64) {
        let mut counts = lock(&self.0);
        *counts.streams.entry((kind, outcome)).or_default() += 1;
        counts.bytes += bytes;
    }

    pub(super) fn add_datagrams(&self, sent: u64, answered: u64) {
        let mut counts = lock(&self.0);
        counts.datagrams.0 += sent;
        counts.datagrams.1 += answered;
    }

    pub(super) fn add_failure(&self, problem: String) {
        let mut counts = lock(&self.0);
        counts.failures += 1;
        if counts.problems.len() < KEPT_FAILURES {
            counts.problems.push(problem);
        }
    }

    pub(super) fn add_pause(&self, pause: Duration, quiet: Duration) {
        let mut counts = lock(&self.0);
        counts.longest_pause = counts.longest_pause.max(pause);
        counts.longest_quiet_pause = counts.longest_quiet_pause.max(quiet);
    }

    pub(super) fn add_recovery(&self, time: Duration) {
        let mut counts = lock(&self.0);
        counts.longest_recovery = counts.longest_recovery.max(time);
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.0).clone()
    }

    pub(super) fn failures(&self) -> u64 {
        lock(&self.0).failures
    }

    /// The failures in words behind the first `known` ones.
    pub(super) fn problems_after(&self, known: usize) -> Vec<String> {
        lock(&self.0).problems.iter().skip(known).cloned().collect()
    }
}

impl Counts {
    /// Streams with this outcome.
    pub(super) fn with_outcome(&self, outcome: Outcome) -> u64 {
        self.streams.iter().filter(|((_, other), _)| *other == outcome).map(|(_, count)| count).sum()
    }
}
