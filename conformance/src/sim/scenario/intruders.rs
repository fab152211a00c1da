//! Malicious peers: some runs have them.

use std::time::Duration;

use linksocks_sansio::wire::Auth;
use linksocks_sansio::{InstanceId, Token};
use uuid::Uuid;

use super::peers::token;
use super::{HEALED, Shape};
use crate::sim::app::intruder::{IntruderPlan, Role};
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::source::Source;

/// `guises`: what they pretend to be. There are some if `source` has messages for them.
pub(super) fn draw(shape: Shape, source: &Source, dice: &mut Dice, guises: &mut Dice) -> Vec<IntruderPlan> {
    if shape.impostor {
        return vec![plan(0, Time::ZERO, HEALED, Role::Server, shape, source, dice)];
    }
    let count = if dice.chance(25) || source.has_messages() { dice.between(1, 4) } else { 0 };
    (0..count as usize)
        .map(|id| {
            let start = Time::ZERO + dice.duration(Duration::from_millis(1), HEALED.since_start());
            let end = (start + dice.duration(Duration::from_millis(10), HEALED.since_start())).min(HEALED);
            let role = client(dice);
            let mut plan = plan(id, start, end, role, shape, source, dice);
            if let Some((token, reverse)) = shape.mode.foreign_token(guises) {
                disguise(&mut plan.role, token, reverse, guises);
            }
            plan.tokens = shape.mode.honest_tokens();
            plan
        })
        .collect()
}

fn plan(
    id: usize,
    start: Time,
    end: Time,
    role: Role,
    shape: Shape,
    source: &Source,
    dice: &mut Dice,
) -> IntruderPlan {
    // At most some thousand messages.
    let most = shape.size.most(3000) as u32;
    let pause = dice.duration(Duration::from_millis(1), Duration::from_secs(1)).max((end - start) / most);
    IntruderPlan {
        id,
        start,
        end,
        role,
        pause,
        reads: dice.chance(80),
        lingers: dice.chance(30),
        tokens: Vec::new(),
        messages: source.messages(id),
    }
}

fn client(dice: &mut Dice) -> Role {
    let extensions = match dice.below(4) {
        0 => None,
        1 => Some("session, , window;finish".to_owned()),
        2 => Some("window, finish".to_owned()),
        _ => Some("window, finish, session".to_owned()),
    };
    let known = token(!dice.chance(15));
    let (path_and_query, first) = match dice.below(6) {
        0 => ((*dice.pick(&["/nowhere", "/", "/api/status", "/api/token"])).to_owned(), None),
        1 => ("/socket".to_owned(), None),
        2 => ("/socket/".to_owned(), Some(auth(known, false))),
        _ => (login(&known, false), None),
    };
    Role::Client { path_and_query, extensions, first }
}

/// Makes a connector or provider of a client.
fn disguise(role: &mut Role, token: Token, reverse: bool, dice: &mut Dice) {
    let Role::Client { path_and_query, first, .. } = role else { return };
    (*path_and_query, *first) = match dice.chance(25) {
        true => ("/socket/".to_owned(), Some(auth(token, reverse))),
        false => (login(&token, reverse), None),
    };
}

fn login(token: &Token, reverse: bool) -> String {
    format!("/socket?reverse={reverse}&token={}", token.digest().to_hex())
}

fn auth(token: Token, reverse: bool) -> bytes::Bytes {
    Auth { token, reverse, instance: InstanceId(Uuid::nil()) }.encode()
}
