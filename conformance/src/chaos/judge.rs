//! Whether what a stream came to is right.

use super::fault::{Excuse, Excuses};
use super::script::{Kind, Role};
use super::stream::{End, Refusal, SideRecord, Stream};

/// What a stream came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// Every byte both ways, and both ends.
    Complete,
    /// Reset by one of its own ends, as its script says.
    Aborted,
    /// Refused, as its script says.
    Refused,
    /// Broken by a fault that may do so.
    Broken,
    /// Against the rules.
    Failed,
}

impl Outcome {
    pub(super) const ALL: [Self; 5] =
        [Self::Complete, Self::Aborted, Self::Refused, Self::Broken, Self::Failed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Failed => "failed",
        }
    }
}

/// What is asked of the programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A reset reaches the other end, and never as a regular end, whatever happens; only between our own programs.
    pub(super) exact_ends: bool,
}

/// All that is known of a stream that is over.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) app: SideRecord,
    pub(super) target: SideRecord,
    pub(super) given_up: Option<String>,
}

impl Record {
    pub(super) fn of(stream: &Stream) -> Self {
        Self {
            kind: stream.script.kind,
            app: stream.side(Role::App).record(),
            target: stream.side(Role::Target).record(),
            given_up: stream.given_up(),
        }
    }

    fn side(&self, role: Role) -> &SideRecord {
        match role {
            Role::App => &self.app,
            Role::Target => &self.target,
        }
    }

    /// # Errors
    /// What is wrong.
    pub(super) fn judge(&self, rules: Rules, excuses: Excuses) -> Result<Outcome, String> {
        let excuse = excuses.excuse;
        let forgotten = !rules.exact_ends && (self.is_aborted() || excuse == Excuse::Everything);
        if let Some(reason) = self.given_up.as_ref().filter(|_| !forgotten) {
            return Err(reason.clone());
        }
        let mut broken = false;
        for receiver in Role::BOTH {
            self.check_bytes(receiver)?;
            let exact = rules.exact_ends || (excuse < Excuse::Everything && !self.is_aborted());
            let truncated = self.check_end(receiver);
            if exact && !excuses.is_cut_short(receiver) {
                truncated?;
            } else if truncated.is_err() {
                broken = true;
            }
        }
        if let Some(End::NotOpened(refusal)) = &self.app.end {
            return self.judge_refusal(refusal, excuse);
        }
        if self.kind == Kind::Refused {
            return Err("connected to a target that does not listen".to_owned());
        }
        if self.is_aborted() {
            return Ok(Outcome::Aborted);
        }
        match Role::BOTH.into_iter().find_map(|role| self.bad_end(role)) {
            None if broken => Ok(Outcome::Broken),
            None => Ok(Outcome::Complete),
            Some(_) if excuse == Excuse::Everything => Ok(Outcome::Broken),
            Some(problem) => Err(problem),
        }
    }

    /// Nobody receives anything else, or more, than what was sent.
    fn check_bytes(&self, receiver: Role) -> Result<(), String> {
        let (receiving, sending) = (self.side(receiver), self.side(receiver.other()));
        if let Some(End::Wrong(problem)) = &receiving.end {
            return Err(format!("the {} received {problem}", receiver.name()));
        }
        if receiving.received > sending.sent {
            return Err(format!(
                "the {} received {} bytes, of which only {} were sent",
                receiver.name(),
                receiving.received,
                sending.sent
            ));
        }
        Ok(())
    }

    /// A regular end comes after everything, and only if it was sent.
    fn check_end(&self, receiver: Role) -> Result<(), String> {
        let (receiving, sending) = (self.side(receiver), self.side(receiver.other()));
        if receiving.eof && (!sending.finished || receiving.received != sending.sent) {
            let sent = if sending.finished { "" } else { ", whose sender had not ended" };
            return Err(format!(
                "the {} saw a regular end after {} of {} bytes{sent}",
                receiver.name(),
                receiving.received,
                sending.sent
            ));
        }
        Ok(())
    }

    fn judge_refusal(&self, refusal: &Refusal, excuse: Excuse) -> Result<Outcome, String> {
        match refusal {
            Refusal::Target if self.kind == Kind::Refused => Ok(Outcome::Refused),
            _ if excuse >= Excuse::Opening => Ok(Outcome::Broken),
            Refusal::Target => Err("refused, although its target listens".to_owned()),
            Refusal::Other(problem) => Err(format!("could not be opened: {problem}")),
        }
    }

    fn is_aborted(&self) -> bool {
        Role::BOTH.into_iter().any(|role| self.side(role).end == Some(End::Aborted))
    }

