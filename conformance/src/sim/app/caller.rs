//! The application that asks for a conversation.

use std::time::Duration;

use bytes::Bytes;

use super::plan::{TalkPlan, Way};
use super::script::{Begin, Ending};
use super::socks::{Answer, Handshake, Progress, SocksPlan};
use super::speaker::Speaker;
use super::{Scene, Voices};
use crate::sim::check::{Verdict, require};
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::model::Account;
use crate::sim::net::{DialState, EndId, Owner, Read};

/// How long an application waits before it tries a proxy again that is not there.
const RETRY: Duration = Duration::from_secs(1);

/// How long it goes on trying.
const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of the stream that an impatient application sends behind its request.
const EARLY: u64 = 3000;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The proxy was gone for good, or never there.
    NoProxy,
    /// The application lost interest during the handshake.
    Abandoned,
    /// The proxy answered, and not with success.
    Refused(Answer),
    /// The connection ended before there was an answer.
    Unanswered {
        /// Whether the whole request had been sent, and the proxy had said something before.
        asked: bool,
    },
    /// There was a stream.
    Spoke,
}

/// One application.
#[derive(Debug)]
pub(super) struct Caller {
    name: String,
    plan: TalkPlan,
    voices: Voices,
    owner: Owner,
    dice: Dice,
    state: State,
    outcome: Option<(Time, Outcome)>,
}

#[derive(Debug)]
enum State {
    Waiting {
        until: Time,
    },
    Dialing(EndId),
    Asking(EndId, Box<Handshake>),
    Speaking(Box<Speaker>),
    /// The proxy has refused; the connection is read to its end.
    Leaving(EndId, Answer),
    Over,
}

impl Caller {
    pub(super) fn new(name: String, plan: TalkPlan, voices: Voices, owner: Owner, dice: Dice) -> Self {
        let state = State::Waiting { until: plan.start };
        Self { name, plan, voices, owner, dice, state, outcome: None }
    }

    /// What became of the call and when, once it is over.
    pub(super) const fn outcome(&self) -> Option<(Time, Outcome)> {
        self.outcome
    }

    /// What it did with its stream, if it got one.
    pub(super) const fn account(&self) -> Option<&Account> {
        match &self.state {
            State::Speaking(speaker) => Some(&speaker.account),
            State::Waiting { .. }
            | State::Dialing(_)
            | State::Asking(..)
            | State::Leaving(..)
            | State::Over => None,
        }
    }

    /// How many bytes of the stream it has sent, even if it has no stream yet.
    pub(super) fn sent(&self) -> u64 {
        match &self.state {
            State::Asking(_, handshake) => handshake.early_sent(),
            State::Speaking(speaker) => speaker.account.sent,
            State::Waiting { .. } | State::Dialing(_) | State::Leaving(..) | State::Over => 0,
        }
    }

