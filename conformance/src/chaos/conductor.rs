//! Makes faults happen, and waits until everything works again.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::Plan;
use super::fault::{Class, Cut, Excuse, Fault, FaultLog, Happening, Weather};
use super::network::{Link, Member, Network};
use super::stream::Clock;
use super::tally::Tally;
use crate::interop::target::{self, Target, read_bytes};
use crate::interop::{Error, Mode, socks};

/// How long an attempt to connect may take, to see whether everything works.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before the next attempt.
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// How long after a fault everything must work again.
const RECOVERY: Duration = Duration::from_secs(30);
/// About what a client of ours waits before it connects again.
const RECONNECT: Duration = Duration::from_millis(1200);
/// When a link returns so shortly before its session ends, it may be too late.
const MARGIN: Duration = Duration::from_secs(2);

/// Whoever makes the faults of a network.
pub(super) struct Conductor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) mode: Mode,
    pub(super) network: &'a Network,
    pub(super) faults: &'a FaultLog,
    pub(super) tally: &'a Tally,
    pub(super) clock: Clock,
    /// Where probes go.
    pub(super) echo: Target,
    /// The links whose weather is bad: which, which happening, and until when.
    pub(super) bad_weather: Vec<(usize, usize, Duration)>,
}

impl<'a> Conductor<'a> {
    /// # Errors
    /// Those of binding a target for probes.
    pub(super) fn new(
        plan: &'a Plan,
        mode: Mode,
        network: &'a Network,
        faults: &'a FaultLog,
        tally: &'a Tally,
        clock: Clock,
    ) -> Result<Self, Error> {
        let echo = Target::local(target::echo)?;
        Ok(Self { plan, mode, network, faults, tally, clock, echo, bad_weather: Vec::new() })
    }

    /// Makes faults one after the other until `until`, numbered from `first` on; returns the next number. The weather
    /// is fair in the end.
    ///
    /// # Errors
    /// Those of killing and starting processes.
    pub(super) fn run(&mut self, first: u64, until: Duration) -> Result<u64, Error> {
        let (links, members) = (self.network.links.len(), self.network.members.len());
        let mut number = first;
        if !self.plan.faults.is_empty() {
            loop {
                let (pause, fault) = Fault::draw(self.plan.seed, number, &self.plan.faults, links, members);
                if self.clock.now() + pause >= until {
                    break;
                }
                thread::sleep(pause);
                self.clear_up(self.clock.now());
                self.strike(fault)?;
                number += 1;
            }
        }
        thread::sleep(until.saturating_sub(self.clock.now()));
        self.clear_up(Duration::MAX);
        Ok(number)
    }

    /// Ends the bad weather that is due.
    fn clear_up(&mut self, now: Duration) {
        let (due, left) = self.bad_weather.drain(..).partition::<Vec<_>, _>(|(_, _, until)| *until <= now);
        self.bad_weather = left;
        for (link, number, _) in due {
            self.network.links[link].proxy.set_weather(Weather::FAIR);
            self.faults.end(number, self.clock.now(), Excuse::Nothing);
        }
    }