    fn bad_end(&self, role: Role) -> Option<String> {
        let name = role.name();
        match &self.side(role).end {
            Some(End::Clean) => None,
            Some(End::Reset(problem)) => Some(format!("the {name} was reset: {problem}")),
            Some(end) => Some(format!("the {name} ended as {end:?}")),
            None => Some(format!("the {name} never ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Rules = Rules { exact_ends: true };
    const OTHERS: Rules = Rules { exact_ends: false };
    const NONE: Excuses = Excuses::NONE;
    const OPENING: Excuses = Excuses { excuse: Excuse::Opening, ..NONE };
    const EVERYTHING: Excuses = Excuses { excuse: Excuse::Everything, ..NONE };

    /// A side that has sent and received 10 bytes.
    fn side(end: End) -> SideRecord {
        SideRecord { sent: 10, finished: true, received: 10, eof: true, end: Some(end) }
    }

    fn whole() -> Record {
        Record { kind: Kind::Duplex, app: side(End::Clean), target: side(End::Clean), given_up: None }
    }

    fn reset() -> End {
        End::Reset("connection reset".to_owned())
    }

    #[test]
    fn a_whole_stream_is_complete() {
        assert_eq!(whole().judge(OURS, NONE), Ok(Outcome::Complete));
    }

    #[test]
    fn wrong_bytes_have_no_excuse() {
        let mut record = whole();
        record.target = side(End::Wrong("wrong bytes".to_owned()));
        assert!(record.judge(OTHERS, EVERYTHING).is_err());
    }

    #[test]
    fn bytes_that_nobody_sent_have_no_excuse() {
        let mut record = whole();
        record.app.received = 11;
        record.app.eof = false;
        assert!(record.judge(OTHERS, EVERYTHING).is_err());
    }

    #[test]
    fn a_truncated_stream_with_a_regular_end_has_no_excuse_between_our_own() {
        let mut record = whole();
        record.app = SideRecord { received: 9, ..side(End::Clean) };
        assert!(record.judge(OURS, EVERYTHING).is_err());
        assert_eq!(
            record.judge(OTHERS, EVERYTHING),
            Ok(Outcome::Broken),
            "others do that when a link is lost"
        );
        assert!(record.judge(OTHERS, NONE).is_err());
    }

    #[test]
    fn the_kernel_ends_the_streams_of_a_killed_process() {
        let mut record = whole();
        record.app = SideRecord { received: 9, ..side(End::Clean) };
        let killed = Excuses { app_cut_short: true, ..EVERYTHING };
        assert_eq!(record.judge(OURS, killed), Ok(Outcome::Broken));
        let elsewhere = Excuses { target_cut_short: true, ..EVERYTHING };
        assert!(record.judge(OURS, elsewhere).is_err());
    }

    #[test]
    fn an_end_that_was_not_sent_has_no_excuse() {
        let mut record = whole();
        record.target = SideRecord { finished: false, ..side(End::Aborted) };
        assert!(record.judge(OURS, EVERYTHING).is_err());
    }

    #[test]
    fn a_reset_needs_a_fault() {
        let mut record = whole();
        record.app = SideRecord { received: 9, eof: false, ..side(reset()) };
        assert!(record.judge(OURS, NONE).is_err());
        assert!(record.judge(OURS, OPENING).is_err(), "it was open already");
        assert_eq!(record.judge(OURS, EVERYTHING), Ok(Outcome::Broken));
    }

    #[test]
    fn a_reset_by_script_is_no_failure() {
        let mut record = whole();
        record.app = SideRecord { received: 9, eof: false, ..side(End::Aborted) };
        record.target = SideRecord { received: 3, eof: false, ..side(reset()) };
        assert_eq!(record.judge(OURS, NONE), Ok(Outcome::Aborted));
    }

    #[test]
    fn a_refused_target_is_refused_as_such() {
        let refused = |refusal| {
            let mut record = whole();
            record.kind = Kind::Refused;
            record.app = SideRecord { end: Some(End::NotOpened(refusal)), ..SideRecord::default() };
            record.target = SideRecord::default();
            record
        };
        let other = || Refusal::Other("timeout".to_owned());
        assert_eq!(refused(Refusal::Target).judge(OURS, NONE), Ok(Outcome::Refused));
        assert!(refused(other()).judge(OURS, NONE).is_err());
        assert_eq!(refused(other()).judge(OURS, OPENING), Ok(Outcome::Broken));

        let mut record = whole();
        record.kind = Kind::Refused;
        assert!(record.judge(OURS, EVERYTHING).is_err(), "connected to nobody");
        let mut record = refused(Refusal::Target);
        record.kind = Kind::Request;
        assert!(record.judge(OURS, NONE).is_err(), "its target listens");
    }

    #[test]
    fn a_stream_that_the_watch_gave_up_has_no_excuse_between_our_own() {
        let mut record = whole();
        record.given_up = Some("stuck".to_owned());
        record.target.end = Some(End::GivenUp);
        assert!(record.judge(OURS, EVERYTHING).is_err());
        assert!(record.judge(OTHERS, OPENING).is_err());
        assert_eq!(record.judge(OTHERS, EVERYTHING), Ok(Outcome::Broken));
        record.app.end = Some(End::Aborted);
        assert!(record.judge(OURS, EVERYTHING).is_err(), "the target was not told");
        assert_eq!(record.judge(OTHERS, NONE), Ok(Outcome::Aborted));
    }

    #[test]
    fn an_application_without_a_target_is_not_complete() {
        let mut record = whole();
        record.app = SideRecord { received: 0, sent: 0, ..side(End::Clean) };
        record.target = SideRecord::default();
        assert!(record.judge(OURS, NONE).is_err());
    }
}
