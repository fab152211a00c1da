//! What goes wrong, drawn from the seed, and what it excuses.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use super::script::Role;
use super::stream::lock;
use crate::sim::Dice;

/// How long after a fault a stream that does not move is not yet suspicious.
const AFTERMATH: Duration = Duration::from_secs(3);
/// Dice of the faults; those of the streams are numbered by them from 0 on.
const FAULT_DICE: u64 = 1 << 40;

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Class {
    /// Links become slow: no fault, but a reason for some.
    Weather,
    /// Links stand still, in one direction or both.
    Stall,
    /// Links are cut: by FIN, by RST, or silently.
    Cut,
    /// Processes are stopped for a while.
    Freeze,
    /// Processes are killed and started again.
    Kill,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 5] = [Self::Weather, Self::Stall, Self::Cut, Self::Freeze, Self::Kill];

    /// A name for tables and charts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Weather => "slow link",
            Self::Stall => "stall",
            Self::Cut => "cut",
            Self::Freeze => "freeze",
            Self::Kill => "kill",
        }
    }

    fn weight(self) -> u64 {
        match self {
            Self::Weather | Self::Stall | Self::Freeze => 2,
            Self::Cut => 5,
            Self::Kill => 3,
        }
    }
}

/// How a link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Both ends see a regular end.
    Fin,
    /// Both ends see a reset.
    Rst,
    /// Everything is swallowed for so long; then both see a reset.
    HalfOpen(Duration),
    /// The side that has connected sees a reset, the other one nothing for so long.
    Orphan(Duration),
}

/// What a link is like; [`Weather::FAIR`] changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weather {
    /// How long bytes are on their way, in each direction.
    pub(super) latency: Duration,
    /// Bytes per second in each direction.
    pub(super) rate: Option<u64>,
}

impl Weather {
    pub(super) const FAIR: Self = Self { latency: Duration::ZERO, rate: None };
}

/// Something that goes wrong. Numbers of links and processes are those of the network's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Weather {
        link: usize,
        weather: Weather,
        length: Duration,
    },
    Stall {
        link: usize,
        up: bool,
        down: bool,
        length: Duration,
    },
    Cut {
        link: usize,
        how: Cut,
    },
    /// The link is cut again whenever it is there again.
    Burst {
        link: usize,
        cuts: u64,
    },
    Freeze {
        process: usize,
        length: Duration,
    },
    Kill {
        process: usize,
        down: Duration,
    },
}

impl Fault {
    /// Fault `number` of a seed, and how long to wait before it.
    ///
    /// # Panics
    /// Without a class.
    pub(super) fn draw(
        seed: u64,
        number: u64,
        classes: &[Class],
        links: usize,
        processes: usize,
    ) -> (Duration, Self) {
        let mut dice = Dice::new(seed, FAULT_DICE + number);
        let pause = dice.duration(Duration::from_millis(200), Duration::from_secs(3));
        let link = dice.below(links as u64) as usize;
        let process = dice.below(processes as u64) as usize;
        let fault = match draw_class(&mut dice, classes) {
            Class::Weather => Self::Weather {
                link,
                weather: Weather {
                    latency: Duration::from_millis(dice.between(0, 120)),
                    rate: dice.chance(60).then(|| dice.size(512 << 10, 32 << 20) as u64),
                },
                length: seconds(&mut dice, 2, 8),
            },
            Class::Stall => {
                let (up, down) = *dice.pick(&[(true, false), (false, true), (true, true)]);
                Self::Stall { link, up, down, length: seconds(&mut dice, 1, 5) }
            }
            Class::Cut if dice.chance(20) => Self::Burst { link, cuts: dice.between(2, 4) },
            Class::Cut => Self::Cut { link, how: draw_cut(&mut dice) },
            Class::Freeze => Self::Freeze { process, length: seconds(&mut dice, 1, 5) },
            Class::Kill => Self::Kill { process, down: Duration::from_millis(dice.between(0, 2000)) },
        };
        (pause, fault)
    }

    pub(super) fn class(self) -> Class {
        match self {
            Self::Weather { .. } => Class::Weather,
            Self::Stall { .. } => Class::Stall,
            Self::Cut { .. } | Self::Burst { .. } => Class::Cut,
            Self::Freeze { .. } => Class::Freeze,
            Self::Kill { .. } => Class::Kill,
        }
    }
}

fn draw_class(dice: &mut Dice, classes: &[Class]) -> Class {
    let mut number = dice.below(classes.iter().map(|class| class.weight()).sum());
    for &class in classes {
        if number < class.weight() {
            return class;
        }
        number -= class.weight();
    }
    panic!("no class of faults")
}

fn draw_cut(dice: &mut Dice) -> Cut {
    let silence = dice.duration(Duration::from_millis(200), Duration::from_secs(4));
    *dice.pick(&[Cut::Fin, Cut::Rst, Cut::HalfOpen(silence), Cut::Orphan(silence)])
}

fn seconds(dice: &mut Dice, low: u64, high: u64) -> Duration {
    Duration::from_millis(dice.between(low * 1000, high * 1000))
}

/// What a fault may do to streams that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excuse {
    /// They pause.
    Nothing,
    /// Those that are being opened fail.
    Opening,
    /// They are reset.
    Everything,
}

/// What all faults together may do to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excuses {
    pub(super) excuse: Excuse,
    /// A process has been killed that has the other end of the application's socket: the kernel closes it as if all had
    /// been said.
    pub(super) app_cut_short: bool,
    /// The same of the target's socket.
    pub(super) target_cut_short: bool,
}