    pub(super) fn wake(&self, now: Time) -> Option<Time> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Asking(_, handshake) => handshake.wake(now),
            State::Speaking(speaker) => speaker.wake(now),
            State::Dialing(_) | State::Leaving(..) | State::Over => None,
        }
    }

    /// Does all that can be done now. `sent_by_target`: how much of the stream can have come back.
    pub(super) fn run(&mut self, sent_by_target: u64, proxy_is_gone: bool, scene: &mut Scene<'_>) -> Verdict {
        while self.step(sent_by_target, proxy_is_gone, scene)? {}
        Ok(())
    }

    /// Returns whether there may be more to do.
    fn step(
        &mut self,
        sent_by_target: u64,
        proxy_is_gone: bool,
        scene: &mut Scene<'_>,
    ) -> Result<bool, crate::sim::check::Violation> {
        match &mut self.state {
            State::Over => Ok(false),
            State::Waiting { until } if *until > scene.now => Ok(false),
            State::Waiting { .. } if proxy_is_gone || scene.now > self.plan.start + PATIENCE => {
                Ok(self.end(Outcome::NoProxy, scene))
            }
            State::Waiting { .. } => {
                let (from, to) = (self.plan.caller_address(), self.plan.proxy());
                self.state = State::Dialing(scene.net.connect(self.owner, from, to));
                Ok(true)
            }
            State::Dialing(end) => {
                let end = *end;
                match scene.net.dial_state(end) {
                    DialState::Pending => return Ok(false),
                    DialState::Open => self.state = self.greet(end, scene.now),
                    DialState::Failed(_) => {
                        scene.net.release(end);
                        self.state = State::Waiting { until: scene.now + RETRY };
                    }
                }
                Ok(true)
            }
            State::Asking(end, handshake) => {
                let end = *end;
                let progress = handshake.run(end, &mut self.dice, scene);
                let asked = handshake.has_asked();
                let (sent, finished) = (handshake.early_sent(), handshake.finished);
                match progress {
                    _ if handshake.is_abandoned() => {
                        scene.net.release(end);
                        Ok(self.end(Outcome::Abandoned, scene))
                    }
                    Ok(Progress::Pending) => Ok(false),
                    Ok(Progress::Answered(answer)) => {
                        scene.note(&self.name, format_args!("is answered {answer:?}"));
                        self.state = if answer == Answer::Reply(0) {
                            self.speak(end, Account { sent, finished, ..Account::default() }, scene.now)
                        } else {
                            State::Leaving(end, answer)
                        };
                        Ok(true)
                    }
                    Err(_) => {
                        scene.net.release(end);
                        Ok(self.end(Outcome::Unanswered { asked }, scene))
                    }
                }
            }
            State::Speaking(speaker) => {
                speaker.run(sent_by_target, scene)?;
                if speaker.has_left() {
                    self.outcome.get_or_insert((scene.now, Outcome::Spoke));
                }
                Ok(false)
            }
            State::Leaving(end, answer) => {
                let (end, answer) = (*end, *answer);
                match scene.net.read(end, 1) {
                    Ok(Read::Pending) => Ok(false),
                    Ok(Read::Eof) | Err(_) => {
                        scene.net.release(end);
                        Ok(self.end(Outcome::Refused(answer), scene))
                    }
                    Ok(Read::Data(_)) => {
                        require(false, "each request gets exactly one reply", || {
                            format!("{} was refused and received more", self.name)
                        })?;
                        Ok(false)
                    }
                }
            }
        }
    }

    fn greet(&self, end: EndId, now: Time) -> State {
        match &self.plan.way {
            Way::Socks(socks) => {
                let target = self.plan.destination.target.clone();
                let early = self.early(socks);
                let script = &self.plan.caller;
                let finishes = script.ending == Ending::Finish
                    && script.mishap.is_none()
                    && script.begin == Begin::AtOnce
                    && early.len() as u64 == script.send;
                let handshake =
                    Handshake::new(socks.clone(), target, &early, socks.pipelined && finishes, now);
                State::Asking(end, Box::new(handshake))
            }
            Way::Command => self.speak(end, Account::default(), now),
        }
    }

    /// What goes out behind the request.
    fn early(&self, socks: &SocksPlan) -> Bytes {
        let early = match self.plan.caller.begin {
            Begin::AtOnce if socks.pipelined => self.plan.caller.send.min(EARLY),
            Begin::AtOnce | Begin::AfterReceiving(_) | Begin::AfterEof => 0,
        };
        self.voices.own.bytes(0, early as usize)
    }

    /// `account`: what it has sent before it had a stream.
    fn speak(&self, end: EndId, account: Account, now: Time) -> State {
        let script = self.plan.caller.clone();
        State::Speaking(Box::new(Speaker::new(self.name.clone(), end, script, self.voices, account, now)))
    }

    fn end(&mut self, outcome: Outcome, scene: &mut Scene<'_>) -> bool {
        scene.note(&self.name, format_args!("is done: {outcome:?}"));
        self.outcome = Some((scene.now, outcome));
        self.state = State::Over;
        false
    }
}
