//! What the two ends of a stream do, drawn from the seed and the number of the stream.

use std::time::Duration;

use crate::interop::pattern::Pattern;
use crate::sim::Dice;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// More than all buffers on the way.
const ENDLESS: u64 = 64 * MIB;

/// What a stream is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A short question, a short answer.
    Request,
    /// Much from the target.
    Download,
    /// Much to the target.
    Upload,
    /// Much both ways at once.
    Duplex,
    /// The target answers only after it has seen the end.
    HalfClose,
    /// An application that reads little by little.
    SlowReader,
    /// A target that reads little by little.
    SlowTarget,
    /// An application that stops reading for seconds.
    StalledReader,
    /// An application that stops reading for ever.
    SleepingReader,
    /// A target that stops reading for ever.
    SleepingTarget,
    /// Tiny pieces both ways, for seconds.
    Trickle,
    /// An application that resets midway.
    ReaderResets,
    /// A target that resets midway.
    TargetResets,
    /// A target that does not listen.
    Refused,
    /// Datagrams.
    Udp,
}

/// How often each kind is drawn, relative to the others.
const WEIGHTS: [(Kind, u64); 15] = [
    (Kind::Request, 30),
    (Kind::Download, 10),
    (Kind::Upload, 10),
    (Kind::Duplex, 6),
    (Kind::HalfClose, 10),
    (Kind::SlowReader, 4),
    (Kind::SlowTarget, 4),
    (Kind::StalledReader, 4),
    (Kind::SleepingReader, 2),
    (Kind::SleepingTarget, 2),
    (Kind::Trickle, 6),
    (Kind::ReaderResets, 4),
    (Kind::TargetResets, 4),
    (Kind::Refused, 4),
    (Kind::Udp, 4),
];

impl Kind {
    /// A name for tables and messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Duplex => "duplex",
            Self::HalfClose => "half-close",
            Self::SlowReader => "slow reader",
            Self::SlowTarget => "slow target",
            Self::StalledReader => "stalled reader",
            Self::SleepingReader => "sleeping reader",
            Self::SleepingTarget => "sleeping target",
            Self::Trickle => "trickle",
            Self::ReaderResets => "reader resets",
            Self::TargetResets => "target resets",
            Self::Refused => "refused",
            Self::Udp => "UDP",
        }
    }

    /// Whether it needs a window per channel and half-close, which only our own programs have: without the one a late
    /// reader holds up others, without the other an end cuts what is still on its way back.
    fn needs_extensions(self) -> bool {
        match self {
            Self::HalfClose
            | Self::SlowReader
            | Self::SlowTarget
            | Self::StalledReader
            | Self::SleepingReader
            | Self::SleepingTarget => true,
            Self::Request
            | Self::Download
            | Self::Upload
            | Self::Duplex
            | Self::Trickle
            | Self::ReaderResets
            | Self::TargetResets
            | Self::Refused
            | Self::Udp => false,
        }
    }
}

/// An end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The application.
    App,
    /// What it talks to.
    Target,
}

impl Role {
    pub(super) const BOTH: [Self; 2] = [Self::App, Self::Target];

    pub(super) fn other(self) -> Self {
        match self {
            Self::App => Self::Target,
            Self::Target => Self::App,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::App => "application",
            Self::Target => "target",
        }
    }
}

/// How an application gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Socks,
    HttpConnect,
    /// Without a proxy: what the entry leads to is the target.
    #[cfg(test)]
    Direct,
}

/// When a direction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    AtOnce,
    /// Its sender has received so many bytes.
    Received(u64),
    /// Its sender has seen the other direction's end.
    Ended,
}

/// How fast one end works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The most bytes of one read or write.
    pub(super) piece: usize,
    /// What passes before the next one.
    pub(super) pause: Duration,
}

impl Pace {
    const FULL: Self = Self { piece: 64 * 1024, pause: Duration::ZERO };
}

/// A reader's break.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    /// Bytes that are read before.
    pub(super) at: u64,
    /// [`Duration::MAX`] is for ever.
    pub(super) length: Duration,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) length: u64,
    pub(super) start: Start,
    pub(super) writing: Pace,
    pub(super) reading: Pace,
    pub(super) stall: Option<Stall>,
}

impl Flow {
    pub(super) fn of(length: u64) -> Self {
        Self { length, start: Start::AtOnce, writing: Pace::FULL, reading: Pace::FULL, stall: None }
    }

    fn drawn(dice: &mut Dice, low: u64, high: u64) -> Self {
        Self::of(dice.size(low as usize, high as usize) as u64)
    }

    fn read_slowly(mut self, dice: &mut Dice) -> Self {
        self.reading = Pace {
            piece: dice.between(8 * KIB, 32 * KIB) as usize,
            pause: Duration::from_millis(dice.between(10, 60)),
        };
        self
    }

    fn stalled(mut self, dice: &mut Dice, length: Duration) -> Self {
        self.stall = Some(Stall { at: dice.below(self.length / 2), length });
        self
    }

    fn trickling(dice: &mut Dice) -> Self {
        let piece = dice.between(1, 60);
        let mut flow = Self::of(piece * dice.between(20, 200));
        flow.writing = Pace { piece: piece as usize, pause: Duration::from_millis(dice.between(5, 40)) };
        flow
    }
}

