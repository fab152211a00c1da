//! Conversations come to a good end unless something went wrong from outside. Without this rule an
//! engine that resets everything would pass all others.

use std::time::Duration;

use super::{Verdict, require};
use crate::sim::app::plan::Way;
use crate::sim::app::{Dialler, Outcome, SocksRequest, Talk};
use crate::sim::clock::Time;
use crate::sim::model::{Account, Heard, Left, Span};
use crate::sim::scenario::EntryPlan;

const RULE: &str = "nothing fails without a cause";

/// How long a fault may be felt after it is over: a dead link is noticed after a minute, attempts
/// to connect again are up to 72 s apart, and each may take 45 s.
const ECHO: Duration = Duration::from_secs(180);

/// What went wrong from outside for those who come in at one door.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disturbances {
    spans: Vec<Span>,
    /// Cuts that streams must survive.
    cuts: Vec<Span>,
    /// What went wrong for one of several hosts that connect to targets.
    diallers: Vec<(usize, Span)>,
}

impl Disturbances {
    /// Something went wrong at `from`, for `length`.
    pub(crate) fn enter(&mut self, from: Time, length: Duration) {
        self.spans.push(Span::new(from, length + ECHO));
    }

    /// A link with a session was cut: who waits for a channel may wait too long. After too many cuts
    /// in a row the client may be away for too long.
    pub(crate) fn enter_cut(&mut self, at: Time) {
        const MANY: usize = 3;
        const ROW: Duration = Duration::from_secs(30);
        if self.cuts.iter().filter(|cut| cut.from + ROW > at).count() + 1 >= MANY {
            self.enter(at, Duration::ZERO);
        }
        self.cuts.push(Span::new(at, ECHO));
    }

    /// Something went wrong for a host that connects to targets.
    pub(crate) fn enter_dialler(&mut self, host: usize, from: Time, length: Duration) {
        self.diallers.push((host, Span::new(from, length + ECHO)));
    }

    /// Whether something went wrong for everybody.
    pub(crate) fn touch(&self, span: &Span) -> bool {
        self.spans.iter().any(|disturbance| disturbance.overlaps(span))
    }

    fn touch_dialler(&self, dialler: Dialler, span: &Span) -> bool {
        self.diallers.iter().any(|(host, disturbance)| *host == dialler.host && disturbance.overlaps(span))
    }

    fn delay(&self, span: &Span) -> bool {
        self.cuts.iter().any(|cut| cut.overlaps(span))
    }
}

/// Judges a conversation that is over. `ready`: before, there was nobody to ask.
pub(crate) fn served_unless_provoked(
    talk: &Talk,
    entry: &EntryPlan,
    disturbances: &Disturbances,
    ready: Time,
) -> Verdict {
    let reachable = !talk.plan.destination.alive.is_empty() && talk.plan.is_welcome(entry.asks_for_login);
    let proper = match &talk.plan.way {
        Way::Socks(plan) => plan.request == SocksRequest::Connect && plan.abandons_after.is_none(),
        Way::Command => true,
    };
    let span = talk.span();
    if !reachable || !proper || disturbances.touch(&span) {
        return Ok(());
    }
    // Where one of several hosts fails, others are asked. What it had taken over fails with it, and so
    // may what has been sent to it already.
    let is_hit = |dialler: &Dialler| disturbances.touch_dialler(*dialler, &span);
    let is_lost =
        talk.diallers().iter().all(is_hit) || talk.connections().any(|(_, dialler)| is_hit(&dialler));
    if is_lost || entry.fast_open && talk.diallers().iter().any(is_hit) {
        return Ok(());
    }
    let fail = |what: &str| format!("{what}: {talk}");
    let (Some(Outcome::Spoke), Some(caller)) = (talk.outcome(), talk.caller()) else {
        if disturbances.delay(&span) || span.from < ready {
            return Ok(());
        }
        return require(talk.targets().any(left_too_soon), RULE, || fail("the request was not served"));
    };
    // Of several raced connections one carries the conversation.
    let ended_well = left_too_soon(caller)
        || talk.connections().any(|(target, dialler)| {
            left_too_soon(target)
                || !dialler.finish && may_be_cut(talk, caller, target)
                || is_complete(caller, target)
        });
    require(ended_well, RULE, || fail("a stream was not completed"))
}

/// The application did not wait for the end of the other side.
fn left_too_soon(account: &Account) -> bool {
    account.has_left(Left::Early) || account.has_left(Left::Abruptly)
}

/// The old wire ends both directions at once: a conversation is only safe if one side has sent
/// everything, and the other has received it, before that other one finishes.
fn may_be_cut(talk: &Talk, caller: &Account, target: &Account) -> bool {
    let asked_first = target.received == talk.plan.caller.send
        && caller.finished.is_none_or(|at| caller.heard.is_some_and(|(heard, _)| heard <= at));
    !asked_first
}

fn is_complete(caller: &Account, target: &Account) -> bool {
    let whole = |receiver: &Account, sender: &Account| {
        receiver.has_heard(Heard::Eof) && sender.finished.is_some() && receiver.received == sender.sent
    };
    whole(caller, target) && whole(target, caller)
}