    fn strike(&mut self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::Weather { link, weather, length } => {
                if self.bad_weather.iter().all(|(other, _, _)| *other != link) {
                    let target = &self.network.links[link];
                    let number = self.begin(fault, link_text(target, &format!("{weather:?}")), target.entry);
                    target.proxy.set_weather(weather);
                    self.bad_weather.push((link, number, self.clock.now() + length));
                }
                Ok(())
            }
            Fault::Stall { link, up, down, length } => self.on_link(fault, link, |link| {
                link.proxy.stall(up, down);
                thread::sleep(length);
                link.proxy.stall(false, false);
            }),
            Fault::Cut { link, how } => self.on_link(fault, link, |link| {
                link.proxy.cut(how);
                if let Cut::HalfOpen(silence) = how {
                    thread::sleep(silence);
                }
            }),
            Fault::Burst { link, cuts } => self.on_link(fault, link, |link| {
                for _ in 0..cuts {
                    link.proxy.cut(Cut::Rst);
                    thread::sleep(RECONNECT);
                }
            }),
            Fault::Freeze { process, length } => self.on_member(fault, process, |member| {
                member.freeze()?;
                thread::sleep(length);
                Ok(member.thaw()?)
            }),
            Fault::Kill { process, down } => {
                let wrong = self.network.members[process].wrong()?;
                for problem in wrong {
                    self.tally.add_failure(problem);
                }
                self.on_member(fault, process, |member| {
                    member.kill()?;
                    thread::sleep(down);
                    member.restart()
                })
            }
        }
    }

    fn on_link(&mut self, fault: Fault, link: usize, trouble: impl FnOnce(&Link)) -> Result<(), Error> {
        let link = &self.network.links[link];
        let number = self.begin(fault, link_text(link, &format!("{fault:?}")), link.entry);
        trouble(link);
        self.recover(number, link.entry);
        Ok(())
    }

    fn on_member(
        &mut self,
        fault: Fault,
        member: usize,
        trouble: impl FnOnce(&Member) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let member = &self.network.members[member];
        let number = self.begin(fault, format!("{}: {fault:?}", member.name), member.entry);
        trouble(member)?;
        self.recover(number, member.entry);
        Ok(())
    }

    fn begin(&self, fault: Fault, text: String, entry: Option<usize>) -> usize {
        let class = fault.class();
        let excuse = self.excuse_of(class);
        let cuts_short =
            if let Fault::Kill { process, .. } = fault { self.network.members[process].faces } else { None };
        let started = self.clock.now();
        self.faults.begin(Happening { class, text, entry, excuse, cuts_short, started, over: None })
    }

    /// What a fault may do. A provider that does not answer is passed over, which applications may notice.
    fn excuse_of(&self, class: Class) -> Excuse {
        match class {
            Class::Kill => Excuse::Everything,
            Class::Cut if !self.plan.has_sessions() => Excuse::Everything,
            Class::Weather => Excuse::Nothing,
            Class::Cut | Class::Stall | Class::Freeze if self.mode == Mode::Forward => Excuse::Nothing,
            Class::Cut | Class::Stall | Class::Freeze => Excuse::Opening,
        }
    }

    /// Waits until connections work by all SOCKS ports that a fault has touched.
    fn recover(&mut self, number: usize, entry: Option<usize>) {
        let started = self.clock.now();
        let entries = match entry {
            Some(entry) => &self.network.entries[entry..=entry],
            None => &self.network.entries[..],
        };
        let mut outcome = Err("not tried".to_owned());
        while outcome.is_err() && self.clock.now() < started + RECOVERY {
            self.clear_up(self.clock.now());
            outcome = self.wait_until_all_work(entries, PROBE_TIMEOUT);
        }
        if let Err(problem) = outcome {
            let transcript = self.network.transcript();
            self.tally.add_failure(format!("after {}: {problem}\n{transcript}", self.faults.text(number)));
        }
        let took = self.clock.now().saturating_sub(started);
        self.tally.add_recovery(took);
        let late = took + MARGIN > self.plan.grace;
        self.faults.end(number, self.clock.now(), if late { Excuse::Everything } else { Excuse::Nothing });
    }

    /// # Errors
    /// What did not work for that long.
    pub(super) fn wait_until_all_work(&self, entries: &[SocketAddr], limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        for entry in entries {
            while let Err(error) = self.probe(*entry) {
                if Instant::now() >= deadline {
                    return Err(format!("no connection by {entry} works within {limit:?}: {error}"));
                }
                thread::sleep(PROBE_PAUSE);
            }
        }
        Ok(())
    }

    fn probe(&self, entry: SocketAddr) -> Result<(), Error> {
        let mut stream = socks::connect_within(entry, self.echo.address(), PROBE_TIMEOUT)?;
        std::io::Write::write_all(&mut stream, b"ping")?;
        Ok(read_bytes(&mut stream, 4).map(drop)?)
    }
}

fn link_text(link: &Link, what: &str) -> String {
    format!("link of {}: {what}", link.name)
}
