//! What goes wrong, and when.

use std::ops::Range;
use std::time::Duration;

use super::{HEALED, SERVER};
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::net::{Fate, Notice};

/// Something that goes wrong from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One of the links that are up is cut.
    CutLink(Notice),
    /// One of the links that are up carries nothing for a while.
    StallLink(Duration),
    /// The server can't be reached for a while; what is connected stays connected.
    BarServer(Fate, Duration),
    /// Name lookups of one host fail for a while.
    BreakLookups {
        /// The host; 0 is the server.
        host: usize,
        /// For so long.
        length: Duration,
    },
    /// One machine sleeps for a while.
    Suspend {
        /// The host; 0 is the server.
        host: usize,
        /// For so long.
        length: Duration,
    },
    /// The process of one host ends and starts again after a while.
    Restart {
        /// The host; 0 is the server.
        host: usize,
        /// How it ends.
        exit: Exit,
        /// For so long it is down.
        down: Duration,
    },
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By a command, with this long for its channels.
    Asked(Duration),
    /// At once; its kernel closes what it had open.
    Killed,
    /// With its kernel, so that nobody learns of it.
    Unplugged,
}

/// How many kinds of faults there are.
const KINDS: u64 = 6;

/// At most so many faults of one kind occur.
const MOST: u64 = 5;

/// At most so many links are cut while conversations are under way.
const MOST_CUTS: u64 = 12;

/// Draws which kinds of faults occur at all, and how often. `starts`: of the conversations.
pub(super) fn draw(clients: usize, starts: &[Time], dice: &mut Dice) -> Vec<(Time, Fault)> {
    let mut faults = Vec::new();
    for kind in 0..KINDS {
        if dice.chance(60) {
            continue;
        }
        for _ in 0..dice.between(1, MOST) {
            let at = Time::ZERO + dice.duration(Duration::from_millis(1), HEALED.since_start());
            faults.push((at, draw_one(kind, clients, HEALED - at, dice)));
        }
    }
    if dice.chance(40) && !starts.is_empty() {
        for _ in 0..dice.between(1, MOST_CUTS) {
            let at = *dice.pick(starts) + dice.duration(Duration::from_micros(100), Duration::from_secs(5));
            if at < HEALED {
                faults.push((at, Fault::CutLink(*dice.pick(&[Notice::Both, Notice::Dialer]))));
            }
        }
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// Draws what happens to one provider in particular, mostly when it is about to be asked for something:
/// its work is for the others then. `starts`: of the conversations.
pub(super) fn draw_failover(providers: Range<usize>, starts: &[Time], dice: &mut Dice) -> Vec<(Time, Fault)> {
    let count = if dice.chance(60) && !providers.is_empty() { dice.between(1, 3) } else { 0 };
    let host = dice.between(providers.start as u64, providers.end.saturating_sub(1) as u64) as usize;
    let fault = |_| {
        let start = dice.pick(starts).since_start();
        let at = match dice.chance(70) {
            true => start.saturating_sub(dice.duration(Duration::from_micros(100), Duration::from_secs(2))),
            false => start + dice.duration(Duration::from_micros(100), Duration::from_secs(2)),
        };
        // Every process has come into being by then.
        let at = Time::ZERO + at.clamp(Duration::from_millis(1), HEALED.since_start());
        let length = dice.duration(Duration::from_millis(1), Duration::from_secs(60)).min(HEALED - at);
        let fault = match dice.chance(50) {
            true => Fault::Suspend { host, length },
            false => Fault::Restart { host, exit: exit(length, dice), down: length },
        };
        (at, fault)
    };
    (0..count).map(fault).collect()
}

/// How a process ends, within `length` if it is asked.
fn exit(length: Duration, dice: &mut Dice) -> Exit {
    let drain = length.min(Duration::from_secs(5));
    *dice.pick(&[Exit::Asked(drain), Exit::Killed, Exit::Unplugged])
}

/// No fault outlasts `rest`.
fn draw_one(kind: u64, clients: usize, rest: Duration, dice: &mut Dice) -> Fault {
    let length = dice.duration(Duration::from_millis(1), Duration::from_secs(60)).min(rest);
    let host = dice.below(clients as u64 + 1) as usize;
    match kind {
        0 => Fault::CutLink(*dice.pick(&[Notice::Both, Notice::Dialer, Notice::Listener, Notice::Neither])),
        1 => Fault::StallLink(length),
        2 => Fault::BarServer(*dice.pick(&[Fate::Refused, Fate::Silent, Fate::Unreachable]), length),
        3 => Fault::BreakLookups { host, length },
        4 => Fault::Suspend { host, length },
        _ => {
            let exit = exit(length, dice);
            Fault::Restart { host: SERVER, exit, down: length.min(Duration::from_secs(10)) }
        }
    }
}
