//! Each ticket is answered exactly once, by an answer of its kind.
//!
//! Only an engine that has stopped answers nothing more: what it was offered between its last words
//! and the drain that told of them goes down with everything else.

use std::collections::{BTreeMap, BTreeSet};

use linksocks_sansio::{Action, Command, Input, Output, Ticket};

use super::{Verdict, require};

const RULE: &str = "each ticket is answered exactly once";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Link,
    Page,
    Socket,
    Datagrams,
    Token,
}

/// The tickets that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    open: BTreeMap<Ticket, Offer>,
    /// Those offered since the last drain.
    fresh: BTreeSet<Ticket>,
}

impl Tickets {
    pub(super) fn input(&mut self, input: &Input) {
        if let Input::LinkOffered { ticket, .. } = input {
            self.open.insert(*ticket, Offer::Link);
            self.fresh.insert(*ticket);
        }
        if let Input::HttpRequest { ticket, .. } = input {
            self.open.insert(*ticket, Offer::Page);
            self.fresh.insert(*ticket);
        }
        if let Input::Command(Command::AddToken { ticket, .. } | Command::RemoveToken { ticket, .. }) = input
        {
            self.open.insert(*ticket, Offer::Token);
            self.fresh.insert(*ticket);
        }
        if let Input::Command(Command::Associate { ticket }) = input {
            self.open.insert(*ticket, Offer::Datagrams);
            self.fresh.insert(*ticket);
        }
        if let Input::SocketAccepted { ticket, .. } | Input::Command(Command::Open { ticket, .. }) = input {
            self.open.insert(*ticket, Offer::Socket);
            self.fresh.insert(*ticket);
        }
    }

    pub(super) fn output(&mut self, output: &Output) -> Verdict {
        if let Output::Timeout(_) = output {
            self.fresh.clear();
        }
        let Output::Action(action) = output else { return Ok(()) };
        if let Action::AcceptLink { ticket, .. } | Action::RejectLink { ticket, .. } = action {
            self.answer(*ticket, Offer::Link)?;
        }
        if let Action::HttpResponse { ticket, .. } = action {
            self.answer(*ticket, Offer::Page)?;
        }
        if let Action::AnswerToken { ticket, .. } = action {
            self.answer(*ticket, Offer::Token)?;
        }
        if let Action::AdoptSocket { ticket, .. } = action {
            self.answer(*ticket, Offer::Socket)?;
        }
        if let Action::AdoptDatagrams { ticket, .. } = action {
            self.answer(*ticket, Offer::Datagrams)?;
        }
        if let Action::Refuse { ticket, .. } = action {
            let kind = self.open.get(ticket).copied().filter(|offer| *offer == Offer::Datagrams);
            self.answer(*ticket, kind.unwrap_or(Offer::Socket))?;
        }
        if let Action::Stop { .. } = action {
            self.open.retain(|ticket, _| !self.fresh.contains(ticket));
            self.idle()?;
        }
        Ok(())
    }

    pub(super) fn idle(&self) -> Verdict {
        require(self.open.is_empty(), RULE, || format!("unanswered: {:?}", self.open))
    }

    fn answer(&mut self, ticket: Ticket, kind: Offer) -> Verdict {
        let offer = self.open.remove(&ticket);
        require(offer == Some(kind), RULE, || format!("{ticket:?} was {offer:?}, the answer is for {kind:?}"))
    }
}