/// What the two ends of a stream do.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// The number of the stream.
    pub(super) key: u64,
    pub(super) kind: Kind,
    /// Which SOCKS port the application uses.
    pub(super) entry: usize,
    pub(super) door: Door,
    /// From the application to the target.
    pub(super) up: Flow,
    /// From the target to the application.
    pub(super) down: Flow,
    /// No end is sent before everything has been received.
    pub(super) late_ends: bool,
    /// Who resets the connection, and how long after its begin.
    pub(super) abort: Option<(Role, Duration)>,
}

impl Script {
    /// Script `key` of a seed, for one of `entries` SOCKS ports; only what any program can do unless
    /// all have our `extensions`.
    pub(super) fn draw(seed: u64, key: u64, entries: usize, extensions: bool) -> Self {
        let mut dice = Dice::new(seed, key);
        let kind = draw_kind(&mut dice, extensions);
        let entry = dice.below(entries as u64) as usize;
        let door = if dice.chance(15) { Door::HttpConnect } else { Door::Socks };
        let (up, down) = (Flow::of(0), Flow::of(0));
        let mut script = Self { key, kind, entry, door, up, down, late_ends: !extensions, abort: None };
        script.fill(&mut dice);
        script
    }

    fn fill(&mut self, dice: &mut Dice) {
        match self.kind {
            Kind::Request => {
                self.up = Flow::drawn(dice, 1, 4 * KIB);
                self.down = Flow::drawn(dice, 1, 64 * KIB);
                self.down.start = Start::Received(self.up.length);
            }
            Kind::Download => self.down = Flow::drawn(dice, 64 * KIB, 16 * MIB),
            Kind::Upload => self.up = Flow::drawn(dice, 64 * KIB, 16 * MIB),
            Kind::Duplex => {
                self.up = Flow::drawn(dice, 64 * KIB, 8 * MIB);
                self.down = Flow::drawn(dice, 64 * KIB, 8 * MIB);
            }
            Kind::HalfClose => {
                self.up = Flow::drawn(dice, 1, MIB);
                self.down = Flow::drawn(dice, 1, MIB);
                self.down.start = Start::Ended;
            }
            Kind::SlowReader => self.down = Flow::drawn(dice, 64 * KIB, MIB).read_slowly(dice),
            Kind::SlowTarget => self.up = Flow::drawn(dice, 64 * KIB, MIB).read_slowly(dice),
            Kind::StalledReader => {
                let length = Duration::from_millis(dice.between(1000, 8000));
                self.down = Flow::drawn(dice, MIB, 8 * MIB).stalled(dice, length);
            }
            Kind::SleepingReader => {
                self.down = Flow::of(ENDLESS).stalled(dice, Duration::MAX);
                self.abort = Some((Role::App, for_long(dice)));
            }
            Kind::SleepingTarget => {
                self.up = Flow::of(ENDLESS).stalled(dice, Duration::MAX);
                self.abort = Some((Role::App, for_long(dice)));
            }
            Kind::Trickle => {
                self.up = Flow::trickling(dice);
                self.down = Flow::trickling(dice);
            }
            Kind::ReaderResets | Kind::TargetResets => {
                let role = if self.kind == Kind::ReaderResets { Role::App } else { Role::Target };
                self.up = Flow::of(ENDLESS);
                self.down = Flow::of(ENDLESS);
                let after = dice.duration(Duration::from_millis(20), Duration::from_secs(2));
                self.abort = Some((role, after));
            }
            Kind::Refused | Kind::Udp => {}
        }
    }

    /// The direction in which `role` sends.
    pub(super) fn outgoing(&self, role: Role) -> &Flow {
        match role {
            Role::App => &self.up,
            Role::Target => &self.down,
        }
    }

    /// The direction in which `role` receives.
    pub(super) fn incoming(&self, role: Role) -> &Flow {
        self.outgoing(role.other())
    }

    /// The bytes that `role` sends.
    pub(super) fn pattern(&self, role: Role) -> Pattern {
        let key = self.key.wrapping_mul(2);
        Pattern::new(match role {
            Role::App => key,
            Role::Target => key.wrapping_add(1),
        })
    }
}

fn draw_kind(dice: &mut Dice, extensions: bool) -> Kind {
    let offered = || WEIGHTS.iter().filter(|(kind, _)| extensions || !kind.needs_extensions());
    let mut number = dice.below(offered().map(|(_, weight)| weight).sum());
    for &(kind, weight) in offered() {
        if number < weight {
            return kind;
        }
        number -= weight;
    }
    unreachable!("the number is below the sum of all weights")
}

/// Half a minute at most, or until nobody is left.
fn for_long(dice: &mut Dice) -> Duration {
    if dice.chance(30) { Duration::MAX } else { Duration::from_millis(dice.between(3000, 30_000)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_follows_from_seed_and_key_alone() {
        let text = |seed, key| format!("{:?}", Script::draw(seed, key, 2, true));
        assert_eq!(text(1, 5), text(1, 5));
        assert_ne!(text(1, 5), text(2, 5));
        assert_ne!(text(1, 5), text(1, 6));
    }

    #[test]
    fn every_kind_is_drawn_but_with_others_only_what_they_can_do() {
        let drawn = |extensions| (0..1000).map(move |key| Script::draw(3, key, 2, extensions).kind);
        for (kind, _) in WEIGHTS {
            assert!(drawn(true).any(|other| other == kind), "{}", kind.name());
            assert_eq!(drawn(false).any(|other| other == kind), !kind.needs_extensions(), "{}", kind.name());
        }
    }
}
