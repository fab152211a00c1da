//! Looks at every stream again and again: whether it moves, and once it is over, whether that was right.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::fault::{Excuse, FaultLog};
use super::judge::{Outcome, Record, Rules};
use super::registry::Registry;
use super::script::Role;
use super::stream::{SideRecord, Stream};

/// How long after the application's end its connection may still become one of the target.
const LATE: Duration = Duration::from_secs(2);

/// The watch over all streams of a network.
pub(super) struct Watch<'a> {
    registry: &'a Registry,
    faults: &'a FaultLog,
    rules: Rules,
    /// How long a stream may stand still while there is no fault.
    patience: Duration,
    /// How much longer if a process has been killed: what it had open is released only then.
    grace: Duration,
    /// Since when each direction of each stream stands still, by the key of the stream and its receiver.
    motions: HashMap<(u64, &'static str), Motion>,
    last: Duration,
}

/// A direction of a stream that should move.
#[derive(Clone, Copy)]
struct Motion {
    /// Bytes sent and received.
    position: (u64, u64),
    /// Since when these are the same.
    since: Duration,
    /// How much of that time was without a fault.
    quiet: Duration,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        faults: &'a FaultLog,
        rules: Rules,
        patience: Duration,
        grace: Duration,
    ) -> Self {
        let last = registry.clock.now();
        Self { registry, faults, rules, patience, grace, motions: HashMap::new(), last }
    }

    /// Looks at all streams once.
    pub(super) fn look(&mut self) {
        let now = self.registry.clock.now();
        let passed = now.saturating_sub(self.last);
        self.last = now;
        for stream in self.registry.all() {
            if stream.is_over(now, LATE) {
                self.conclude(&stream, now);
            } else {
                for receiver in Role::BOTH {
                    self.check_motion(&stream, receiver, now, passed);
                }
            }
        }
    }

    fn check_motion(&mut self, stream: &Stream, receiver: Role, now: Duration, passed: Duration) {
        let script = &stream.script;
        let id = (script.key, receiver.name());
        let position = position(stream, receiver);
        if !wants_to_move(stream, receiver) {
            self.motions.remove(&id);
            return;
        }
        let standing = Motion { position, since: now, quiet: Duration::ZERO };
        let motion = self.motions.entry(id).or_insert(standing);
        if motion.position != position {
            *motion = standing;
            return;
        }
        if !self.faults.is_on(script.entry, now) {
            motion.quiet += passed;
        }
        let (pause, quiet) = (now.saturating_sub(motion.since), motion.quiet);
        let killed = self.faults.excuses(script.entry, stream.started, now).excuse == Excuse::Everything;
        if !killed {
            self.registry.tally.add_pause(pause, quiet);
        }
        let limit = self.patience + if killed { self.grace } else { Duration::ZERO };
        if quiet > limit {
            stream.give_up(format!(
                "stuck: the {} has received nothing for {:.1} s, {:.1} s of it without a fault",
                receiver.name(),
                pause.as_secs_f64(),
                quiet.as_secs_f64()
            ));
        }
    }

    fn conclude(&mut self, stream: &Stream, now: Duration) {
        self.registry.remove(stream);
        for receiver in Role::BOTH {
            self.motions.remove(&(stream.script.key, receiver.name()));
        }
        let ended = Role::BOTH.into_iter().filter_map(|role| stream.side(role).ended()).max().unwrap_or(now);
        let entry = stream.script.entry;
        let record = Record::of(stream);
        let outcome = record.judge(self.rules, self.faults.excuses(entry, stream.started, ended));
        let bytes = record.app.received + record.target.received;
        let tally = &self.registry.tally;
        tally.add_stream(record.kind, outcome.as_ref().map_or(Outcome::Failed, |outcome| *outcome), bytes);
        if let Err(problem) = outcome {
            tally.add_failure(self.describe(stream, ended, &problem));
        }
    }

    fn describe(&self, stream: &Stream, ended: Duration, problem: &str) -> String {
        let script = &stream.script;
        let mut text = format!(
            "stream {} ({}, {:?}, entry {}, from {:.3} s to {:.3} s): {problem}\n",
            script.key,
            script.kind.name(),
            script.door,
            script.entry + 1,
            stream.started.as_secs_f64(),
            ended.as_secs_f64()
        );
        for role in Role::BOTH {
            let SideRecord { sent, finished, received, eof, end } = stream.side(role).record();
            let to_send = script.outgoing(role).length;
            text += &format!(
                "  {}: sent {sent} of {to_send}{}, received {received}{}, {end:?}\n",
                role.name(),
                if finished { " and the end" } else { "" },
                if eof { " and the end" } else { "" },
            );
        }
        for happening in self.faults.near(script.entry, stream.started, ended) {
            text += &format!("  fault at {happening}\n");
        }
        text
    }
}

/// Bytes sent and received on the way to `receiver`.
fn position(stream: &Stream, receiver: Role) -> (u64, u64) {
    let sent = stream.side(receiver.other()).sent.load(SeqCst);
    (sent, stream.side(receiver).received.load(SeqCst))
}

/// Whether both ends of a direction want it to go on: the receiver waits, and there is something to wait for.
fn wants_to_move(stream: &Stream, receiver: Role) -> bool {
    let (receiving, sending) = (stream.side(receiver), stream.side(receiver.other()));
    if !stream.side(Role::App).begun.load(SeqCst) {
        // It is being opened.
        return stream.side(Role::App).ended().is_none();
    }
    let (receiver_over, sender_over) = (receiving.ended().is_some(), sending.ended().is_some());
    if receiver_over && sender_over {
        return false;
    }
    let ready = receiver_over || receiving.reading.load(SeqCst) || !receiving.begun.load(SeqCst);
    let (sent, received) = position(stream, receiver);
    let in_flight = sent > received && !receiver_over;
    let end_due =
        (sending.finished.load(SeqCst) || sender_over) && !receiving.eof.load(SeqCst) && !receiver_over;
    ready && (in_flight || end_due || sending.writing.load(SeqCst))
}
