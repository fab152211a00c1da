//! Each SOCKS request gets exactly one reply, and the right one.

use linksocks_sansio::config::Timeouts;

use super::{Verdict, require};
use crate::sim::app::plan::Way;
use crate::sim::app::{Answer, Outcome, SocksRequest, Talk};

const RULE: &str = "each request gets exactly one reply";

/// Judges a conversation that is over. `asks_for_login`: whether its client is configured so.
/// `may_drop`: whether the client had reason to drop the connection without an answer (it stopped,
/// or a limit on connections was reached). `fast_open`: whether it says yes before it knows.
pub(crate) fn answered_once(talk: &Talk, asks_for_login: bool, may_drop: bool, fast_open: bool) -> Verdict {
    let Way::Socks(plan) = &talk.plan.way else { return Ok(()) };
    let fail = |what: String| Err(super::Violation { rule: RULE, details: format!("{what}: {talk}") });
    let connected = fast_open || talk.targets().next().is_some();
    let Some(outcome) = talk.outcome() else { return Ok(()) };
    let answer = match outcome {
        Outcome::Abandoned | Outcome::NoProxy => return Ok(()),
        Outcome::Unanswered { .. } if may_drop => return Ok(()),
        // The request took too long; for a machine that has slept, even a quick one may have.
        Outcome::Unanswered { .. } if talk.span().length() >= Timeouts::default().socks_handshake => {
            return Ok(());
        }
        // The answer was yes, and the RST that followed destroyed it before it was read.
        Outcome::Unanswered { .. } if connected => return Ok(()),
        Outcome::Unanswered { .. } => return fail("there was no answer".to_owned()),
        Outcome::Refused(answer) => answer,
        Outcome::Spoke => Answer::Reply(0),
    };
    let offers = |method| plan.methods.contains(&method);
    let fine = match answer {
        Answer::NoMethod => !offers(if asks_for_login { 2 } else { 0 }),
        Answer::LoginRefused => asks_for_login && !talk.plan.is_welcome(asks_for_login),
        Answer::Reply(_) if !talk.plan.is_welcome(asks_for_login) => false,
        Answer::Reply(code) => match (plan.request, code) {
            (SocksRequest::Bind, code) => code == 7,
            (SocksRequest::UnknownAddressType, code) => code == 8,
            (SocksRequest::Connect, 0) => connected,
            // No link; the target can't be reached; a limit is reached.
            (SocksRequest::Connect, code) => matches!(code, 3 | 4) || code == 1 && may_drop,
        },
    };
    require(fine, RULE, || format!("the wrong answer {answer:?}: {talk}"))
}
