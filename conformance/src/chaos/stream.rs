//! What is known of a stream while it lives: counters that its two ends write and the watch reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::script::{Role, Script};

/// The time of a run: how long ago it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// A stream, shared by its two ends and the watch.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) script: Script,
    pub(super) started: Duration,
    app: Side,
    target: Side,
    /// Why the two ends shall stop, whatever they are about.
    given_up: Mutex<Option<String>>,
    /// Nobody needs it any more.
    dismissed: AtomicBool,
}

/// One end of a stream.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// It has a connection.
    pub(super) begun: AtomicBool,
    /// Bytes that the kernel has taken.
    pub(super) sent: AtomicU64,
    /// Everything is sent, and so is the end, or is about to be.
    pub(super) finished: AtomicBool,
    /// Bytes that have arrived, all of them right.
    pub(super) received: AtomicU64,
    /// The end has arrived as one, not as a reset.
    pub(super) eof: AtomicBool,
    /// Wants the next byte, or the end.
    pub(super) reading: AtomicBool,
    /// Wants to be rid of the next byte.
    pub(super) writing: AtomicBool,
    end: Mutex<Option<(Duration, End)>>,
}

/// How an end of a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Everything was sent, and the other end's end has arrived.
    Clean,
    /// The connection broke.
    Reset(String),
    /// It reset the connection itself, as the script says.
    Aborted,
    /// There was no connection.
    NotOpened(Refusal),
    /// What arrived is not what was sent.
    Wrong(String),
    /// The watch had seen enough.
    GivenUp,
}

/// Why there was no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The proxy says that the target refused.
    Target,
    /// The proxy says, or does, something else.
    Other(String),
}

/// The counters of a side at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SideRecord {
    pub(super) sent: u64,
    pub(super) finished: bool,
    pub(super) received: u64,
    pub(super) eof: bool,
    pub(super) end: Option<End>,
}

impl Stream {
    pub(super) fn new(script: Script, started: Duration) -> Self {
        Self {
            script,
            started,
            app: Side::default(),
            target: Side::default(),
            given_up: Mutex::new(None),
            dismissed: AtomicBool::new(false),
        }
    }

    pub(super) fn side(&self, role: Role) -> &Side {
        match role {
            Role::App => &self.app,
            Role::Target => &self.target,
        }
    }

    /// Makes both ends stop; the first reason counts.
    pub(super) fn give_up(&self, reason: String) {
        lock(&self.given_up).get_or_insert(reason);
    }

    /// Why the watch made both ends stop.
    pub(super) fn given_up(&self) -> Option<String> {
        lock(&self.given_up).clone()
    }

    /// The run is over: who waits for ever, waits no longer.
    pub(super) fn dismiss(&self) {
        self.dismissed.store(true, SeqCst);
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(SeqCst)
    }

    /// Whether nothing can come any more: both ends are over, or the application is and its connection has not become
    /// one of the target within `patience`.
    pub(super) fn is_over(&self, now: Duration, patience: Duration) -> bool {
        match (self.app.ended(), self.target.ended()) {
            (None, _) => false,
            (Some(_), Some(_)) => true,
            (Some(at), None) => !self.target.begun.load(SeqCst) && now >= at + patience,
        }
    }
}

impl Side {
    /// When it ended.
    pub(super) fn ended(&self) -> Option<Duration> {
        lock(&self.end).as_ref().map(|(at, _)| *at)
    }

    /// Sets how it ended.
    pub(super) fn set_end(&self, at: Duration, end: End) {
        *lock(&self.end) = Some((at, end));
    }

    pub(super) fn record(&self) -> SideRecord {
        SideRecord {
            sent: self.sent.load(SeqCst),
            finished: self.finished.load(SeqCst),
            received: self.received.load(SeqCst),
            eof: self.eof.load(SeqCst),
            end: lock(&self.end).as_ref().map(|(_, end)| end.clone()),
        }
    }
}

/// What a thread that panicked has left behind is looked at all the same.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