impl Excuses {
    /// There was no fault.
    pub(super) const NONE: Self =
        Self { excuse: Excuse::Nothing, app_cut_short: false, target_cut_short: false };

    pub(super) fn is_cut_short(self, role: Role) -> bool {
        match role {
            Role::App => self.app_cut_short,
            Role::Target => self.target_cut_short,
        }
    }
}

/// A fault as it happened.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    pub(super) class: Class,
    pub(super) text: String,
    /// The only SOCKS port whose streams it touches, if it does not touch all.
    pub(super) entry: Option<usize>,
    pub(super) excuse: Excuse,
    /// Whose sockets lead to a process that is killed.
    pub(super) cuts_short: Option<Role>,
    pub(super) started: Duration,
    /// When everything worked again.
    pub(super) over: Option<Duration>,
}

impl Happening {
    fn meets(&self, entry: usize, from: Duration, to: Duration) -> bool {
        let over = self.over.unwrap_or(Duration::MAX);
        self.entry.is_none_or(|only| only == entry) && self.started <= to && from <= over
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3} s: {}", self.started.as_secs_f64(), self.text)?;
        match self.over {
            Some(over) => write!(f, ", over after {:.3} s", (over - self.started).as_secs_f64()),
            None => f.write_str(", not over"),
        }
    }
}

/// All faults of a run, in the order of their begin.
#[derive(Debug, Default)]
pub(super) struct FaultLog(Mutex<Vec<Happening>>);

impl FaultLog {
    /// Notes the begin of a fault, and returns its number.
    pub(super) fn begin(&self, happening: Happening) -> usize {
        let mut log = lock(&self.0);
        log.push(happening);
        log.len() - 1
    }

    /// Notes that everything works again, and that a fault has turned out worse than it was meant.
    pub(super) fn end(&self, number: usize, now: Duration, excuse: Excuse) {
        let happening = &mut lock(&self.0)[number];
        happening.over = Some(now);
        happening.excuse = happening.excuse.max(excuse);
    }

    /// What is excused to a stream of `entry` that lives from `from` to `to`.
    pub(super) fn excuses(&self, entry: usize, from: Duration, to: Duration) -> Excuses {
        let mut excuses = Excuses::NONE;
        for happening in lock(&self.0).iter().filter(|happening| happening.meets(entry, from, to)) {
            excuses.excuse = excuses.excuse.max(happening.excuse);
            excuses.app_cut_short |= happening.cuts_short == Some(Role::App);
            excuses.target_cut_short |= happening.cuts_short == Some(Role::Target);
        }
        excuses
    }

    /// Whether a stream of `entry` may stand still: there is a fault, or there has been one just now. A slow link is
    /// no reason.
    pub(super) fn is_on(&self, entry: usize, now: Duration) -> bool {
        let from = now.saturating_sub(AFTERMATH);
        lock(&self.0)
            .iter()
            .any(|happening| happening.class != Class::Weather && happening.meets(entry, from, now))
    }

    /// Whether there was anything, be it a slow link.
    pub(super) fn has_met(&self, entry: usize, from: Duration, to: Duration) -> bool {
        lock(&self.0).iter().any(|happening| happening.meets(entry, from, to))
    }

    /// The faults that a stream of `entry` may have met, and some before, for messages.
    pub(super) fn near(&self, entry: usize, from: Duration, to: Duration) -> Vec<Happening> {
        const BEFORE: Duration = Duration::from_secs(15);
        let log = lock(&self.0);
        log.iter()
            .filter(|happening| happening.meets(entry, from.saturating_sub(BEFORE), to))
            .cloned()
            .collect()
    }

    /// What fault `number` is.
    pub(super) fn text(&self, number: usize) -> String {
        lock(&self.0)[number].text.clone()
    }

    pub(super) fn all(&self) -> Vec<Happening> {
        lock(&self.0).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// A kill from second 10 to second 12 that touches entry 1 only.
    fn log() -> FaultLog {
        let log = FaultLog::default();
        let number = log.begin(Happening {
            class: Class::Kill,
            text: "kill".to_owned(),
            entry: Some(1),
            excuse: Excuse::Everything,
            cuts_short: Some(Role::Target),
            started: at(10),
            over: None,
        });
        log.end(number, at(12), Excuse::Nothing);
        log
    }

    #[test]
    fn a_fault_excuses_only_whom_it_meets() {
        let excuses = Excuses { excuse: Excuse::Everything, app_cut_short: false, target_cut_short: true };
        assert_eq!(log().excuses(1, at(11), at(30)), excuses);
        assert_eq!(log().excuses(1, at(0), at(10)), excuses);
        assert_eq!(log().excuses(1, at(0), at(9)), Excuses::NONE, "over before");
        assert_eq!(log().excuses(1, at(13), at(30)), Excuses::NONE, "begun behind");
        assert_eq!(log().excuses(0, at(0), at(30)), Excuses::NONE, "another entry");
    }

    #[test]
    fn a_fault_is_on_until_its_aftermath_is_over() {
        assert!(!log().is_on(1, at(9)));
        assert!(log().is_on(1, at(12) + AFTERMATH));
        assert!(!log().is_on(1, at(13) + AFTERMATH));
    }

    #[test]
    fn faults_follow_from_the_seed_and_come_in_all_classes() {
        let draw = |number| Fault::draw(5, number, &Class::ALL, 2, 3);
        assert_eq!(draw(7), draw(7));
        for class in Class::ALL {
            assert!((0..100).any(|number| draw(number).1.class() == class), "{}", class.name());
        }
        assert!((0..100).all(|number| Fault::draw(5, number, &[Class::Cut], 2, 3).1.class() == Class::Cut));
    }
}
