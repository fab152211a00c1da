//! Applications: callers that speak SOCKS5 to a client, and targets that a server connects to.
//!
//! Each conversation has a caller and a target of its own. Both follow a script, send bytes of a
//! [`Pattern`], and keep account of what they sent, received, and heard of the other's end.

mod caller;
pub mod chat;
pub mod intruder;
mod nonsense;
pub mod plan;
pub mod script;
mod socks;
mod speaker;

use std::fmt;
use std::net::IpAddr;

use self::caller::Caller;
pub use self::caller::Outcome;
use self::plan::TalkPlan;
pub use self::socks::{Answer, SocksPlan, SocksRequest};
use self::speaker::Speaker;
use super::check::{Verdict, Violation, dialled_by_the_right_host, whole_or_reset};
use super::clock::Time;
use super::dice::Dice;
use super::model::{Account, Direction, Heard, Span};
use super::net::{EndId, Network, Owner, Wake};
use super::pattern::Pattern;
use super::trace::Trace;

/// What applications act in.
pub(crate) struct Scene<'a> {
    pub(crate) net: &'a mut Network,
    pub(crate) trace: &'a mut Trace,
    pub(crate) now: Time,
}

impl Scene<'_> {
    fn note(&mut self, who: impl fmt::Display, what: impl fmt::Display) {
        self.trace.note(self.now, who, what);
    }
}

/// What one end says and what it has to hear.
#[derive(Clone, Copy, Debug)]
struct Voices {
    own: Pattern,
    /// `None` if anything may come: somebody in between is not to be trusted.
    other: Option<Pattern>,
}

/// One conversation.
#[derive(Debug)]
pub struct Talk {
    /// What it is going to be.
    pub plan: TalkPlan,
    /// Who may connect to its target.
    diallers: Vec<Dialler>,
    /// Whether what arrives can be held against what was sent.
    is_honest: bool,
    /// What the target says and has to hear.
    answer: Voices,
    caller: Caller,
    /// Connections that came to the target. More than one if several addresses were raced, or if a
    /// provider was asked in place of another.
    connections: Vec<Connection>,
}

/// A host that connects to targets for a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialler {
    /// Its number.
    pub host: usize,
    /// Where its connections come from.
    pub address: IpAddr,
    /// Whether all links on the way to it tell the other side about the end of one direction.
    pub finish: bool,
}

/// A connection that came to a target.
#[derive(Debug)]
struct Connection {
    speaker: Speaker,
    dialler: Dialler,
}

impl Talk {
    /// A conversation with a target to which `diallers` may connect; and with an honest server in
    /// between, or with an impostor.
    ///
    /// # Panics
    /// If somebody listens at the target's address already.
    #[must_use]
    pub fn new(
        plan: TalkPlan,
        diallers: Vec<Dialler>,
        is_honest: bool,
        dice: Dice,
        net: &mut Network,
    ) -> Self {
        let id = plan.id;
        for address in &plan.destination.alive {
            net.listen(*address, Owner::Target(id)).expect("each target has addresses of its own");
        }
        let (up, down) = (Pattern::new(2 * id as u64), Pattern::new(2 * id as u64 + 1));
        let voices = Voices { own: up, other: is_honest.then_some(down) };
        let caller = Caller::new(format!("caller{id}"), plan.clone(), voices, Owner::Caller(id), dice);
        Self {
            plan,
            diallers,
            is_honest,
            answer: Voices { own: down, other: is_honest.then_some(up) },
            caller,
            connections: Vec::new(),
        }
    }

    /// When it must run next even if nothing happens on the network.
    #[must_use]
    pub fn wake(&self, now: Time) -> Option<Time> {
        self.speakers().filter_map(|target| target.wake(now)).chain(self.caller.wake(now)).min()
    }

