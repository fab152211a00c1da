//! The part of an engine's work that is the same whatever its role.

use std::time::Instant;

use super::{EngineTimer, Notice, Relay};
use crate::ids::LinkId;
use crate::io::{Input, Output};
use crate::link::LinkPhase;
use crate::wire::Message;

/// What an engine decides, on top of its relay.
pub(crate) trait Role {
    fn relay(&mut self) -> &mut Relay;

    /// Acts on an input that the relay leaves to it.
    fn apply(&mut self, input: Input);

    /// Acts on a message of a link that is not authenticated.
    fn on_login_message(&mut self, link: LinkId, message: Message);

    /// Acts on one of its own deadlines.
    fn on_timer(&mut self, timer: EngineTimer);

    /// Takes up what the relay has left to decide.
    fn on_notice(&mut self, notice: Notice);
}

/// Applies one input: deadlines that are due first, then the input, each followed by the decisions
/// that it brings up, and those that are due at once.
pub(crate) fn handle_input(role: &mut impl Role, now: Instant, input: Input) {
    role.relay().advance(now);
    fire(role);
    if !role.relay().is_stopped() {
        apply(role, input);
        settle(role);
        fire(role);
        role.relay().tell_limits();
    }
}

/// Acts on deadlines that have come.
fn fire(role: &mut impl Role) {
    while let Some(due) = role.relay().next_due() {
        if let Some(timer) = role.relay().on_timer(due) {
            role.on_timer(timer);
        }
        settle(role);
    }
}

fn apply(role: &mut impl Role, input: Input) {
    if let Input::LinkReceived { link, message } = input {
        receive(role, link, message);
    } else if let Some(input) = role.relay().apply(input) {
        role.apply(input);
    }
}

fn receive(role: &mut impl Role, link: LinkId, message: bytes::Bytes) {
    let raw = message.clone();
    match role.relay().receive(link, message) {
        None => {}
        Some((LinkPhase::Ready, message)) => role.relay().on_message(link, message, &raw),
        Some((LinkPhase::AwaitingHello | LinkPhase::Resuming, message)) => {
            role.relay().on_hello(link, &message);
        }
        Some((
            LinkPhase::Opening
            | LinkPhase::Authenticating
            | LinkPhase::Suspended
            | LinkPhase::Closing
            | LinkPhase::Closed,
            message,
        )) => role.on_login_message(link, message),
    }
    role.relay().grant_receive(link);
}

/// Returns the next effect. Sending may have given the HTTP proxy something to do.
pub(crate) fn poll_output(role: &mut impl Role) -> Output {
    loop {
        let output = role.relay().poll_output();
        if !(matches!(output, Output::Timeout(_)) && role.relay().has_http_work()) {
            return output;
        }
        settle(role);
    }
}

fn settle(role: &mut impl Role) {
    loop {
        role.relay().do_http_work();
        let Some(notice) = role.relay().notices.pop_front() else { break };
        role.on_notice(notice);
    }
    role.relay().advance_shutdown();
}