    /// Whether both ends are done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.caller.outcome().is_some() && self.speakers().all(Speaker::has_left)
    }

    /// What became of the caller.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.caller.outcome().map(|(_, outcome)| outcome)
    }

    /// From the caller's first step until both ends are done.
    #[must_use]
    pub fn span(&self) -> Span {
        let ends = self.speakers().filter_map(|target| target.account.left.map(|(at, _)| at));
        let until = ends.chain(self.caller.outcome().map(|(at, _)| at)).max();
        Span { from: self.plan.start, until: until.unwrap_or(self.plan.start) }
    }

    /// What the caller did with its stream, if it got one.
    #[must_use]
    pub fn caller(&self) -> Option<&Account> {
        self.caller.account()
    }

    /// What the target did with each connection that came.
    pub fn targets(&self) -> impl Iterator<Item = &Account> {
        self.speakers().map(|target| &target.account)
    }

    /// As [`Self::targets`], with whom each connection came from.
    pub fn connections(&self) -> impl Iterator<Item = (&Account, Dialler)> {
        self.connections.iter().map(|connection| (&connection.speaker.account, connection.dialler))
    }

    /// Who may connect to its target.
    #[must_use]
    pub fn diallers(&self) -> &[Dialler] {
        &self.diallers
    }

    fn speakers(&self) -> impl Iterator<Item = &Speaker> {
        self.connections.iter().map(|connection| &connection.speaker)
    }

    /// Whether what arrives can be held against what was sent.
    #[must_use]
    pub const fn is_honest(&self) -> bool {
        self.is_honest
    }

    /// Lets both ends do what they can do now.
    ///
    /// # Errors
    /// What came out wrong at one of them.
    pub(crate) fn run(&mut self, proxy_is_gone: bool, scene: &mut Scene<'_>) -> Verdict {
        let id = self.plan.id;
        scene.net.take_wakes(Owner::Caller(id));
        for wake in scene.net.take_wakes(Owner::Target(id)) {
            if let Wake::Listener(address) = wake {
                while let Some(end) = scene.net.accept(address) {
                    self.connect(end, scene)?;
                }
            }
        }
        let sent = self.targets().map(|target| target.sent).max();
        self.caller.run(sent.unwrap_or_default(), proxy_is_gone, scene)?;
        for connection in &mut self.connections {
            connection.speaker.run(self.caller.sent(), scene)?;
        }
        self.judge()
    }

    /// A connection has come to the target.
    fn connect(&mut self, end: EndId, scene: &mut Scene<'_>) -> Verdict {
        let name = format!("target{}.{}", self.plan.id, self.connections.len());
        let from = scene.net.peer_address(end).ip();
        scene.note(&name, format_args!("is connected from {from}"));
        let dialler = dialled_by_the_right_host(&self.diallers, from)?;
        let (script, account) = (self.plan.target.clone(), Account::default());
        let speaker = Speaker::new(name, end, script, self.answer, account, scene.now);
        self.connections.push(Connection { speaker, dialler });
        Ok(())
    }

    /// Holds what was heard at each end against what was said at the other.
    fn judge(&self) -> Verdict {
        let Some(caller) = self.caller.account().filter(|_| self.is_honest) else { return Ok(()) };
        let candidates: Vec<&Account> = self.targets().collect();
        if caller.has_heard(Heard::Eof) {
            // If nobody has connected, it may have been any of them who said so.
            let finish = match candidates.is_empty() {
                true => self.diallers.iter().all(|dialler| dialler.finish),
                false => self.connections().all(|(_, dialler)| dialler.finish),
            };
            self.verdict(Direction::Down, caller, &candidates, finish)?;
        }
        for (target, dialler) in self.connections() {
            // Of several raced connections all but one are closed before they carry a byte.
            let lost_the_race = candidates.len() > 1 && target.received == 0;
            if target.has_heard(Heard::Eof) && !lost_the_race {
                self.verdict(Direction::Up, target, &[caller], dialler.finish)?;
            }
        }
        Ok(())
    }

    fn verdict(
        &self,
        direction: Direction,
        receiver: &Account,
        senders: &[&Account],
        finish: bool,
    ) -> Verdict {
        whole_or_reset(direction, receiver, senders, finish).map_err(|violation| Violation {
            details: format!("conversation {}: {}", self.plan.id, violation.details),
            ..violation
        })
    }
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conversation {} at {} ", self.plan.id, self.plan.entry)?;
        writeln!(f, "from {}: {:?}", self.plan.start, self.caller.outcome())?;
        writeln!(f, "  asked for {} by {:?}", self.plan.destination.target, self.plan.way)?;
        writeln!(f, "  caller: {:?}\n    {:?}", self.plan.caller, self.caller.account())?;
        write!(f, "  target: {:?}", self.plan.target)?;
        self.targets().try_for_each(|target| write!(f, "\n    {target:?}"))
    }
}
